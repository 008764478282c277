"""That what is charged is what happened, to the last digit (I11). Each check yields its breaches, as in `audit`.

The ledger adds up in SQL; here the same facts are added up once more, row by row in Python, which is slow and plain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import F, Sum

from backups.models import Copy, Event, StorageSpan, Transfer
from backups.models.copy import DAMAGED
from billing import closing, metering, plans, statements
from billing.downloads import breaches as breaches_of_meters
from billing.metering import month_of
from billing.models import ClosedStatement, DownloadCharge, ItemCode, NetworkPlan
from billing.statements import Place, Reckoning
from regions import clock

SLACK = timedelta(minutes=5)
ENDS_A_SPAN = ("copy.expired", "copy.damaged", "copy.kept")


def breaches() -> Iterator[tuple[str, str]]:
    """Yield (invariant, sentence) for everything found wrong; nothing yielded means everything held."""
    for name, check in CHECKS.items():
        for sentence in check():
            yield name, sentence


def spans_against_events() -> Iterator[str]:
    """Every arrival that was recorded began a span of its bytes; none runs on past what ended it, or began untold."""
    arrivals = {event.data["copy"]: event for event in Event.objects.filter(kind="copy.completed").iterator(2000)}
    begun: set[int] = set()
    for span in StorageSpan.objects.filter(began_at=F("copy__completed_at")).iterator(2000):
        begun.add(span.copy_id)
        event = arrivals.get(span.copy_id)
        if event is None:
            yield f"span {span.pk} began with copy {span.copy_id}'s arrival, of which no event tells"
        elif event.data["bytes"] != span.bytes or abs(event.at - span.began_at) > SLACK:
            yield f"span {span.pk} is not what was recorded when copy {span.copy_id} arrived"
    for copy in sorted(set(arrivals) - begun):
        yield f"copy {copy} arrived and nothing was charged from then on"
    yield from _spans_that_run_on()


def _spans_that_run_on() -> Iterator[str]:
    ended = defaultdict(list)
    for event in Event.objects.filter(kind__in=ENDS_A_SPAN).iterator(2000):
        ended[event.data.get("copy")].append(event.at)
    for span in StorageSpan.objects.filter(copy__in=ended).iterator(2000):
        if any(span.began_at < at and (span.ended_at is None or at < span.ended_at) for at in ended[span.copy_id]):
            yield f"span {span.pk} of copy {span.copy_id} runs on past an event that ended it"


def bytes_of_objects() -> Iterator[str]:
    """What copies carry is their objects' bytes, each object once, however many sets lie in it."""
    carried: dict[tuple[int, int], int] = defaultdict(int)
    arrived = Copy.objects.exclude(completed_at=None)
    places = arrived.order_by().values_list("set__instance", "destination_store")
    carried.update({(instance, store): total for instance, store, total in places.annotate(Sum("stored_bytes"))})
    objects = Transfer.objects.filter(copied_files__copy__in=arrived).distinct()
    for instance, store, size, _ in objects.values_list("file__instance", "store", "size", "pk").iterator(2000):
        carried[instance, store] -= size
    for (instance, store), difference in sorted(carried.items()):
        if difference:
            yield f"instance {instance}: {difference} bytes more than its objects have are charged in store {store}"


def quantities() -> Iterator[str]:
    """The lines of every month are the facts added up, row by row."""
    at = clock.now() - SLACK
    month = _first_month()
    while month is not None and month < at:
        end = month_of(month)[1]
        told = statements.statement(month, at)
        found = {Place(one.item, one.instance_id, *one.route): one.quantity for one in told.lines if one.quantity}
        yield from _differences(f"{month:%Y-%m}", found, _added_up(month, min(end, at), end))
        month = end


def _first_month() -> datetime | None:
    first = ClosedStatement.objects.order_by("month").first()
    return first.begins_at if first else closing.next_month()


def _differences(month: str, told: dict[Place, int], found: dict[Place, int]) -> Iterator[str]:
    for place in sorted(told.keys() | found.keys()):
        if told.get(place, 0) != found.get(place, 0):
            said = f"{month}: instance {place.instance_id}, {place.item.value}, {place.source} to {place.destination}"
            yield f"{said}: the line says {told.get(place, 0)}, the facts {found.get(place, 0)}"


def _added_up(begin: datetime, until: datetime, end: datetime) -> dict[Place, int]:
    total: dict[Place, int] = defaultdict(int)
    spans = StorageSpan.objects.filter(began_at__lt=until).exclude(ended_at__lte=begin)
    for span in spans.select_related("copy__set", "copy__policy", "copy__destination_store").iterator(2000):
        copy = span.copy
        route = (copy.set.instance_id, copy.policy.source_region_id, copy.destination_store.region_id)
        total[Place(ItemCode.STORAGE, *route)] += metering.byte_seconds([span], begin, end, at=until)
        if span.began_at == copy.completed_at and begin <= span.began_at and _is_charged_traffic(copy):
            total[Place(ItemCode.TRAFFIC, *route)] += span.bytes
    charged = DownloadCharge.objects.filter(address=DownloadCharge.Address.INTERNET, at__gte=begin, at__lt=until)
    for charge in charged.iterator(2000):
        total[Place(ItemCode.DOWNLOAD, charge.instance_id, charge.region_id, "")] += charge.bytes
    return {place: quantity for place, quantity in total.items() if quantity}


def _is_charged_traffic(copy: Copy) -> bool:
    if copy.policy.source_region_id == copy.destination_store.region_id:
        return False
    former = Copy.objects.filter(set=copy.set_id, destination_store=copy.destination_store_id, verification=DAMAGED)
    return not former.filter(completed_at__lt=copy.completed_at).exists()


def closed_months() -> Iterator[str]:
    """A closed month is whole, and is what its facts come to today: none of them was dated into it later."""
    for closed in ClosedStatement.objects.order_by("month"):
        lines, uses = statements.stored(closed), closing.plan_uses_of(closed)
        if (len(lines), closing.digest(lines, uses)) != (closed.lines_count, closed.digest):
            yield f"the {closed} is not what was closed"
        again = statements.reckon(closed.begins_at, closed.ends_at)
        yield from _moved(str(closed), Reckoning(lines, uses), again)


def _moved(name: str, stored: Reckoning, again: Reckoning) -> Iterator[str]:
    told = {closing.charged(line)[:4]: closing.charged(line) for line in stored.lines}
    found = {closing.charged(line)[:4]: closing.charged(line) for line in again.lines}
    for place in sorted(told.keys() | found.keys()):
        if told.get(place) != found.get(place):
            yield f"the {name} says {told.get(place)}, its facts come to {found.get(place)}"
    if stored.plan_uses != again.plan_uses:
        yield f"the {name} took {stored.plan_uses} from network plans, its facts come to {again.plan_uses}"


def overdrawn_plans() -> Iterator[str]:
    """No plan has given more than it holds."""
    for plan in NetworkPlan.objects.annotate(used=Sum("uses__prepaid_bytes")):
        if plan.used is not None and plan.used * plans.MILLION > plans.size_of(plan):
            yield f"network plan {plan.pk} has given {plan.used} prepaid bytes, more than it holds"


def downloads() -> Iterator[str]:
    """A download was charged by its file's bytes."""
    for charge in DownloadCharge.objects.exclude(bytes=F("file__size")).iterator(2000):
        yield f"download {charge.pk} was charged by {charge.bytes} bytes, which is not its file's size"


CHECKS = {
    "I11 spans are facts": spans_against_events,
    "I11 bytes": bytes_of_objects,
    "I11 ledger": quantities,
    "I11 closed months": closed_months,
    "I11 network plans": overdrawn_plans,
    "I11 downloads": downloads,
    "I17 one download": breaches_of_meters,
}
