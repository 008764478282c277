"""The one poller of a page that shows copies: it brings their cells anew, and says when the list itself is old."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlencode

from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django_htmx.http import trigger_client_event

from backups.models import BackupJob, BackupSet, Copy
from console.widgets.addresses import row_numbers
from console.widgets.progress import MOVING, progress_of, state_of
from regions import clock

MOST_POLLED = 100
QUICK, SLOW = 2, 15  # seconds
UNFINISHED = (*MOVING, "planned", "failed")


@dataclass(frozen=True)
class Poll:
    """What the page asks for again, and how soon. `newest` changes when a set or a copy has been added.

    `is_in_rows`: the rows bring the next poller when they are loaded anew; if this one asked too, it would be answered
    when it is no longer on the page, where nothing can be put beside it.
    """

    path: str
    copies: tuple[int, ...]
    newest: str
    wait: int
    is_in_rows: bool = False

    @property
    def address(self) -> str:
        return f"{self.path}?{urlencode([('newest', self.newest), *(('c', pk) for pk in self.copies)])}"


def poll_for(
    path: str,
    shown: Iterable[Copy],
    sets: QuerySet[BackupSet],
    jobs: QuerySet[BackupJob],
    *,
    is_in_rows: bool = False,
) -> Poll:
    """Return the poller for the copies shown; `sets`, `jobs`: those that the page is about."""
    live = [copy for copy in shown if copy.state in UNFINISHED][:MOST_POLLED]
    moving = jobs.filter(state__in=BackupJob.ACTIVE).exists() or any(copy.state in MOVING for copy in live)
    return Poll(path, tuple(copy.pk for copy in live), _newest(sets), QUICK if moving else SLOW, is_in_rows)


def asked_for(request: HttpRequest, copies: QuerySet[Copy]) -> list[Copy]:
    """Return those of the copies that a poller asks for, each with its `badge`."""
    asked = row_numbers(request.GET.getlist("c"), MOST_POLLED)
    return with_badges(list(copies.filter(pk__in=asked)))


def with_badges(copies: list[Copy]) -> list[Copy]:
    progress = progress_of(copies, clock.now())
    for copy in copies:
        copy.badge = state_of(copy, progress.get(copy.pk))
    return copies


def tell_if_old(request: HttpRequest, response: HttpResponse, copies: list[Copy], poll: Poll) -> HttpResponse:
    """Let the list load anew when a row was added, or a copy ended: other cells of its row changed too."""
    ended = any(copy.state not in UNFINISHED for copy in copies)
    if ended or request.GET.get("newest") != poll.newest:
        trigger_client_event(response, "rows:stale", {})
    return response


def _newest(sets: QuerySet[BackupSet]) -> str:
    return f"{_last(sets)}-{_last(Copy.objects.filter(set__in=sets.order_by()))}"


def _last(rows: QuerySet[Model]) -> int:
    return rows.order_by("-pk").values_list("pk", flat=True).first() or 0
