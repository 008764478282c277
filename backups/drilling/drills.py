"""Drills: asked for by the timetable or a person, claimed by a worker of the region where the copies lie, judged.

The row is the job; what happens in between is `drilling`'s. A drill proves a restore only when it has passed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import BigIntegerField, Exists, FloatField, OuterRef, Q, QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast

from backups import alerts, bell, events, policies
from backups.chains import windows
from backups.engines import engine_of
from backups.events import FARSHORE, By
from backups.leases import LeaseLost, next_lease, who
from backups.models import Copy, Drill, DrillQuery, Instance, LandingServer, Pin
from backups.servers import landing_servers
from regions import clock
from regions.models import Store
from regions.refusals import Refusal

log = logging.getLogger(__name__)
DAY = timedelta(days=1)
MOST_ATTEMPTS = 5
MOST_DAYS = 365
State, Pick = Drill.State, Drill.Pick
TURN = (Pick.NEWEST, Pick.OLDEST, Pick.RANDOM, Pick.CANARY)
TIMETABLE, PERSON = "timetable", "person"
ALERT = {Pick.CANARY: "drill_canary_failed"}  # a sound restore says nothing of whether damage would be noticed
USUAL_ALERT = "drill_failed"


# ---- asking


def ask(instance: Instance, by: By, *, pick: str = Pick.NEWEST, asked: str = PERSON, rings: bool = True) -> Drill:
    """Ask for a drill; one of the same pick that is queued or running serves. It is skipped at once where none can be.

    A released or disabled instance has copies too: what is there can be drilled.
    """
    store = store_to_drill(instance)
    refusal = why_not(instance, store) or (None if store else _nothing_there())
    for _ in range(3):
        try:
            return _queue(instance, store, by, pick, asked, refusal, rings)
        except IntegrityError:
            active = Drill.objects.filter(instance=instance, pick=pick, state__in=Drill.ACTIVE).first()
            if active:
                return active
    raise Refusal("DrillBusy", "Drills of this instance begin and end too quickly to add one.", "Ask again.")


def why_not(instance: Instance, store: Store | None) -> Refusal | None:
    """Return why no worker whatever can drill this instance's copies at a store, None when one may."""
    engine = engine_of(instance.engine)
    if engine.restore is not None:
        return None
    if engine.restore_database is None:
        label = engine.capabilities.label
        return Refusal("NoRestore", f"Farshore cannot restore {label} by itself yet.", "Restore it with its own tools.")
    return no_landing(instance, store) if store and landing_for(instance, store) is None else None


def landing_for(instance: Instance, store: Store) -> LandingServer | None:
    """Return the landing server where copies at a store are rehearsed: one that answered when it was last looked at."""
    usable = landing_servers.usable_for(instance).filter(region=store.region_id)
    return usable.order_by("error", "name", "pk").first()


def no_landing(instance: Instance, store: Store) -> Refusal:
    label = engine_of(instance.engine).capabilities.label
    return Refusal(
        "NoLanding",
        f"No landing server of {label} in {store.region} may be used for {instance.group}.",
        "Register one on the Stores page, and grant it to the resource group.",
    )


def store_to_drill(instance: Instance) -> Store | None:
    """Return where completed copies lie: at the backup region of today if any do, else at one of those before it."""
    stores = windows.stores_with_copies(instance)
    policy = policies.latest_policy(instance)
    here = [store for store in stores if policy and store.region_id == policy.destination_id]
    return next(iter([*here, *stores]), None)


def _nothing_there() -> Refusal:
    return Refusal("NothingToRestore", "No copy of it has been completed.", "Wait until a full backup has been copied.")


def _queue(
    instance: Instance, store: Store | None, by: By, pick: str, asked: str, refusal: Refusal | None, rings: bool
) -> Drill:
    at = clock.now()
    with transaction.atomic():
        drill = Drill.objects.create(
            instance=instance,
            store=store,
            database=_database(instance, store),
            pick=pick,
            asked_by=by.user,
            asked_at=at,
            due_at=at,
            state=State.SKIPPED if refusal else State.QUEUED,
            finished_at=at if refusal else None,
            sentence=str(refusal or ""),
            evidence={"asked": asked},
        )
        said = f"A drill was asked for: {drill.get_pick_display().lower()}."
        events.record("drill.asked", said, by=by, instance=instance, drill=drill.pk, pick=pick)
        if refusal:
            _tell(drill)
        elif rings:
            bell.ring_drills(store.region_id)
    return drill


def _database(instance: Instance, store: Store | None) -> str:
    """Where each database is backed up by itself, one drill restores one of them, another every time."""
    if store is None or engine_of(instance.engine).capabilities.whole_server:
        return ""
    return Random().choice(windows.databases_at(instance, store) or [""])


def ask_by_timetable(limit: int = 200) -> int:
    """Ask for every drill whose day has come, the picks in turn; return how many were asked for.

    An instance waits for its first completed copy, and is then drilled at once; disabled or released, it is drilled
    as long as copies of it are kept: they are all there is.
    """
    at = clock.now()
    copies = Copy.objects.restorable().filter(set__instance=OuterRef("pk"))
    due = Instance.objects.filter(
        Q(next_drill_at=None) | Q(next_drill_at__lte=at), Exists(copies), drill_every_days__gt=0
    )
    return sum(_ask_if_due(instance, at) for instance in due.order_by("next_drill_at", "pk")[:limit])


def _ask_if_due(instance: Instance, at: datetime) -> bool:
    """Move the date on and ask, both or neither; of two sweeps one wins."""
    last = Drill.objects.filter(instance=instance, evidence__asked=TIMETABLE).order_by("-pk").first()
    every = instance.drill_every_days * DAY
    due = last.asked_at + every if last else at
    with transaction.atomic():
        mine = Instance.objects.filter(pk=instance.pk, next_drill_at=instance.next_drill_at)
        if not mine.update(next_drill_at=due if due > at else at + every) or due > at:
            return False
        ask(instance, FARSHORE, pick=pick_after(last.pick if last else None), asked=TIMETABLE)
    return True


def pick_after(last: str | None) -> str:
    """Return whose turn it is: newest, oldest, random, and every fourth time a canary. Pure."""
    return TURN[(TURN.index(last) + 1) % len(TURN)] if last else TURN[0]


def set_days(instance: Instance, days: int, by: By) -> None:
    """Say how often an instance is drilled; 0: never by the timetable. Raises Refusal."""
    if not 0 <= days <= MOST_DAYS:
        raise Refusal("BadDays", f"Whole days from 0 (never) to {MOST_DAYS}.", "Enter another number.", "days")
    with transaction.atomic():
        Instance.objects.filter(pk=instance.pk).update(drill_every_days=days, next_drill_at=None)
        often = f"every {days} days" if days else "never by the timetable"
        events.record("drill.timetable", f"{instance.name} is drilled {often}.", by=by, instance=instance, days=days)


# ---- the team's own questions


def add_query(instance: Instance, database: str, sql: str, expected: str, by: By) -> DrillQuery:
    """Add a question that every drill asks the restored server.

    Raises Refusal where the engine cannot be asked, or not this, or where the drills ask it already.
    """
    engine = engine_of(instance.engine)
    if engine.ask is None:
        label = engine.capabilities.label
        raise Refusal("NoQuestions", f"A restored {label} cannot be asked questions yet.", "", "sql")
    if engine.why_not_ask and (refusal := engine.why_not_ask(sql)):
        raise refusal
    with transaction.atomic():
        Instance.objects.select_for_update(no_key=True).get(pk=instance.pk)  # two who add the same
        if refusal := _why_not_again(instance, database, sql):
            raise refusal
        query = DrillQuery.objects.create(
            instance=instance, database=database, sql=sql, expected=expected, added_by=by.user, added_at=clock.now()
        )
        said = f"Every drill of {instance.name} now asks: {sql}"
        events.record("drill.query_added", said, by=by, instance=instance, query=query.pk, expected=expected)
    return query


def _why_not_again(instance: Instance, database: str, sql: str) -> Refusal | None:
    asked = " ".join(sql.split())
    for query in instance.drill_queries.filter(database=database):
        if " ".join(query.sql.split()) == asked:
            said = f"The drills of {instance.name} ask this already, and {query.expected} is expected."
            return Refusal("QuestionThere", said, "Remove that query to expect something else.", "sql")
    return None


def remove_query(query: DrillQuery, by: By) -> None:
    with transaction.atomic():
        said = f"Drills of {query.instance.name} no longer ask: {query.sql}"
        events.record("drill.query_removed", said, by=by, instance=query.instance, query=query.pk)
        query.delete()


# ---- claiming


def claim(region_id: str) -> Drill | None:
    """Take the next due drill of the copies in a region, under a new fence and a lease."""
    return _claim(Q(store__region=region_id, due_at__lte=clock.now()))


def claim_this(drill: Drill) -> Drill | None:
    """Take this drill, as a worker would; None when somebody else has it or it is over."""
    return _claim(Q(pk=drill.pk))


def _claim(which: Q) -> Drill | None:
    with transaction.atomic():
        at = clock.now()
        drill = (
            Drill.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(which, free(at), state__in=Drill.ACTIVE)
            .select_related("instance__region", "store__region")
            .order_by("due_at", "pk")
            .first()
        )
        if drill is None:
            return None
        drill.fence, drill.attempts, drill.state = drill.fence + 1, drill.attempts + 1, State.RUNNING
        drill.started_at, drill.leased_until, drill.leased_by = at, next_lease(at), who()
        drill.save(update_fields=["fence", "attempts", "state", "started_at", "leased_until", "leased_by"])
        return drill


def free(at: datetime) -> Q:
    return Q(leased_until=None) | Q(leased_until__lt=at)


def regions_with_work() -> list[str]:
    at = clock.now()
    due = Drill.objects.filter(free(at), state__in=Drill.ACTIVE, due_at__lte=at, store__isnull=False)
    return list(due.values_list("store__region", flat=True).distinct())


class Heartbeat(threading.Thread):
    """Renews a drill's lease and its pins beside the work; `lost` says that somebody else holds it now."""

    def __init__(self, drill: Drill) -> None:
        super().__init__(daemon=True, name=f"heartbeat-drill-{drill.pk}")
        self.drill, self.pins, self.lost, self._over = drill, [], threading.Event(), threading.Event()

    def run(self) -> None:
        while not self._over.wait(settings.LEASE_SECONDS / 4):
            try:
                if not renew(self.drill):
                    self.lost.set()
                Pin.objects.filter(pk__in=self.pins).update(until=pinned_until(clock.now()))
            except Exception:  # the database is away: the lease decides, not we
                log.exception("lease not renewed", extra={"drill": self.drill.pk})
            finally:
                connection.close()

    def end(self) -> None:
        self._over.set()


def pinned_until(at: datetime) -> datetime:
    """A pin outlives the lease by as much again, and no more: a dead drill holds nothing back for long."""
    return at + 2 * (next_lease(at) - at)


def renew(drill: Drill, **changes: Any) -> bool:
    """Renew the lease and write `changes`, both only while the fence is ours."""
    return bool(_mine(drill).update(leased_until=next_lease(clock.now()), **changes))


def _mine(drill: Drill) -> QuerySet[Drill]:
    return Drill.objects.filter(pk=drill.pk, fence=drill.fence, state=State.RUNNING)


# ---- judging


def finish(drill: Drill, state: str, sentence: str, **found: Any) -> None:
    """Write the verdict and what it rests on, under the fence; open or close the alert. Raises LeaseLost."""
    with transaction.atomic():
        drill.state, drill.sentence, drill.finished_at = state, events.speakable(sentence), clock.now()
        written = {"state": state, "sentence": drill.sentence, "finished_at": drill.finished_at, "leased_until": None}
        if not _mine(drill).update(**written, **found):
            raise LeaseLost
        for name, value in found.items():
            setattr(drill, name, value)
        _tell(drill)


def _tell(drill: Drill) -> None:
    subject, code = f"instance:{drill.instance_id}", ALERT.get(drill.pick, USUAL_ALERT)
    if drill.state == State.FAILED:
        alerts.open_alert(
            code,
            subject,
            f"The last drill of {drill.instance.name} failed: {drill.sentence}",
            remedy="Look at the drill's evidence on the instance's page; Drill now tries it again.",
            instance=drill.instance,
        )
    elif drill.state == State.PASSED:
        alerts.close_alert(code, subject)
    said = f"The drill of {drill.instance.name} ({drill.get_pick_display().lower()}) {drill.state}: {drill.sentence}"
    figures = {"rows": drill.evidence.get("total_rows"), "seconds": drill.seconds.get("recovery")}
    events.record(f"drill.{drill.state}", said, instance=drill.instance, set=drill.set, drill=drill.pk, **figures)


def put_off(drill: Drill, why: str) -> None:
    """Try again later: what failed says nothing of the copies."""
    later = clock.now() + timedelta(minutes=2**drill.attempts)
    _mine(drill).update(state=State.QUEUED, sentence=events.speakable(why), leased_until=None, due_at=later)


def give_back(drill: Drill) -> None:
    """Somebody stopped it by hand: let a worker go on with it."""
    if _mine(drill).update(state=State.QUEUED, leased_until=None, due_at=clock.now()):
        bell.ring_drills(drill.store.region_id)


# ---- the last proven restore


@dataclass(frozen=True)
class Proof:
    """The newest drill of an instance that passed: a whole restore from its copies, checked."""

    drill: int
    at: datetime
    restored_until: datetime
    rows: int
    seconds: float


def last_proven(instances: Iterable[Instance]) -> dict[int, Proof]:
    """Return the proof of each instance that has one, in one query however many there are; a canary proves none."""
    told = {"evidence__has_key": "total_rows", "seconds__has_key": "recovery"}
    passed = Drill.objects.filter(instance__in=[one.pk for one in instances], state=State.PASSED, **told)
    newest = passed.exclude(pick=Pick.CANARY).order_by("instance", "-finished_at", "-pk").distinct("instance")
    rows = Cast(KeyTextTransform("total_rows", "evidence"), BigIntegerField())
    seconds = Cast(KeyTextTransform("recovery", "seconds"), FloatField())
    found = newest.annotate(counted=rows, recovery=seconds)
    columns = found.values_list("instance", "pk", "finished_at", "restored_until", "counted", "recovery")
    return {instance: Proof(*proof) for instance, *proof in columns}
