"""Suspending a database for a snapshot, over the wire: what is asked, in which session, and that it ends (R-7)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backups.engines.facts import Attempt, Connection, DatabaseFile, Kind, Method, Stopped
from backups.engines.sqlserver import suspending
from backups.engines.sqlserver.connecting import session
from backups.engines.sqlserver.suspending import snapshot_database, thaw_database
from backups.engines.sqlserver.taking import Order, Share, take
from demo.tds import SimulatedMachine
from regions.refusals import Refusal
from tests.engines.sqlserver.conftest import until
from tests.engines.sqlserver.test_taking import ODD_NAME

ATTEMPT = Attempt("rm-x", 7, 3, datetime(2026, 11, 27, 13, 0, tzinfo=UTC))


@pytest.fixture
def machine(machine: SimulatedMachine) -> SimulatedMachine:
    machine.version = (16, 0, 1000)
    return machine


def snapshot(connection: Connection, order: Order, share: Share, **more: Any) -> tuple[Any, list[str]]:
    told: list[str] = []
    usual = {
        "journal": lambda name: told.append(f"journal {Path(name).suffix}"),
        "freeze": lambda files, seconds: told.append(f"freeze {len(files)}"),
        "thawed": lambda: told.append("thawed"),
        "seconds": 20,
    }
    return snapshot_database(connection, order, share, **usual | more), told


@pytest.mark.parametrize("name", ["Orders", ODD_NAME, "'; DROP DATABASE x; --", "[a].[b]", "数据库"])
def test_it_is_journaled_suspended_frozen_recorded_and_thawed_whatever_it_is_called(
    connection: Connection, machine: SimulatedMachine, share: Share, name: str
) -> None:
    database = machine.database(name) or machine.add(name)
    seen: list[tuple[bool, tuple[DatabaseFile, ...]]] = []
    found, told = snapshot(
        connection, Order(name), share, freeze=lambda files, _: seen.append((bool(database.suspension), files))
    )
    assert told == ["journal .bkm", "thawed"] and not database.suspension
    [(was_suspended, files)] = seen
    assert was_suspended and [(file.file_id, file.kind) for file in files] == [(1, "data"), (2, "log")]
    assert found.facts.method is Method.SNAPSHOT and found.facts.database == name
    assert found.facts.size_bytes == sum(file.size_bytes for file in files)
    assert (found.facts.family_count, machine.history[-1].is_snapshot) == (3, True)
    assert (share.folder / found.files[0]).stat().st_size < 65_536, "its metadata, and none of its data"


def test_logs_and_differentials_follow_it_and_a_copy_only_one_is_no_base(
    connection: Connection, machine: SimulatedMachine, share: Share
) -> None:
    full, _ = snapshot(connection, Order("Orders"), share)
    machine.database("Orders").work()
    copy_only, _ = snapshot(connection, Order("Orders", copy_only=True), share)
    assert copy_only.facts.is_copy_only and not full.facts.is_copy_only
    log = take(connection, Order("Orders", Kind.LOG), share).facts
    assert full.facts.first_position <= log.first_position <= full.facts.last_position < log.last_position
    assert take(connection, Order("Orders", Kind.DIFFERENTIAL), share).facts.base_guid == full.facts.set_guid


@pytest.mark.parametrize("error", [Refusal("No", "No.", ""), Stopped(), KeyError("a surprise"), KeyboardInterrupt()])
def test_whatever_goes_wrong_while_it_is_suspended_it_is_thawed_and_that_is_what_is_said(
    connection: Connection, machine: SimulatedMachine, share: Share, error: BaseException
) -> None:
    thawed: list[bool] = []

    def failing(*_: Any) -> None:
        assert machine.database("Orders").suspension
        raise error

    with pytest.raises(type(error)):
        snapshot(connection, Order("Orders"), share, freeze=failing, thawed=lambda: thawed.append(True))
    assert thawed == [True] and not machine.database("Orders").suspension and not machine.history


def test_what_is_frozen_too_late_is_not_recorded(
    connection: Connection, machine: SimulatedMachine, share: Share
) -> None:
    def slow(*_: Any) -> None:
        until(lambda: not machine.database("Orders").suspension)

    with pytest.raises(Refusal) as refused:
        snapshot(connection, Order("Orders"), share, freeze=slow, seconds=0.5)
    assert refused.value.code == "SuspendedTooLong" and not machine.history


def test_folders_full_of_files_are_refused_before_anything_waits(
    connection: Connection, machine: SimulatedMachine, share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspending, "KINDS", {0: "data"})  # as of a file of a kind that is not known
    journaled: list[str] = []
    with pytest.raises(Refusal) as refused:
        snapshot(connection, Order("Orders"), share, journal=journaled.append)
    assert refused.value.code == "FilesInFolders" and not journaled


@pytest.mark.parametrize("is_unaware", [False, True])
def test_what_a_dead_attempt_left_suspended_is_thawed_by_anybody_and_what_others_suspended_is_not(
    connection: Connection, machine: SimulatedMachine, is_unaware: bool
) -> None:
    orders, machine.is_unaware = machine.database("Orders"), is_unaware
    order = Order("Orders", attempt=ATTEMPT)
    with session(connection, f"Farshore {ATTEMPT}") as dead:
        dead.run("ALTER DATABASE [Orders] SET SUSPEND_FOR_SNAPSHOT_BACKUP = ON")
        if is_unaware:
            dead.shut()
        thaw_database(connection, order)
        assert not orders.suspension
    for program in (f"Farshore {ATTEMPT}1", "Their tool"):  # of another attempt, and of somebody else
        with session(connection, program) as theirs:
            theirs.run("ALTER DATABASE [Orders] SET SUSPEND_FOR_SNAPSHOT_BACKUP = ON")
            thaw_database(connection, order)
            assert orders.suspension
            theirs.run("ALTER DATABASE [Orders] SET SUSPEND_FOR_SNAPSHOT_BACKUP = OFF")
    thaw_database(connection, order)
