"""Discovery through msdb, and what it and the store know of each other (R-8.3, R-9.4)."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from backups.engines.facts import Connection, Kind, Method
from backups.engines.sqlserver.connecting import session
from backups.engines.sqlserver.history import Device, HistorySet, read_history, union, whole_history
from backups.engines.sqlserver.reconciling import (
    DIFFERENTIAL_BASE,
    LOG_CHAIN,
    SAME_IN_BOTH,
    breakers,
    differences,
    reconcile,
)
from demo import mtf
from demo.tds import SimulatedMachine, SimulatedServer
from demo.tds.machine import Family
from tests.engines.sqlserver.conftest import SHARE, reach
from tests.engines.sqlserver.distant import Distant

MONDAY = datetime(2026, 11, 2, 1, 0, tzinfo=UTC)


def back_up(connection: Connection, machine: SimulatedMachine, *statements: str) -> None:
    with session(connection) as opened:
        for statement in statements:
            machine.database("Orders").work()
            opened.run(statement)


FULL = f"BACKUP DATABASE [Orders] TO DISK = N'{SHARE}\\f.bak' WITH FORMAT, CHECKSUM"
LOG = f"BACKUP LOG [Orders] TO DISK = N'{SHARE}\\l.trn' WITH FORMAT, CHECKSUM"
TO_NOWHERE = "BACKUP LOG [Orders] TO DISK = N'NUL' WITH NAME = N'weekly shrink'"


def stored(machine: SimulatedMachine) -> list:
    files = sorted(machine.shares[SHARE].iterdir())
    return [facts for path in files for facts in Distant(path.read_bytes()).inspect().sets]


# ---- reading


def test_msdb_and_the_header_tell_the_same_of_every_kind(connection: Connection, machine: SimulatedMachine) -> None:
    machine.time_zone = -14
    striped = ", ".join(f"DISK = N'{SHARE}\\s{n}.bak'" for n in (1, 2))
    back_up(
        connection,
        machine,
        FULL,
        LOG,
        f"BACKUP DATABASE [Orders] TO DISK = N'{SHARE}\\d.dif' WITH FORMAT, CHECKSUM, DIFFERENTIAL",
        f"BACKUP DATABASE [Orders] TO {striped} WITH FORMAT, CHECKSUM, COPY_ONLY",
        f"BACKUP DATABASE [Orders] TO DISK = N'{SHARE}\\c.bak' WITH FORMAT, COMPRESSION",
    )
    page = read_history(connection)
    assert [one.facts.kind for one in page.sets] == [Kind.FULL, Kind.LOG, Kind.DIFFERENTIAL, Kind.FULL, Kind.FULL]
    read = {facts.set_guid: facts for facts in stored(machine)}
    for one in page.sets:
        assert differences(one.facts, read[one.facts.set_guid]) == ()
        assert one.facts.started_at == read[one.facts.set_guid].started_at, "in UTC, whatever the server's zone"
        assert one.facts.compressed == read[one.facts.set_guid].compressed
    assert [device.name for device in page.sets[3].devices] == [f"{SHARE}\\s1.bak", f"{SHARE}\\s2.bak"]
    assert page.cursor == 5 and page.is_last and not page.left_out
    result = reconcile(page.sets, stored(machine))
    assert len(result.agreeing) == 5 and not result.not_in_store and not result.contradicting


def test_ten_thousand_rows_are_read_by_cursor_in_pages_that_cut_no_set(
    machine: SimulatedMachine, connection: Connection
) -> None:
    full = mtf.full("Orders", started_at=MONDAY)
    for number in range(10_000):
        families = tuple(Family(f"x{number}_{n}.bak", 2, n) for n in range(1, 4 if number % 100 == 99 else 2))
        machine.remember(replace(full, set_guid=uuid4()), families, "sa")
    began = time.monotonic()
    found = list(whole_history(connection))
    assert [one.number for one in found] == list(range(1, 10_001))
    assert all(len(one.devices) == one.facts.family_count for one in found)
    assert {len(one.devices) for one in found} == {1, 3}
    assert time.monotonic() - began < 120
    page = read_history(connection, after=9_990, most=4)
    assert [one.number for one in page.sets] == [9_991, 9_992, 9_993, 9_994] and not page.is_last
    striped = read_history(connection, after=9_898, most=2).sets[-1]
    assert striped.number == 9_900 and len(striped.devices) == 3, "the page ends behind its last set's stripes"
    assert read_history(connection, after=10_000).sets == ()


def test_what_is_not_known_is_left_out_with_its_reason_and_the_cursor_goes_on(
    machine: SimulatedMachine, connection: Connection
) -> None:
    full = mtf.full("Orders", started_at=MONDAY)
    machine.remember(full, (Family("a.bak"),), "sa", time_zone=None)
    machine.remember(replace(full, set_guid=uuid4()), (Family("b.bak"),), "sa", is_snapshot=True, is_damaged=True)
    page = read_history(connection)
    (found,) = page.sets
    assert found.facts.method is Method.SNAPSHOT and found.is_damaged
    (why,) = page.left_out
    assert "time zone" in why and "Backup set 1 of Orders" in why
    assert page.cursor == 2


def test_a_history_that_began_anew_is_read_from_its_beginning(
    machine: SimulatedMachine, connection: Connection
) -> None:
    back_up(connection, machine, FULL)
    page = read_history(connection, after=500)
    assert page.began_anew and [one.number for one in page.sets] == [1]
    assert not read_history(connection, after=1).began_anew


def test_replicas_of_a_group_are_one_history(machine: SimulatedMachine, connection: Connection) -> None:
    back_up(connection, machine, FULL)
    other = SimulatedMachine("SQL-SIM-2")
    other.accounts = machine.accounts
    first = machine.history[0].backup
    for backup in (first, mtf.log(first, first=first.first, last=first.last + 10**15, started_at=datetime.now(UTC))):
        other.remember(backup, (Family("there.bak"),), "sa")
    with SimulatedServer(other) as replica:
        both = union([whole_history(connection), whole_history(reach(replica))])
    assert [one.facts.kind for one in both] == [Kind.FULL, Kind.LOG]
    assert both[0].devices[0].name == f"{SHARE}\\f.bak", "the first one that names a set is believed"


# ---- reconciling


def test_what_is_missing_on_either_side_is_named(connection: Connection, machine: SimulatedMachine) -> None:
    striped = ", ".join(f"DISK = N'{SHARE}\\s{n}.bak'" for n in (1, 2))
    back_up(connection, machine, FULL, LOG, f"BACKUP DATABASE [Orders] TO {striped} WITH FORMAT, COPY_ONLY")
    page = read_history(connection)
    folder = machine.shares[SHARE]
    (folder / "l.trn").unlink()
    (folder / "s2.bak").unlink()
    foreign = mtf.full("Elsewhere", server="OTHER")
    (folder / "z.bak").write_bytes(mtf.file_of(foreign))
    result = reconcile(page.sets, stored(machine))
    assert [one.number for one in result.agreeing] == [1]
    assert [one.number for one in result.not_in_store] == [2, 3], "a set without all its stripes is not there"
    assert [facts.database for facts in result.not_in_history] == ["Elsewhere"]


@pytest.mark.parametrize("field", [name for name in SAME_IN_BOTH if name not in ("kind", "is_copy_only")])
def test_a_set_that_is_told_differently_is_a_contradiction(
    connection: Connection, machine: SimulatedMachine, field: str
) -> None:
    back_up(connection, machine, FULL)
    (one,) = read_history(connection).sets
    (facts,) = stored(machine)
    changed = replace(facts, **{field: "other" if isinstance(getattr(facts, field), str) else 99})
    (found,) = reconcile([one], [changed]).contradicting
    assert found.fields == (field,)
    assert not reconcile([one], [facts]).contradicting


def test_who_broke_the_log_chain_is_named_with_job_device_and_minute(
    connection: Connection, machine: SimulatedMachine
) -> None:
    back_up(connection, machine, FULL, LOG, TO_NOWHERE, LOG.replace("l.trn", "m.trn"))
    history = read_history(connection).sets
    (broke,) = breakers(history, [facts.set_guid for facts in stored(machine)])
    assert broke.lost == LOG_CHAIN and broke.taken.number == 3
    minute = f"{machine.history[2].backup.finished_at:%Y-%m-%d %H:%M} UTC"
    assert minute in broke.sentence and "weekly shrink" in broke.sentence
    assert "to NUL" in broke.sentence and "user farshore" in broke.sentence


def _log(number: int, *, device: Device, copy_only: bool = False, kind: Kind = Kind.LOG) -> HistorySet:
    full = mtf.full("Orders", started_at=MONDAY)
    described = mtf.log(full, first=full.last, last=full.last + 10**15, started_at=MONDAY + timedelta(hours=number))
    (facts,) = Distant(mtf.file_of(described)).inspect().sets
    return HistorySet(number, replace(facts, kind=kind, is_copy_only=copy_only, set_guid=f"g{number}"), (device,), "sa")


DISK, TAPE_OF_A_TOOL = Device(1, "D:\\x.trn", 2), Device(1, "{5A1C}3", 7)


@pytest.mark.parametrize(
    ("sets", "held", "lost"),
    [
        ([_log(1, device=TAPE_OF_A_TOOL)], [], [LOG_CHAIN]),
        ([_log(1, device=Device(1, "x", 107))], [], [LOG_CHAIN]),
        ([_log(1, device=TAPE_OF_A_TOOL, copy_only=True)], [], []),
        ([_log(1, device=TAPE_OF_A_TOOL, kind=Kind.FULL)], [], [DIFFERENTIAL_BASE]),
        ([_log(1, device=TAPE_OF_A_TOOL, kind=Kind.DIFFERENTIAL)], [], []),
        ([_log(1, device=TAPE_OF_A_TOOL)], ["g1"], []),
        ([_log(1, device=DISK)], [], []),  # it may still be found
        ([_log(1, device=DISK), _log(2, device=DISK)], ["g2"], [LOG_CHAIN]),
        ([_log(1, device=DISK), _log(2, device=DISK)], ["g1"], []),
    ],
)
def test_only_what_nobody_here_can_restore_breaks_a_chain(sets: list, held: list, lost: list) -> None:
    assert [found.lost for found in breakers(sets, held)] == lost
