"""The copies behind a line add up to it, to the last digit (R-4.1, R-4.2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backups.models import Copy, CopyState, StorageSpan
from billing import closing, drill_down
from billing.bills import counted_until
from billing.models import ItemCode
from billing.statements import Line, Statement, statement
from regions import clock
from tests.billing.facts import DAY, GB, START, backup_of, copy_of, download_of, instance_in, policy_of, reprice

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


def test_behind_a_download_stand_no_copies(copies: list[Copy]) -> None:
    download_of(copies[0].set, START)
    line = statement(MARCH, MAY).lines[-1]
    assert line.item == ItemCode.DOWNLOAD
    assert not drill_down.can_be_drilled(line)
