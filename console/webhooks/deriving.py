"""What has happened becomes deliveries: one for each endpoint that may hear of it, whoever runs this how often.

Events are read in the order of their seals, which one sealer gives them as they become visible: neither ids nor times
do, since a transaction commits later than it takes them. Alerts are not sealed; they are committed as soon as they are
opened, and looked at over an overlap. The row that is unique for endpoint and source says that it was told.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet

from backups import seals
from backups.models import Alert, Event
from console.webhooks import bodies
from console.webhooks.audience import Audience, audience_of
from console.webhooks.models import Delivery, Endpoint, Kind
from regions import clock

log = logging.getLogger(__name__)
SEALS_A_STEP, STEPS = 1000, 50
ALERTS_A_STEP = 1000
OVERLAP = timedelta(hours=1)


def derive() -> int:
    """Write down what every enabled endpoint is to be told; return how much that is."""
    return sum(_derived(pk) for pk in Endpoint.objects.enabled().values_list("pk", flat=True))


def _derived(pk: int) -> int:
    try:
        return sum(_step(pk) for _ in range(STEPS) if _is_behind(pk)) + _alerts(pk)
    except Exception:  # with its traceback; the other endpoints are other people's
        log.exception("webhook not told of anything", extra={"webhook": pk})
        return 0


def _is_behind(pk: int) -> bool:
    return Endpoint.objects.filter(pk=pk).exclude(sequence=seals.head()[0]).exists()


def _step(pk: int) -> int:
    """Look at the next events, and move on past them in the same transaction."""
    with transaction.atomic():
        endpoint = _held(pk)
        if endpoint is None:
            return 0
        upto = min(seals.head()[0], endpoint.sequence + SEALS_A_STEP)
        kinds = [name for name, kind in bodies.OF_EVENTS.items() if kind in endpoint.kinds]
        audience = audience_of(endpoint)
        sealed = Event.objects.filter(seal__sequence__gt=endpoint.sequence, seal__sequence__lte=upto)
        found = sealed.filter(kind__in=kinds, instance__group__in=audience.seen)
        events = list(found.select_related("instance").order_by("seal"))
        told = _tell(bodies.of_events(endpoint, events, clock.now()))
        Endpoint.objects.filter(pk=pk).update(sequence=upto)
        return told


def _alerts(pk: int) -> int:
    with transaction.atomic():
        endpoint = _held(pk)
        if endpoint is None:
            return 0
        at = clock.now()
        opened = {f"alert:{row.pk}": row for row in _opened(endpoint, audience_of(endpoint)).iterator(ALERTS_A_STEP)}
        known = set(endpoint.deliveries.filter(source__in=opened).values_list("source", flat=True))
        new = [row for source, row in opened.items() if source not in known][:ALERTS_A_STEP]
        told = _tell(bodies.of_alerts(endpoint, new, at))
        if len(new) < ALERTS_A_STEP:
            Endpoint.objects.filter(pk=pk).update(looked_at=at)
        return told


def _from(endpoint: Endpoint) -> datetime:
    return max(endpoint.since, endpoint.looked_at - OVERLAP)


def _opened(endpoint: Endpoint, audience: Audience) -> QuerySet[Alert]:
    """Return the alerts it may hear of, of the kinds it asked for, that were opened since it looked, and a little."""
    codes = [code for code, kind in bodies.OF_ALERTS.items() if kind in endpoint.kinds and kind != Kind.BUDGET_REACHED]
    mine = Q(code__in=codes, instance__group__in=audience.seen)
    if Kind.BUDGET_REACHED in endpoint.kinds:
        whose = Q(group__in=audience.billed) | (Q(group=None) if audience.fleet else Q(pk__in=[]))
        mine |= whose & Q(code="budget_spent")
    since = _from(endpoint)
    older = Alert.objects.filter(opened_at__lt=since - OVERLAP).order_by("-pk").values_list("pk", flat=True)
    opened = Alert.objects.filter(mine, opened_at__gte=since, pk__gt=older.first() or 0)  # not all there ever were
    return opened.select_related("instance", "group").order_by("pk")


def _held(pk: int) -> Endpoint | None:
    """Return the endpoint for this transaction alone; None when somebody else has it, or it is off."""
    rows = Endpoint.objects.enabled().select_for_update(no_key=True, skip_locked=True, of=("self",))
    return rows.select_related("user").filter(pk=pk).first()


def _tell(deliveries: list[Delivery]) -> int:
    Delivery.objects.bulk_create(deliveries, ignore_conflicts=True)
    return len(deliveries)
