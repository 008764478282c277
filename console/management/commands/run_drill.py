from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from backups import drilling
from backups.models import Drill
from console.runtime.lifeline import die_with_parent


class Command(BaseCommand):
    """The child process of held work: it lives and dies with the worker that claimed the drill."""

    help = "Run one claimed drill (called by a worker, not by people)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("drill", type=int)
        parser.add_argument("fence", type=int)

    def handle(self, *args: Any, drill: int, fence: int, **options: Any) -> None:
        die_with_parent()
        rows = Drill.objects.select_related("instance__region", "store__region")
        row = rows.filter(pk=drill, fence=fence, state=Drill.State.RUNNING).first()
        if row:
            drilling.run(row)
