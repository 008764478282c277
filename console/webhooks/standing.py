"""How the webhooks stand, for whoever watches the installation: counted, never named."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Min, Q, QuerySet
from django.db.models.functions import Greatest

from console.webhooks.models import Delivery, Endpoint
from regions import clock

State = Delivery.State


@dataclass(frozen=True)
class Standing:
    """`endpoints`: state → count; `given_up` are those that Farshore itself disabled. `deliveries`: of the two states
    that want a look. `oldest_seconds`: of what waits, since it happened; `overdue_seconds`: since something could have
    been sent that was not."""

    endpoints: dict[str, int]
    deliveries: dict[str, int]
    oldest_seconds: int
    overdue_seconds: int


def standing() -> Standing:
    at = clock.now()
    waiting = Delivery.objects.filter(state=State.WAITING).aggregate(n=Count("pk"), oldest=Min("occurred_at"))
    failed = Delivery.objects.filter(state=State.FAILED, endpoint__removed_at=None).count()
    return Standing(
        _endpoints(),
        {"waiting": waiting["n"], "failed": failed},
        _seconds_since(waiting["oldest"], at),
        _seconds_since(ready(at).aggregate(first=Min("ready_at"))["first"], at),
    )


def _endpoints() -> dict[str, int]:
    is_on, by_itself = Q(disabled_at=None), Q(disabled_at__isnull=False, disabled_by=None)
    return Endpoint.objects.kept().aggregate(
        enabled=Count("pk", filter=is_on & Q(failing_since=None)),
        failing=Count("pk", filter=is_on & Q(failing_since__isnull=False)),
        given_up=Count("pk", filter=by_itself),
        disabled=Count("pk", filter=Q(disabled_at__isnull=False, disabled_by__isnull=False)),
    )


def ready(at: datetime) -> QuerySet[Delivery]:
    """Return what could be sent now, and since when (`ready_at`): due, of an endpoint that is not left alone, in
    nobody's hands."""
    since = Greatest("due_at", "endpoint__paused_until", "leased_until")  # PostgreSQL's passes over what is null
    waiting = Delivery.objects.filter(state=State.WAITING, endpoint__disabled_at=None, due_at__lte=at)
    return waiting.annotate(ready_at=since).filter(ready_at__lte=at)


def _seconds_since(moment: datetime | None, at: datetime) -> int:
    return max(0, int((at - moment).total_seconds())) if moment else 0
