"""A restore's own page: its stages while it runs, how to reach the new server afterwards, or why there is none."""

from __future__ import annotations

from datetime import datetime
from shlex import quote
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from backups import access, events, restoring
from backups.engines import engine_of
from backups.models import Restore, Role
from console.restores.looks import is_starting_again, moment_of, state_of, wish_of
from console.restores.plan import steps_of
from console.restores.stages import seconds_outside, seconds_taken, stages_of
from console.widgets.acting import acting
from console.widgets.addresses import restoring as restoring_again
from console.widgets.polling import QUICK, SLOW, Poll
from regions import clock
from regions.refusals import Refusal

ROWS_SHOWN = 12
EVENTS_SHOWN = 30
PASSWORD_SHOWN = "restore.password_shown"


def page(request: HttpRequest, code: str) -> HttpResponse:
    return _page(request, access.restore_for(request.user, code))


def progress(request: HttpRequest, code: str) -> HttpResponse:
    """Answer the page's one poller: the stages while they run, the whole of it when the state is another."""
    restore = access.restore_for(request.user, code)
    shown = _shown(request, restore) | {"is_other": request.GET.get("newest") != _standing(restore, clock.now())}
    return render(request, "restores/_progress.html", shown)


@require_POST
@never_cache
def password(request: HttpRequest, code: str) -> HttpResponse:
    """Show the new server's password once more to who may operate it, and write down that it was shown (I18)."""
    restore = access.restore_for(request.user, code, Role.OPERATOR)
    shown = ""
    if restore.state == Restore.State.READY and restore.sealed_password:
        shown = restoring.password_of(restore)
        sentence = f"The password of {restore.name}, restored from {restore.instance.name}, was shown."
        events.record(PASSWORD_SHOWN, sentence, by=acting(request), instance=restore.instance, restore=restore.code)
    if request.htmx.target == "password":
        return render(request, "restores/_password.html", {"restore": restore, "password": shown, "may_operate": True})
    return _page(request, restore, password=shown)


def _page(request: HttpRequest, restore: Restore, **more: Any) -> HttpResponse:
    happened = restore.instance.events.filter(kind__startswith="restore.", data__restore=restore.code)
    shown = _shown(request, restore) | {"events": happened.order_by("-pk")[:EVENTS_SHOWN]} | more
    return render(request, "restores/page.html", shown)


def _shown(request: HttpRequest, restore: Restore) -> dict[str, Any]:
    at = clock.now()
    rows = sorted(restore.rows.items())
    steps = steps_of(restore.sources.select_related("set", "copy").prefetch_related("set__files"))
    has_logs = any(step.is_logs for step in steps)
    return {
        "restore": restore,
        "state": state_of(restore, at),
        "moment": moment_of(restore, has_logs),
        "wish": wish_of(restore, has_logs),
        "stages": stages_of(restore, at),
        "seconds": seconds_taken(restore),
        "outside_stages": seconds_outside(restore),
        "client": _client_of(restore),
        "is_starting_again": is_starting_again(restore, at),
        "rows": rows[:ROWS_SHOWN],
        "more_rows": rows[ROWS_SHOWN:],
        "row_count": sum(count for _, count in rows),
        "steps": steps,
        "may_operate": access.may_operate(request.user, restore.instance),
        "why_not_agree": _why_not_agree(request, restore),
        "aside": kept_aside(restore),
        "may_write_off": bool(restore.landed_as) and restoring.why_not_write_off(restore) is None,
        "again": _again(restore, has_logs),
        "poll": _poll(restore, at),
    }


def _client_of(restore: Restore) -> str:
    """Return what is typed into a shell to reach the new server, "" where the engine knows no such program."""
    reached = {"host": restore.host, "port": str(restore.port), "username": restore.username}
    client = engine_of(restore.instance.engine).capabilities.client
    return client.format(**{name: quote(said) for name, said in reached.items()})


def _why_not_agree(request: HttpRequest, restore: Restore) -> Refusal | None:
    if restore.state != Restore.State.WAITING:
        return None
    return restoring.why_not_agree(restore, acting(request))


def kept_aside(restore: Restore) -> Restore | None:
    """Return what this restore has replaced and a person may still want back."""
    return restore.made_room.filter(state=Restore.State.ASIDE, cancel_asked_at=None).first()


def _again(restore: Restore, has_logs: bool) -> str:
    """Return where the same is asked for again: the moment, the newest one, or the set."""
    by_set = restore.set_id if not has_logs and restore.until is None else None
    return restoring_again(restore.instance.code, until=restore.until, set=by_set)


def _poll(restore: Restore, at: datetime) -> Poll | None:
    """Return the page's poller; what has ended for good is not asked for again."""
    if restore.state not in (*Restore.PENDING, *Restore.STANDING):
        return None
    path = reverse("restores:follow", args=[restore.code])
    return Poll(path, (), _standing(restore, at), QUICK if restore.state in Restore.ACTIVE else SLOW)


def _standing(restore: Restore, at: datetime) -> str:
    """Return what the page has to be drawn anew for when it changes."""
    again = "again" if is_starting_again(restore, at) else ""
    changing = bool(restore.makes_room_for_id), kept_aside(restore) is not None, bool(restore.cancel_asked_at)
    return f"{restore.state}{again}{''.join(str(int(one)) for one in changing)}{restore.attempts}"
