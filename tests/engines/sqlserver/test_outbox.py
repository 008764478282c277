"""What earlier attempts left in the share: whose it is, whether it is whole, and who may touch it (I15)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from backups.engines.facts import Attempt, Connection, DatabaseOrder, Kind, Share, SharedBackup
from backups.engines.sqlserver.outbox import take_database
from demo.tds import SimulatedMachine
from regions.refusals import Refusal
from tests.engines.sqlserver.conftest import until
from tests.engines.sqlserver.test_taking import Background, is_running

FIRST = Attempt("rm-abc-9", 17, 1, datetime(2026, 11, 27, 13, 0, 5, tzinfo=UTC))
SECOND = replace(FIRST, number=2, began_at=datetime(2026, 11, 27, 13, 9, 0, tzinfo=UTC))
Take = Callable[..., SharedBackup]


@pytest.fixture
def taken(connection: Connection, share: Share) -> Take:
    def take(attempt: Attempt, kind: Kind = Kind.LOG, known: tuple[str, ...] = (), **more: object) -> SharedBackup:
        order = DatabaseOrder("Orders", kind, compress=False, attempt=attempt, **more)
        return take_database(connection, order, share, is_known=known.__contains__)

    return take


@pytest.fixture
def left(taken: Take, machine: SimulatedMachine) -> SharedBackup:
    """A log that the first attempt took and nobody recorded; more was written since."""
    full = taken(replace(FIRST, job=1), Kind.FULL)
    machine.database("Orders").work()
    log = taken(FIRST, known=(full.facts.set_guid,))
    machine.database("Orders").work()
    return log


def names(share: Share) -> list[str]:
    return sorted(os.listdir(share.folder))


@pytest.mark.parametrize(
    "said", ["", "rm", "rm-1-2", "a-1-2-20261301T000000Z", "a-1-2-20261127T130005", "a-١-2-20261127T130005Z"]
)
def test_only_what_an_attempt_wrote_is_read_as_one(said: str) -> None:
    assert Attempt.from_name(str(FIRST)) == FIRST
    assert Attempt.from_name(said) is None


def test_a_log_that_was_left_is_given_out_before_another_is_taken(
    taken: Take, left: SharedBackup, machine: SimulatedMachine
) -> None:
    again = taken(SECOND)
    assert again.left_by == FIRST and again.facts == left.facts and again.files == left.files
    assert len(machine.history) == 2
    own = taken(SECOND, known=(left.facts.set_guid,))
    assert own.left_by is None and own.facts.first_position == left.facts.last_position


def test_of_several_the_oldest_comes_first(taken: Take, left: SharedBackup, share: Share) -> None:
    later = taken(SECOND, known=(left.facts.set_guid,))
    assert left.files[0] not in names(share), "it is recorded"
    third = replace(SECOND, job=18)
    assert taken(third).files == later.files


@pytest.mark.parametrize("changes", [{"owner": "rm-abc-8"}, {"owner": "rm-abc"}])
def test_another_instances_files_are_not_ours(
    taken: Take, left: SharedBackup, machine: SimulatedMachine, changes: dict
) -> None:
    assert taken(replace(SECOND, **changes)).left_by is None
    assert len(machine.history) == 3


def test_a_full_does_not_wait_for_a_log_nor_a_database_for_another(
    taken: Take, left: SharedBackup, machine: SimulatedMachine, share: Share, connection: Connection
) -> None:
    full = next(name for name in names(share) if "_full_" in name)
    assert taken(replace(SECOND, job=18), Kind.FULL).files == (full,), "a full is given out for a full"
    machine.add("Ord_rs")
    order = DatabaseOrder("Ord_rs", Kind.FULL, compress=False, attempt=SECOND)
    assert take_database(connection, order, share, is_known=lambda _: False).facts.database == "Ord_rs"
    machine.add("Ord rs")  # looks the same in a file's name
    order = DatabaseOrder("Ord rs", Kind.FULL, compress=False, attempt=replace(SECOND, job=19))
    found = take_database(connection, order, share, is_known=lambda _: False)
    assert (found.facts.database, found.left_by) == ("Ord rs", None)


def test_what_another_replica_took_is_believed_when_it_is_whole(
    taken: Take, left: SharedBackup, machine: SimulatedMachine
) -> None:
    machine.history.clear()
    assert taken(SECOND).facts.set_guid == left.facts.set_guid


def test_a_log_that_nobody_can_read_here_is_left_where_it_is(
    taken: Take, left: SharedBackup, machine: SimulatedMachine, share: Share
) -> None:
    machine.version = (17, 0, 1000)  # 2025, whose headers nobody has seen here
    unread = taken(SECOND, known=(left.facts.set_guid,))
    assert taken(replace(SECOND, number=3)).facts.set_guid == unread.facts.set_guid, "msdb names it"
    machine.history.clear()
    taken(replace(SECOND, number=3))
    assert unread.files[0] in names(share)


def test_without_sight_of_the_server_half_a_file_stays_for_a_day(
    taken: Take, left: SharedBackup, machine: SimulatedMachine, share: Share
) -> None:
    half = share.folder / left.files[0].replace(str(FIRST), str(replace(FIRST, number=0)))
    half.write_bytes(b"TAPE" + bytes(9000))
    machine.accounts["farshore"].sees_state = False
    assert taken(SECOND).facts == left.facts and half.exists()
    os.utime(half, (time.time() - 90_000,) * 2)
    taken(SECOND)
    assert not half.exists()


def test_whoever_lost_the_job_leaves_the_later_attempt_alone(
    taken: Take, machine: SimulatedMachine, share: Share
) -> None:
    machine.database("Orders").pages, machine.pace = 2048, 8 << 20
    later = Background(lambda: taken(SECOND, Kind.FULL))
    until(lambda: is_running(machine) and names(share))
    with pytest.raises(Refusal) as refused:
        taken(FIRST, Kind.FULL)
    assert refused.value.code == "BackupRunning"
    later.join(30)
    assert later.result.facts.database == "Orders" and names(share) == list(later.result.files)
