"""Everything that changed, who did it and why; and what is wrong now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse

from backups import access
from backups.models import Alert, Event
from console.activity.forms import EventFilter
from console.activity.tables import AlertTable, EventTable
from console.widgets import proven
from console.widgets.export import csv_file
from console.widgets.listing import ListView
from console.widgets.shell import chosen_region
from regions import clock

HEADING = ["time (UTC)", "kind", "what happened", "instance", "who", "address"]


class EventList(ListView):
    page_template = "activity/page.html"
    table_class = EventTable
    filter_class = EventFilter
    orders = {"at": ("pk",)}
    usual_sort = "-at"

    def rows(self) -> QuerySet:
        return _events(self.request)

    def dress(self, rows: list[Event]) -> list[Event]:
        return proven.tell_named(rows, clock.now())

    def context(self) -> dict[str, Any]:
        return {"export_query": self.request.GET.urlencode()}


class AlertList(ListView):
    page_template = "activity/alerts.html"
    table_class = AlertTable
    orders = {"opened_at": ("opened_at", "pk")}
    usual_sort = "-opened_at"

    def rows(self) -> QuerySet:
        return access.alerts_for(self.request.user).select_related("instance")

    def dress(self, rows: list[Alert]) -> list[Alert]:
        return proven.tell_named(rows, clock.now())


def export(request: HttpRequest) -> StreamingHttpResponse:
    events = EventFilter(request.GET).narrow(_events(request))
    return csv_file("activity.csv", HEADING, _lines(events))


def _events(request: HttpRequest) -> QuerySet:
    events = access.events_for(request.user).select_related("instance")
    region = chosen_region(request)
    return events.filter(instance__region=region) if region else events


def _lines(events: QuerySet) -> Iterator[list[object]]:
    for event in events.iterator(chunk_size=500):
        code = event.instance.code if event.instance else ""
        time = event.at.isoformat(timespec="seconds")
        yield [time, event.kind, event.sentence, code, event.actor_name, event.address]
