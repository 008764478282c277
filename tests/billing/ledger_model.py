"""Ledger = model (I11): facts of every kind, written in any order, repeated, with retries, aborts and clocks that jump.

The model says once more what R-4 says, in fractions and one fact at a time; it shares no sum with the product. The
retention's own histories (tests/backups/retention_model.py) close months and audit the ledger as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backups.models import BackupFile, BackupSet, CopiedFile, Copy, CopyPolicy, Instance, StorageSpan, Transfer
from billing import closing, statements
from billing.models import ClosedStatement, ItemCode, NetworkPlan
from billing.plans import a_year_after
from regions import clock
from tests.billing.facts import GB, backup_of, download_of, instance_in, policy_of, reprice, store_in

FEB, MARCH, APRIL, MAY = (datetime(2028, number, 1, tzinfo=UTC) for number in (2, 3, 4, 5))  # a leap year
MIDDLE = datetime(2028, 3, 15, 11, 22, 33, 444_555, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOMES = ("cn-beijing", "eu-west-1")
GOALS = ("cn-shanghai", "ap-southeast-1")

# What is in force, said for the product (rows) and for the model alike: (price, from, until).
STORAGE = [("0.0002", LONG_AGO, MIDDLE), ("0.00031", MIDDLE, None)]
TRAFFIC = {
    ("cn-beijing", "cn-shanghai"): [("0.075", LONG_AGO, None)],
    ("cn-beijing", "ap-southeast-1"): [("0.19", LONG_AGO, MIDDLE), ("0.2", MIDDLE, None)],
    ("eu-west-1", "cn-shanghai"): [("0.3", LONG_AGO, MIDDLE)],  # and none after it
    ("eu-west-1", "ap-southeast-1"): [],
}
DOWNLOAD = {"cn-beijing": [("0.125", LONG_AGO, None)], "eu-west-1": [("0.15", LONG_AGO, None)]}
COEFFICIENTS = {"0.075": "0.625", "0.19": "1.583333", "0.2": "1.666667", "0.3": "2.5"} | {
    "0.125": "1.041667",
    "0.15": "1.25",
}

Rows = list[tuple[str, datetime, datetime | None]]
Key = tuple[str, int, str, str]


# ---- the model


@dataclass
class Model:
    """Facts in, lines out: (item, home, source, destination) → what it was, what of it was charged, cents or None."""

    spans: list[tuple[int, int, int, datetime, datetime]] = field(default_factory=list)
    arrivals: list[tuple[datetime, int, int, int]] = field(default_factory=list)
    downloads: list[tuple[datetime, int, int]] = field(default_factory=list)
    plans: list[tuple[datetime, int]] = field(default_factory=list)

    def lines(self, begin: datetime, end: datetime) -> dict[Key, tuple[int, int, int | None]]:
        quantity: dict[Key, int] = defaultdict(int)
        charged: dict[Key, int] = defaultdict(int)
        costs: dict[Key, Fraction | None] = defaultdict(Fraction)
        for key, size, price in [*self._storage(begin, end), *self._network(begin, end)]:
            (used, paid), per = size, GB * 3600 if key[0] == "storage" else GB
            quantity[key] += used
            charged[key] += paid
            if paid and price is None:
                costs[key] = None
            elif paid and costs[key] is not None:
                costs[key] += Fraction(price) * paid / per
        return {key: (used, charged[key], cents(costs[key])) for key, used in quantity.items() if used}

    def _storage(self, begin: datetime, end: datetime) -> Iterator[tuple[Key, tuple[int, int], str]]:
        for home, goal, size, began, ended in self.spans:
            for price, since, until in STORAGE:
                first, last = max(began, begin, since), min(ended, end, until or end)
                seconds = max(0, int(last.timestamp() // 1) - int(first.timestamp() // 1))
                yield ("storage", home, HOMES[home], GOALS[goal]), (size * seconds,) * 2, price

    def _network(self, begin: datetime, end: datetime) -> Iterator[tuple[Key, tuple[int, int], str | None]]:
        """Everything since the beginning, for the plans; what stands in the month is yielded."""
        left = [Fraction(gigabytes * GB) for _, gigabytes in self.plans]
        used: dict[tuple[int, int, int], int] = defaultdict(int)
        for at, key, size in sorted([*self._arrived(), *self._downloaded()]):
            payable, price = size, price_at(self._prices(key), at)
            if key[0] == "download":
                month = key[1], at.year, at.month
                payable = max(0, used[month] + size - 500 * GB) - max(0, used[month] - 500 * GB)
                used[month] += size
            for number, (bought, _) in sorted(enumerate(self.plans), key=lambda plan: plan[1][0]):
                if price and bought <= at < a_year_after(bought):
                    each = Fraction(COEFFICIENTS[price])
                    taken = min(payable, left[number] // each)
                    left[number] -= taken * each
                    payable -= taken
            if begin <= at < end:
                yield key, (size, payable), price

    def _arrived(self) -> Iterator[tuple[datetime, Key, int]]:
        for at, home, goal, size in self.arrivals:
            yield at, ("traffic", home, HOMES[home], GOALS[goal]), size

    def _downloaded(self) -> Iterator[tuple[datetime, Key, int]]:
        for at, home, size in self.downloads:
            yield at, ("download", home, HOMES[home], ""), size

    def _prices(self, key: Key) -> Rows:
        return TRAFFIC[key[2], key[3]] if key[0] == "traffic" else DOWNLOAD[key[2]]


def price_at(rows: Rows, at: datetime) -> str | None:
    return next((price for price, since, until in rows if since <= at and (until is None or at < until)), None)


def cents(cost: Fraction | None) -> int | None:
    return None if cost is None else int(cost * 100 + Fraction(1, 2))


# ---- facts, as hypothesis invents them

moments = st.integers(0, 80 * 86_400 * 10**6).map(lambda microseconds: FEB + timedelta(microseconds=microseconds))
sizes = st.one_of(st.integers(0, 300), st.integers(0, 2**42), st.integers(1, 40).map(lambda n: n * GB))
copies = st.fixed_dictionaries(
    {
        "home": st.integers(0, 1),
        "goal": st.integers(0, 1),
        "size": sizes,
        "at": moments,
        "stays": st.integers(0, 60 * 86_400 * 10**6).map(lambda microseconds: timedelta(microseconds=microseconds)),
        "fate": st.sampled_from(
            [
                "expires",
                "swept late",
                "held",
                "undone",
                "damaged",
                "mended",
                "copied anew",
                "aborted",
                "set back",
                "shared",
            ]
        ),
        "gap": st.integers(1, 5 * 86_400).map(lambda seconds: timedelta(seconds=seconds)),
        "faults": st.lists(st.integers(1, GB), max_size=2),
    }
)
downloads = st.tuples(
    moments,
    st.integers(0, 1),
    st.integers(0, 400).map(lambda n: n * GB + n),
    st.sampled_from(["internet"] * 3 + ["internal"]),
)
purchases = st.tuples(moments.map(lambda at: at - 330 * DAY) | moments, st.integers(1, 900))
worlds = st.fixed_dictionaries(
    {
        "copies": st.lists(copies, max_size=7, unique_by=lambda one: one["at"]),
        "downloads": st.lists(downloads, max_size=5, unique_by=lambda one: one[0]),
        "plans": st.lists(purchases, max_size=3, unique_by=lambda one: one[0]),
        "order": st.integers(0, 2**32),
        "late": st.integers(0, 10),
    }
)


@dataclass
class Ground:
    """What every example stands on."""

    instances: list[Instance]
    policies: dict[tuple[int, int], CopyPolicy]
    sets: list[BackupSet]


def make_ground() -> Ground:
    reprice(ItemCode.STORAGE, *STORAGE, source="", source_scope="", destination="")
    for (source, destination), rows in TRAFFIC.items():
        reprice(ItemCode.TRAFFIC, *rows, source=source, destination=destination)
    instances = [instance_in(home, home) for home in HOMES]
    routes = [(home, goal) for home in range(len(HOMES)) for goal in range(len(GOALS))]
    policies = {(home, goal): policy_of(instances[home], GOALS[goal]) for home, goal in routes}
    return Ground(instances, policies, [backup_of(instance, FEB) for instance in instances])


@dataclass
class Writer:
    """Writes facts as the product would have, one by one, and tells the model."""

    ground: Ground
    model: Model
    now: datetime

    def copy(self, drawn: dict[str, Any]) -> None:
        fate, at, until = drawn["fate"], drawn["at"], drawn["at"] + drawn["stays"]
        if at > self.now:
            return
        found = self._set(drawn)
        if fate == "aborted":
            self._row(drawn, found, state="cancelled", cancel_reason="by_a_person", expires_at=until, sent=True)
            return
        size = 0 if fate == "shared" else drawn["size"]
        copy = self._row(drawn, found, state="completed", completed_at=at, expires_at=until, stored_bytes=size)
        self.model.arrivals.append((at, drawn["home"], drawn["goal"], size))
        getattr(self, "_" + fate.replace(" ", "_"))(copy, drawn, until)

    def _set(self, drawn: dict[str, Any]) -> BackupSet:
        instance = self.ground.instances[drawn["home"]]
        return BackupSet.objects.create(
            instance=instance, kind="full", finished_at=drawn["at"], discovered_at=drawn["at"]
        )

    def _row(self, drawn: dict[str, Any], found: BackupSet, sent: bool = False, **state: Any) -> Copy:
        policy = self.ground.policies[drawn["home"], drawn["goal"]]
        copy = Copy.objects.create(
            set=found,
            policy=policy,
            destination_store=store_in(policy.destination_id),
            route_version=1,
            planned_at=drawn["at"],
            due_at=drawn["at"],
            manifest_key="m",
            **state,
        )
        file = self.ground.sets[drawn["home"]].files.get()
        for number, size in enumerate(drawn["faults"]):
            self._attempt(copy, file, f"{copy.pk}/{number}", size, "cleaned", ended_at=drawn["at"])
        if not sent:
            extra = sum(drawn["faults"])
            made = self._attempt(copy, file, f"{copy.pk}", extra, "verified", verified_at=drawn["at"])
            CopiedFile.objects.create(copy=copy, file=file, transfer=made)
        return copy

    def _attempt(self, copy: Copy, file: BackupFile, key: str, sent: int, state: str, **ended: datetime) -> Transfer:
        size = copy.stored_bytes
        counted = {"size": size, "bytes_sent": size if state == "verified" else sent, "bytes_resent": sent}
        place = {"file": file, "store": copy.destination_store, "key": key, "fence": 1, "started_at": copy.planned_at}
        return Transfer.objects.create(state=state, **place, **counted, **ended)

    def _span(
        self, copy: Copy, drawn: dict[str, Any], began: datetime, ended: datetime, until: datetime | None
    ) -> None:
        """Write one stretch; `ended` is when it truly ends, `until` what the row says (None: the sweep is late)."""
        StorageSpan.objects.create(copy=copy, bytes=copy.stored_bytes, began_at=began, ended_at=until)
        self.model.spans.append((drawn["home"], drawn["goal"], copy.stored_bytes, began, ended))

    def _swept_late(self, copy: Copy, drawn: dict[str, Any], until: datetime) -> None:
        self._span(copy, drawn, copy.completed_at, until, None)

    def _expires(self, copy: Copy, drawn: dict[str, Any], until: datetime) -> None:
        is_past = until <= self.now
        self._span(copy, drawn, copy.completed_at, until, until if is_past else None)

    _shared = _expires

    def _held(self, copy: Copy, drawn: dict[str, Any], until: datetime) -> None:
        Copy.objects.filter(pk=copy.pk).update(expires_at=None)
        self._span(copy, drawn, copy.completed_at, MAY, None)

    def _undone(self, copy: Copy, drawn: dict[str, Any], until: datetime) -> None:
        again = until + drawn["gap"]
        if again + DAY > self.now:
            self._expires(copy, drawn, until)
            return
        Copy.objects.filter(pk=copy.pk).update(expires_at=again + DAY)
        self._span(copy, drawn, copy.completed_at, until, until)
        self._span(copy, drawn, again, again + DAY, None)

    def _damaged(self, copy: Copy, drawn: dict[str, Any], until: datetime) -> None:
        broke = copy.completed_at + drawn["stays"] / 2
        if broke > self.now:
            self._expires(copy, drawn, until)
            return
        Copy.objects.filter(pk=copy.pk).update(state="damaged", verification="damaged")
        self._span(copy, drawn, copy.completed_at, broke, broke)

    def _mended(self, copy: Copy, drawn: dict[str, Any], until: datetime) -> None:
        """Its bytes were carried again beside the damaged ones: it is stored once more, and that way is not charged."""
        broke = copy.completed_at + drawn["stays"] / 2
        again = broke + drawn["gap"]
        if again + DAY > self.now or broke == copy.completed_at:
            self._damaged(copy, drawn, until)
            return
        Copy.objects.filter(pk=copy.pk).update(expires_at=again + DAY, times_damaged=1)
        first = copy.copied_files.get()
        second = self._attempt(copy, first.file, f"{copy.pk}/again", 0, "verified", verified_at=again)
        Transfer.objects.filter(pk=second.pk).update(replaces=first.transfer)
        copy.copied_files.update(transfer=second)
        self._span(copy, drawn, copy.completed_at, broke, broke)
        self._span(copy, drawn, again, again + DAY, None)

    def _copied_anew(self, copy: Copy, drawn: dict[str, Any], until: datetime) -> None:
        """Its copy was damaged and has gone; what is brought again is stored, and its way is not charged."""
        again = until + drawn["gap"]
        if again > self.now:
            self._damaged(copy, drawn, until)
            return
        gone = {"state": "deleted", "expired_at": until, "deleted_at": until, "verification": "damaged"}
        Copy.objects.filter(pk=copy.pk).update(**gone)
        self._span(copy, drawn, copy.completed_at, until, until)
        state = {"state": "completed", "completed_at": again, "expires_at": again + DAY}
        second = self._row(drawn | {"faults": []}, copy.set, stored_bytes=copy.stored_bytes, **state)
        self._span(second, drawn, again, again + DAY, None)

    def _set_back(self, copy: Copy, drawn: dict[str, Any], until: datetime) -> None:
        """The clock was set back: the span would end before it began, and is empty."""
        Copy.objects.filter(pk=copy.pk).update(expires_at=copy.completed_at - drawn["gap"])
        self._span(copy, drawn, copy.completed_at, copy.completed_at, copy.completed_at)

    def download(self, drawn: tuple[datetime, int, int, str]) -> None:
        at, home, size, address = drawn
        if at > self.now:
            return
        link = f"{at.isoformat()}"
        download_of(self.ground.sets[home], at, size, address, link=link)
        with pytest.raises(IntegrityError), transaction.atomic():  # delivered twice, written once
            download_of(self.ground.sets[home], at, size, address, link=link)
        if address == "internet":
            self.model.downloads.append((at, home, size))

    def plan(self, drawn: tuple[datetime, int]) -> None:
        at, gigabytes = drawn
        if at > self.now:
            return
        NetworkPlan.objects.create(gigabytes=gigabytes, bought_at=at, valid_until=a_year_after(at))
        self.model.plans.append((at, gigabytes))


Told = dict[Key, tuple[int, int, int | None]]


def told(begin: datetime, at: datetime, ground: Ground, only: Instance | None = None) -> Told:
    names = {ItemCode.STORAGE: "storage", ItemCode.TRAFFIC: "traffic", ItemCode.DOWNLOAD: "download"}
    homes = {instance.pk: number for number, instance in enumerate(ground.instances)}
    return {
        (names[line.item], homes[line.instance_id], *line.route): (
            line.quantity,
            line.charged,
            None if line.amount is None else int(line.amount * 100),
        )
        for line in statements.statement(begin, at, only and Instance.objects.filter(pk=only.pk)).lines
        if line.quantity
    }


def hold(ground: Ground, drawn: dict[str, Any]) -> None:
    """Write the facts up to a moment in a drawn order, close what is due, and hold every month against the model.

    What stands in a closed month stays; facts of the open one that come afterwards change that one only.
    """
    now = APRIL + timedelta(hours=7) + drawn["late"] * DAY
    writer = Writer(ground, Model(), now)
    facts = [
        *((writer.copy, one) for one in drawn["copies"]),
        *((writer.download, one) for one in drawn["downloads"]),
        *((writer.plan, one) for one in drawn["plans"]),
    ]
    Random(drawn["order"]).shuffle(facts)
    for write, fact in facts:
        write(fact)
    expected = {begin: writer.model.lines(begin, min(month_end(begin), now)) for begin in (FEB, MARCH, APRIL)}
    assert {begin: told(begin, now, ground) for begin in expected} == expected, "while all is open"
    each = [told(MARCH, now, ground, only) for only in ground.instances]
    assert each[0] | each[1] == expected[MARCH], "each instance by itself"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda: now)
        closing.close_due()
        closing.close_due()
    assert {begin: told(begin, now, ground) for begin in expected} == expected, "after closing"
    closed = {row.begins_at for row in ClosedStatement.objects.all()}
    StorageSpan.objects.filter(ended_at=None).update(ended_at=now)  # whatever happens later
    Copy.objects.update(expires_at=FEB)
    assert {begin: told(begin, MAY, ground) for begin in closed} == {begin: expected[begin] for begin in closed}


def month_end(begin: datetime) -> datetime:
    return {FEB: MARCH, MARCH: APRIL, APRIL: MAY}[begin]


def run(ground: Ground, how: settings) -> None:
    @how
    @given(drawn=worlds)
    def play(drawn: dict[str, Any]) -> None:
        with transaction.atomic():
            hold(ground, drawn)
            transaction.set_rollback(True)

    play()


QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
