"""The copies, or the downloads, behind a line add up to it, to the last digit (R-4.1, R-4.2, R-4.3)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

import pytest

from backups.models import BackupSet, Copy, CopyState, StorageSpan
from billing import closing, drill_down
from billing.bills import counted_until
from billing.models import DownloadCharge, ItemCode
from billing.statements import Line, Statement, statement
from regions import clock
from tests.billing.facts import (
    DAY,
    GB,
    START,
    backup_of,
    copy_of,
    download_of,
    instance_in,
    plan_of,
    policy_of,
    reprice,
)

pytestmark = pytest.mark.django_db

MARCH, APRIL, MAY = (datetime(2027, number, 1, tzinfo=UTC) for number in (3, 4, 5))
ODD = timedelta(microseconds=987_654)


@pytest.fixture
def copies() -> list[Copy]:
    """Copies that begin and end at odd moments, within the month and across its edges, over a change of price."""
    instance = instance_in()
    policy = policy_of(instance)
    reprice(ItemCode.STORAGE, ("0.0002", START - 90 * DAY, START + 3 * DAY), ("0.0003", START + 3 * DAY, None))
    found = [
        copy_of(backup_of(instance, START - 20 * DAY + ODD, 7 * GB + 11), policy, days=15),
        copy_of(backup_of(instance, START + ODD, 5 * GB + 13), policy, days=2.37),
        copy_of(backup_of(instance, START + DAY, 3 * GB + 17), policy, days=60),
        copy_of(backup_of(instance, START + 20 * DAY + 3 * ODD, 2**41 + 1), policy, days=90),
        copy_of(backup_of(instance, START + 2 * DAY, 0), policy, days=60),  # appended: the first of its file carries it
    ]
    held = copy_of(backup_of(instance, START + 4 * DAY, GB + 1), policy)
    Copy.objects.filter(pk=held.pk).update(expires_at=None)
    _again(found[2])
    return [*found, held]


def _again(copy: Copy) -> None:
    """Its charge stops for a day: as a level-2 copy that is hidden and shown again."""
    until = copy.completed_at + 2 * DAY + ODD
    StorageSpan.objects.filter(copy=copy).update(ended_at=until)
    StorageSpan.objects.create(copy=copy, bytes=copy.stored_bytes, began_at=until + DAY)


def drilled(found: Statement, line: Line, **page: int) -> drill_down.Behind:
    return drill_down.copies_behind(line, found.begin, counted_until(found), **page)


@pytest.mark.parametrize("at", [MARCH + 20 * DAY + ODD, APRIL, MAY], ids=["so far", "over", "long over"])
@pytest.mark.parametrize("month", [MARCH, APRIL])
def test_copies_add_up_to_their_line(copies: list[Copy], month: datetime, at: datetime) -> None:
    found = statement(month, max(at, month + DAY))
    lines = [line for line in found.lines if drill_down.can_be_drilled(line)]
    assert lines
    for line in lines:
        behind = drilled(found, line)
        assert behind.quantity == line.quantity
        assert sum(part.quantity for part in behind.parts) == line.quantity
        assert behind.copies == len(behind.parts)


def test_a_closed_line_has_the_same_copies(copies: list[Copy], monkeypatch: pytest.MonkeyPatch) -> None:
    before = statement(MARCH, APRIL)
    monkeypatch.setattr(clock, "now", lambda: APRIL + DAY)
    assert closing.close_due() > 0
    closed = statement(MARCH, MAY)
    assert closed.closed_at
    for line in closed.lines:
        assert drilled(closed, line) == drilled(before, line)
        assert drilled(closed, line).quantity == line.quantity


def test_each_copy_tells_from_when_until_when_it_was_charged(copies: list[Copy]) -> None:
    found = statement(MARCH, MAY)
    storage, traffic = found.lines
    told = {part.copy_id: part for part in drilled(found, storage).parts}
    assert told[copies[0].pk].began_at == MARCH
    assert told[copies[0].pk].ended_at == copies[0].expires_at
    assert told[copies[3].pk].ended_at == APRIL
    assert copies[4].pk not in told
    arrived = {part.copy_id: part.ended_at for part in drilled(found, traffic).parts}
    assert arrived[copies[1].pk] == copies[1].completed_at
    assert copies[0].pk not in arrived  # it came in February


def test_pages_are_the_whole_list_the_largest_first(copies: list[Copy]) -> None:
    found = statement(MARCH, MAY)
    line = found.lines[0]
    whole = drilled(found, line)
    pages = [drilled(found, line, skip=skip, most=2) for skip in range(0, whole.copies, 2)]
    assert tuple(part for page in pages for part in page.parts) == whole.parts
    assert {(page.copies, page.quantity) for page in pages} == {(whole.copies, line.quantity)}
    assert [part.quantity for part in whole.parts] == sorted((part.quantity for part in whole.parts), reverse=True)
    assert drilled(found, line, skip=100, most=2) == pages[0]


def test_what_was_sent_again_for_a_damaged_copy_stands_behind_no_line(copies: list[Copy]) -> None:
    damaged = copies[1]
    gone = {"expired_at": START + DAY, "deleted_at": START + DAY}
    Copy.objects.filter(pk=damaged.pk).update(state=CopyState.DELETED, verification="damaged", **gone)
    replacement = copy_of(damaged.set, damaged.policy, damaged.completed_at + DAY)
    found = statement(MARCH, MAY)
    traffic = found.lines[1]
    behind = drilled(found, traffic)
    assert traffic.resent_bytes == replacement.stored_bytes
    assert behind.quantity == traffic.quantity
    assert replacement.pk not in {part.copy_id for part in behind.parts}


def test_another_instances_and_another_routes_copies_stay_out(copies: list[Copy]) -> None:
    other = instance_in(name="other")
    copy_of(backup_of(other, size=GB), policy_of(other))
    copy_of(backup_of(copies[0].set.instance, size=GB), policy_of(copies[0].set.instance, "cn-shanghai"))
    found = statement(MARCH, MAY)
    assert len([line for line in found.lines if line.item == ItemCode.STORAGE]) == 3
    for line in found.lines:
        assert drilled(found, line).quantity == line.quantity


# ---- downloads


@pytest.fixture
def small_change(settings: object) -> None:
    """A GB of a thousand bytes, of which 500 are free: so that few bytes cost something, and rounding shows."""
    settings.GB = 1000


@pytest.fixture
def fetched(small_change: None) -> BackupSet:
    """A month of downloads from two regions: small ones, two in one moment, two plans, and a price that changes."""
    half_way = START + 5 * DAY
    reprice(ItemCode.DOWNLOAD, ("0.125", MARCH - DAY, half_way), ("0.151", half_way, None), source="cn-beijing")
    found = backup_of(instance_in(), size=1)
    random = Random(17)
    for _ in range(40):
        at = START + random.random() * 15 * DAY
        region = random.choice(["cn-beijing", "ap-southeast-1"])
        for _ in range(random.choice([1, 1, 2])):
            download_of(found, at, random.choice([1, 37, 999, 20_003, 70_000]), region=region)
    download_of(found, half_way - timedelta(microseconds=1), 501_011)
    download_of(found, half_way, 10**7, address="internal")
    plan_of(70, START + 2 * DAY)
    plan_of(300, START + 9 * DAY)
    return found


def downloads_of(found: Statement, line: Line) -> drill_down.Downloads:
    return drill_down.downloads_behind(line, found.begin, counted_until(found))


def _of_downloads(found: Statement) -> list[Line]:
    return [line for line in found.lines if line.item == ItemCode.DOWNLOAD]


@pytest.mark.parametrize("at", [START + 4 * DAY + ODD, START + 12 * DAY, MAY], ids=["soon", "later", "over"])
def test_downloads_add_up_to_their_line(fetched: BackupSet, at: datetime) -> None:
    """R-4.3, R-4.4: bytes, the free quota's, the plans' and cents."""
    found = statement(MARCH, at)
    lines = _of_downloads(found)
    assert [line.source for line in lines] == ["ap-southeast-1", "cn-beijing"]
    for line in lines:
        behind = downloads_of(found, line)
        assert sum(one.bytes for one in behind.fetched) == line.quantity
        assert sum(one.free_bytes for one in behind.fetched) == line.free_bytes
        assert sum(one.offset_bytes for one in behind.fetched) == line.offset_bytes
        assert sum(one.charged for one in behind.fetched) == line.charged
        assert sum(one.amount for one in behind.fetched) == line.amount
        assert {one.price.amount for one in behind.fetched if one.charged} <= set(line.prices)
        assert behind.are(line)
    assert sum(len(downloads_of(found, line).fetched) for line in lines) == _charges(fetched, at)


def _charges(of: BackupSet, at: datetime) -> int:
    return DownloadCharge.objects.filter(set=of, address="internet", at__lt=at).count()


def test_a_closed_line_has_the_same_downloads(fetched: BackupSet, monkeypatch: pytest.MonkeyPatch) -> None:
    before = statement(MARCH, APRIL)
    monkeypatch.setattr(clock, "now", lambda: APRIL + DAY)
    assert closing.close_due() > 0
    closed = statement(MARCH, MAY)
    assert closed.closed_at
    for line in _of_downloads(closed):
        assert downloads_of(closed, line) == downloads_of(before, line)
        assert downloads_of(closed, line).are(line) and line.offset_bytes > 0


def test_each_download_says_what_it_took(small_change: None) -> None:
    """The quota goes to the first, a plan to what came while it held: not to what came before it was bought."""
    found = backup_of(instance_in(), size=1)
    for hours, size in enumerate([400_000, 200_000, 30_000, 1]):
        download_of(found, START + timedelta(hours=hours), size)
    plan_of(10, START + timedelta(hours=1, minutes=30))
    [line] = _of_downloads(statement(MARCH, MAY))
    behind = drill_down.downloads_behind(line, MARCH, APRIL)
    parts = [(one.free_bytes, one.offset_bytes, one.amount) for one in behind.fetched]
    covered = 10_000 * 1_000_000 // 1_041_667
    assert parts == [
        (400_000, 0, Decimal("0.00")),
        (100_000, 0, Decimal("12.50")),
        (0, covered, Decimal("2.55")),
        (0, 0, Decimal("0.00")),
    ]
    assert line.amount == Decimal("15.05")


def test_cents_too_small_for_one_download_are_not_lost(small_change: None) -> None:
    """Each of 0.4 cents: rounded one by one they would be nothing."""
    found = backup_of(instance_in(), size=1)
    download_of(found, START, 500_000)
    for hours in range(1, 8):
        download_of(found, START + timedelta(hours=hours), 32)
    [line] = _of_downloads(statement(MARCH, MAY))
    assert line.amount == Decimal("0.03")
    behind = drill_down.downloads_behind(line, MARCH, APRIL)
    assert [one.amount * 100 for one in behind.fetched] == [0, 0, 1, 0, 1, 0, 0, 1]


def test_a_download_without_a_price_has_none_and_neither_has_its_line(small_change: None) -> None:
    """R-4.5."""
    reprice(ItemCode.DOWNLOAD, ("0.125", MARCH, START + DAY), source="cn-beijing")
    reprice(ItemCode.DOWNLOAD, source_scope="mainland")
    found = backup_of(instance_in(), size=1)
    for days in range(3):
        download_of(found, START + days * DAY, 500_000)
    [line] = _of_downloads(statement(MARCH, MAY))
    behind = drill_down.downloads_behind(line, MARCH, APRIL)
    assert [one.amount for one in behind.fetched] == [Decimal("0.00"), None, None]
    assert line.amount is None and behind.amount is None and behind.are(line)


def test_what_is_missing_behind_a_line_is_noticed(fetched: BackupSet) -> None:
    found = statement(MARCH, MAY)
    for line in _of_downloads(found):
        behind = downloads_of(found, line)
        assert not drill_down.Downloads(behind.fetched[1:]).are(line)
        assert not behind.are(replace(line, amount=line.amount + Decimal("0.01")))
        assert not behind.are(replace(line, offset_bytes=line.offset_bytes - 1))
