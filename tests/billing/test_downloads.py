"""What a download costs, before it and after it: quoted, charged once, audited (R-4.3, I17)."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import connection

from backups.models import Copy, Download, DownloadUse, Instance
from billing import audit, closing, statements
from billing import downloads as billed
from billing.models import DownloadCharge, ItemCode
from regions import clock
from tests.backups import world as worlds
from tests.backups.handing_out import body_of, completed
from tests.backups.time_machine import TimeMachine
from tests.backups.world import World
from tests.billing.facts import plan_of

SIZE = 100_000


@pytest.fixture
def world(tmp_path: Path, db: None) -> World:
    return worlds.make(tmp_path)


@pytest.fixture
def orders(world: World) -> Instance:
    instance = world.instance("orders")
    world.enable(instance)
    return instance


@pytest.fixture
def time_machine(monkeypatch: pytest.MonkeyPatch) -> TimeMachine:
    return TimeMachine(monkeypatch)


@pytest.fixture
def small_change(settings: object) -> None:
    """A GB of a thousand bytes, of which 250 are free: so that files of a test cost something."""
    settings.GB, settings.FREE_DOWNLOAD_GB = 1000, 250


def fetch(world: World, copy: Copy, address: str = "internet", *, until: int | None = None) -> Download:
    """Fetch every file of a copy, or only the first bytes of the first."""
    for one in billed.ask(copy, world.by, address, learnt=True):
        end = one.download.size if until is None else until
        billed.begin(one.link, 0, end, "192.0.2.9").end(end, end)
        if until is not None:
            break
    return Download.objects.order_by("-pk").first()


def breaches() -> list[str]:
    return list(audit.breaches_of_meters())


def test_what_was_quoted_is_what_is_charged(world: World, orders: Instance, small_change: None) -> None:
    """250 GB are free; the third hundred is half free, the fourth is not."""
    copy = completed(world, orders, body_of(SIZE))
    quoted, charged = [], []
    for _ in range(4):
        quoted.append(billed.quote(copy, clock.now()).amount)
        row = fetch(world, copy)
        charged.append(billed.fetched_of([row])[row.pk].amount)
    assert quoted == charged == [Decimal("0.00"), Decimal("0.00"), Decimal("6.25"), Decimal("12.50")]
    assert billed.quote(copy, clock.now()).free_left == 0
    assert [row.bytes for row in DownloadCharge.objects.all()] == [SIZE] * 4 and breaches() == []


def test_what_plans_would_cover_is_quoted_and_is_what_they_cover(
    world: World, orders: Instance, small_change: None
) -> None:
    """R-4.4, R-4.6: 50 GB exceed the quota, of which a plan of 30 GB covers 28.8; then it is used up."""
    copy = completed(world, orders, body_of(3 * SIZE))
    plan_of(30, clock.now())
    quoted = billed.quote(copy, clock.now())
    assert (quoted.charged_bytes, quoted.offset_bytes) == (50_000, 30_000 * 1_000_000 // 1_041_667)
    assert quoted.amount == Decimal("2.65")
    fetch(world, copy)
    at = clock.now()
    [line] = [line for line in statements.statement(at, at).lines if line.item == ItemCode.DOWNLOAD]
    assert (line.offset_bytes, line.amount) == (quoted.offset_bytes, quoted.amount)
    assert billed.quote(copy, clock.now()).offset_bytes == 0


def test_the_quota_is_of_an_instance_and_a_month(
    world: World, orders: Instance, small_change: None, time_machine: TimeMachine
) -> None:
    time_machine.at = datetime(2027, 1, 31, 23, 0, tzinfo=UTC)
    copy = completed(world, orders, body_of(3 * SIZE))
    fetch(world, copy)
    assert billed.quote(copy, clock.now()).free_left == 0
    other = world.instance("carts")
    world.enable(other)
    assert billed.quote(completed(world, other, body_of(SIZE)), clock.now()).free_left == 250_000
    time_machine.at = datetime(2027, 2, 1, 0, 0, tzinfo=UTC)
    assert billed.quote(copy, clock.now()).free_left == 250_000


def test_unfinished_and_internal_downloads_cost_nothing(world: World, orders: Instance, small_change: None) -> None:
    copy = completed(world, orders, body_of(4 * SIZE))
    unfinished = fetch(world, copy, until=4 * SIZE - 1)
    assert not DownloadCharge.objects.exists()
    inside = fetch(world, copy, "internal")
    assert inside.whole_at and DownloadCharge.objects.get().address == "internal"
    assert billed.fetched_of([unfinished, inside]) == {}
    assert billed.quote(copy, clock.now()).free_left == 250_000 and breaches() == []


def test_stripes_are_quoted_together_and_charged_one_by_one(world: World, orders: Instance, small_change: None) -> None:
    copy = completed(world, orders, body_of(2 * SIZE), body_of(SIZE))
    quoted = billed.quote(copy, clock.now())
    assert (quoted.bytes, quoted.charged_bytes, quoted.amount) == (3 * SIZE, 50_000, Decimal("6.25"))
    fetch(world, copy)
    found = billed.fetched_of(Download.objects.all())
    assert sum(one.amount for one in found.values()) == quoted.amount and len(found) == 2


def test_the_last_byte_and_the_charge_are_one(world: World, orders: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = completed(world, orders, body_of(SIZE))
    [one] = billed.ask(copy, world.by, "internet", learnt=True)
    meter = billed.begin(one.link, 0, SIZE, "")
    with monkeypatch.context() as broken:
        broken.setattr(billed, "charge", lambda download: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            meter.end(SIZE, SIZE)
    assert Download.objects.get().delivered_bytes == 0
    meter.end(SIZE, SIZE)
    meter.end(SIZE, SIZE)
    assert Download.objects.get().whole_at and DownloadCharge.objects.count() == 1


def test_a_download_whose_machine_died_is_settled_later(world: World, orders: Instance) -> None:
    """Another machine's process cannot be asked: it is taken for dead once it was silent."""
    copy = completed(world, orders, body_of(SIZE))
    [one] = billed.ask(copy, world.by, "internet", learnt=True)
    billed.begin(one.link, 0, SIZE, "").count(10, 10)
    DownloadUse.objects.update(served_by="another-machine:1")
    rest = billed.begin(one.link, 60_000, SIZE, "")
    rest.end(SIZE, SIZE)
    assert billed.settle() == 0 and not DownloadCharge.objects.exists()
    DownloadUse.objects.filter(ended_at=None).update(seen_at=clock.now() - timedelta(minutes=6))
    assert billed.settle() == 1 and DownloadCharge.objects.get().bytes == SIZE
    assert billed.settle() == 0 and breaches() == []


def test_the_audit_finds_a_charge_that_no_meter_bears_out(world: World, orders: Instance) -> None:
    row = fetch(world, completed(world, orders, body_of(SIZE)))
    Download.objects.filter(pk=row.pk).update(whole_at=None)
    assert any(f"download {row.pk} is" in said for said in breaches())
    Download.objects.filter(pk=row.pk).update(whole_at=row.whole_at, ranges=[[0, SIZE - 1]])
    assert any("not those of its stretches" in said for said in breaches())
    other = fetch(world, row.copy, until=SIZE - 1)
    Download.objects.filter(pk=other.pk).update(delivered_bytes=SIZE, ranges=[[0, SIZE]], whole_at=clock.now())
    assert any(f"download {other.pk} is" in said for said in breaches())


def test_a_charge_of_today_goes_into_no_closed_month(world: World, orders: Instance, time_machine: TimeMachine) -> None:
    """Begun in January, whole in February: it is of February."""
    time_machine.at = datetime(2027, 1, 31, 23, 50, tzinfo=UTC)
    copy = completed(world, orders, body_of(SIZE))
    fetch(world, copy, until=10)
    time_machine.at = datetime(2027, 2, 3, tzinfo=UTC)
    assert closing.close_due()
    fetch(world, copy)
    assert DownloadCharge.objects.get().at == clock.now()


@pytest.mark.django_db(transaction=True)
def test_stretches_that_end_while_others_begin_wait_for_each_other_and_charge_once(
    tmp_path: Path, transactional_db: None
) -> None:
    """A new answer locks the copy, the last byte's charge refers to it: neither may wait for the other in a circle."""
    world = worlds.make(tmp_path)
    instance = world.instance("orders")
    world.enable(instance)
    copy, failures = completed(world, instance, body_of(400)), []

    def fetch(first: int) -> None:
        try:
            for end in range(first + 20, first + 101, 20):
                billed.begin(one.link, end - 20, end, "").end(end, end)
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    for round_ in range(1, 4):
        [one] = billed.ask(copy, world.by, "internet", learnt=True)
        threads = [threading.Thread(target=fetch, args=(first,)) for first in (0, 100, 200, 300, 0, 300)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == [] and DownloadCharge.objects.count() == round_
