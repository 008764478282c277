"""A landing server is looked at, and only what Farshore restored there is ever dropped (R-17.1, I20)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from backups.engines import ENGINES
from backups.engines.facts import Connection, Kind, LandedDatabase, LandedRequest, LandedSet
from backups.engines.sqlserver import drop_database, inspect_landing, restore_database
from backups.engines.sqlserver.connecting import session
from backups.engines.sqlserver.taking import Order, Share, take
from demo.tds import SimulatedMachine, SimulatedServer
from regions.refusals import Refusal
from tests.engines.sqlserver.conftest import SHARE, reach, until

MINE, OTHER = "rs-abc-1", "rs-xyz-1"


@pytest.fixture
def landing(machine: SimulatedMachine) -> SimulatedMachine:
    made = SimulatedMachine("SQL-LANDING")
    made.login("farshore", machine.accounts["farshore"].password)
    made.share(SHARE, machine.shares[SHARE])
    made.certificates["Vault"] = bytes.fromhex("AB12" * 10)
    return made


@pytest.fixture
def there(landing: SimulatedMachine) -> Iterator[Connection]:
    with SimulatedServer(landing) as running:
        yield reach(running)


def refused(work: Any, *args: Any, **more: Any) -> Refusal:
    with pytest.raises(Refusal) as found:
        work(*args, **more)
    return found.value


# ---- looking


def test_a_look_tells_version_names_certificates_and_room(
    there: Connection, landing: SimulatedMachine, share: Share
) -> None:
    landing.add("Sales")
    landing.free_bytes = 12345
    found = inspect_landing(there, share_called=SHARE, share_folder=share.folder)
    assert (found.version, found.certificates, found.bytes_free) == ("15.0.4430.1", ("ab12" * 10,), 12345)
    assert "Sales" in found.databases and "master" in found.databases and found.is_simulation
    assert not list(share.folder.iterdir()), "the proof is taken away again"


def test_a_share_that_is_not_the_same_is_refused_beside_its_field(
    there: Connection, share: Share, tmp_path: Path
) -> None:
    (tmp_path / "another").mkdir()
    found = refused(inspect_landing, there, share_called=SHARE, share_folder=tmp_path / "another")
    assert (found.code, found.field) == ("ShareNotSame", "share_called") and "cannot open" in found.sentence
    found = refused(inspect_landing, there, share_called=SHARE, share_folder=tmp_path / "nowhere")
    assert (found.code, found.field) == ("ShareNotHere", "share_folder")
    assert inspect_landing(there, share_called=SHARE, share_folder=share.folder)


def test_what_an_account_may_not_see_is_said_and_what_it_must_be_able_to_is_refused(
    there: Connection, landing: SimulatedMachine, share: Share
) -> None:
    account = landing.accounts["farshore"]
    account.sees_state = account.sees_keys = account.kills = False
    found = inspect_landing(there, share_called=SHARE, share_folder=share.folder)
    assert (found.bytes_free, found.certificates) == (None, ())
    assert "VIEW SERVER STATE" in found.notes[-1] and "ALTER ANY CONNECTION" in found.notes[-2]
    account.creates = False
    found = refused(inspect_landing, there, share_called=SHARE, share_folder=share.folder)
    assert (found.code, found.field) == ("MayNotCreate", "username")
    landing.version = (12, 0, 1)
    assert refused(inspect_landing, there, share_called=SHARE, share_folder=share.folder).code == "TooOld"


def test_only_sql_server_restores_on_a_landing_server() -> None:
    offered = {name for name, engine in ENGINES.items() if engine.restore_database and engine.inspect_landing}
    assert offered == {"sqlserver"} == {name for name, engine in ENGINES.items() if engine.drop_database}


# ---- restoring and dropping


@pytest.fixture
def full(connection: Connection, machine: SimulatedMachine, share: Share) -> LandedSet:
    found = take(connection, Order("Orders", Kind.FULL, compress=False), share)
    (share.folder / MINE).mkdir()
    (share.folder / found.files[0]).rename(share.folder / MINE / "1.bak")
    return LandedSet(found.facts, (f"{MINE}/1.bak",))


def restored(there: Connection, full: LandedSet, name: str = "Back", **more: Any) -> LandedDatabase:
    return restore_database(there, LandedRequest(name, MINE, SHARE, (full,), **more))


def test_a_database_is_known_by_its_files_and_dropped_with_its_sessions(
    there: Connection, landing: SimulatedMachine, full: LandedSet
) -> None:
    told: list[tuple] = []
    found = restored(there, full, progress=lambda *said: told.append(said))
    assert [file.rpartition("_")[0] for file in landing.database("Back").files.values()] == [
        f"D:\\data\\Back_{MINE}",
        f"L:\\log\\Back_{MINE}",
    ]
    assert found.restored_until == full.facts.finished_at and set(found.seconds) == {"full", "recover"}
    assert told[0] == ("full", 0, full.facts.size_bytes) and told[-1] == ("recover", 0, None)
    with session(there) as somebody:
        somebody.run("USE [Back]")
        assert drop_database(there, "Back", markers=[MINE], identity=found.identity)
    assert landing.database("Back") is None
    assert not drop_database(there, "Back", markers=[MINE]), "once more changes nothing"


def test_no_other_database_is_ever_dropped(there: Connection, landing: SimulatedMachine, full: LandedSet) -> None:
    theirs = landing.add("Back")
    assert not drop_database(there, "Back", markers=[MINE]) and landing.database("Back") is theirs
    assert refused(restored, there, full).code == "NameTaken" and landing.database("Back") is theirs
    shipped = landing.add("Shipped", state="RESTORING")
    assert not drop_database(there, "Shipped", markers=[MINE]) and landing.database("Shipped") is shipped

    found = restored(there, full, "Mine")
    assert not drop_database(there, "Mine", markers=[OTHER]), "another attempt's"
    landing.database("Mine").fork_guid = None  # somebody restored a backup of their own over it
    assert not drop_database(there, "Mine", markers=[MINE], identity=found.identity)
    assert landing.database("Mine") and drop_database(there, "Mine", markers=[MINE]), "known by its files alone"


def test_where_the_fork_cannot_be_seen_the_day_it_was_created_tells(
    there: Connection, landing: SimulatedMachine, full: LandedSet
) -> None:
    found = restored(there, full)
    landing.accounts["farshore"].sees_state = False
    made = landing.database("Back").created
    landing.database("Back").created = landing.database("master").created
    assert not drop_database(there, "Back", markers=[MINE], identity=found.identity)
    landing.database("Back").created = made
    assert drop_database(there, "Back", markers=[MINE], identity=found.identity)


def test_a_database_that_is_still_being_restored_by_a_dead_client_is_dropped_once_that_is_over(
    there: Connection, landing: SimulatedMachine, full: LandedSet
) -> None:
    with session(there) as dead:
        dead.run(
            f"RESTORE DATABASE [Back] FROM DISK = N'{SHARE}\\{MINE}\\1.bak' WITH NORECOVERY, "
            f"MOVE N'Orders' TO N'D:\\data\\Back_{MINE}_1.mdf', MOVE N'Orders_log' TO N'L:\\log\\Back_{MINE}_2.ldf'"
        )
        dead.run("USE [Back]")
        assert landing.database("Back").state == "RESTORING"
        with ThreadPoolExecutor(1) as successor:
            dropped = successor.submit(drop_database, there, "Back", markers=[MINE])
            until(lambda: len(landing.sessions) == 2)
            assert landing.database("Back"), "it is in use"
            dead.shut()
            assert dropped.result() and landing.database("Back") is None
