"""What a supervisor or load balancer asks: is the process there, and can it do its work?"""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse


@login_not_required
def alive(request: HttpRequest) -> HttpResponse:
    """Say that the web answers; it asks nothing of the database, so a monitor cannot wear it out."""
    return HttpResponse("ok\n", content_type="text/plain")


@login_not_required
def ready(request: HttpRequest) -> HttpResponse:
    """Say whether the database answers and has the tables this version knows; the broker is only a hint."""
    why = why_not_ready()
    return HttpResponse(f"{why or 'ready'}\n", status=503 if why else 200, content_type="text/plain")


def why_not_ready() -> str:
    try:
        executor = MigrationExecutor(connection)
        waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError:
        return "the database does not answer"
    return "the database waits for its migrations" if waiting else ""
