"""A database from its backups on a simulated landing server, which checks order and LSNs itself (R-17.1)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from backups.engines.facts import Connection, Kind, Stopped
from backups.engines.sqlserver import restoring
from backups.engines.sqlserver.connecting import session
from backups.engines.sqlserver.restoring import Request, Source, restore, why_not_restore
from backups.engines.sqlserver.taking import Order, Share, take
from demo.tds import SimulatedMachine, SimulatedServer
from regions.refusals import Refusal
from tests.engines.sqlserver.conftest import SHARE, reach, until
from tests.engines.sqlserver.distant import Distant

NAME = "Orders] of 'the' 100% ☂"


@pytest.fixture
def landing(machine: SimulatedMachine) -> SimulatedMachine:
    """Another server, in the destination region, that sees the same share."""
    made = SimulatedMachine("SQL-LANDING")
    made.accounts = machine.accounts
    made.share(SHARE, machine.shares[SHARE])
    return made


@pytest.fixture
def there(landing: SimulatedMachine) -> Iterator[Connection]:
    with SimulatedServer(landing) as running:
        yield reach(running)


class Chain:
    """Backups of Orders, taken over the wire as they are asked for."""

    def __init__(self, connection: Connection, machine: SimulatedMachine, share: Share) -> None:
        self.connection, self.machine, self.share = connection, machine, share

    def take(self, kind: Kind, stripes: int = 1, copy_only: bool = False) -> Source:
        self.machine.database("Orders").work()
        order = Order("Orders", kind, copy_only=copy_only, compress=False, stripes=stripes)
        found = take(self.connection, order, self.share)
        return Source(found.facts, tuple(self.share.device(file) for file in found.files))


@pytest.fixture
def chain(connection: Connection, machine: SimulatedMachine, share: Share) -> Chain:
    return Chain(connection, machine, share)


def refused(there: Connection, request: Request) -> str:
    with pytest.raises(Refusal) as found:
        restore(there, request)
    assert found.value.remedy
    return found.value.code


def test_full_differential_and_logs_become_a_database_under_a_new_name(
    chain: Chain, there: Connection, landing: SimulatedMachine
) -> None:
    full, log = chain.take(Kind.FULL, stripes=3), chain.take(Kind.LOG)
    differential, last = chain.take(Kind.DIFFERENTIAL), chain.take(Kind.LOG)
    stages: list[tuple[str, float]] = []
    landing.pace = 1 << 20
    found = restore(there, Request(NAME, (full, differential), (last,)), progress=lambda *told: stages.append(told))
    made = landing.database(NAME)
    assert made.state == "ONLINE" and made.reached == last.facts.last_position
    assert str(made.family_guid) == full.facts.family_guid and str(made.fork) != full.facts.fork
    assert found.restored_until == last.facts.started_at
    assert made.files == dict(zip(("Orders", "Orders_log"), found.files, strict=True))
    assert all(path.startswith(("D:\\data\\Orders__of_", "L:\\log\\Orders__of_")) for path in found.files)
    assert found.files[0].endswith("_1.mdf") and found.files[1].endswith("_2.ldf")
    assert stages and {stage for stage, _ in stages} <= {"full", "differential", "log"}
    again = restore(there, Request("Orders", (full,), (log, last)))
    assert landing.database("Orders").reached == last.facts.last_position and again.name == "Orders"


@pytest.mark.parametrize("quarters", [0, 32, -14])
def test_a_moment_is_told_in_the_time_of_the_server_that_was_backed_up(
    chain: Chain, machine: SimulatedMachine, there: Connection, landing: SimulatedMachine, quarters: int
) -> None:
    machine.time_zone, landing.time_zone = quarters, 4
    full, log = chain.take(Kind.FULL), chain.take(Kind.LOG)
    moment = log.facts.finished_at
    restore(there, Request("Orders", (full,), (log,), until=moment))
    stopped = landing.database("Orders").stopped_at
    assert stopped == (moment + timedelta(minutes=15 * quarters)).replace(tzinfo=None)


def test_an_appended_set_is_restored_by_its_position(
    chain: Chain, machine: SimulatedMachine, connection: Connection, there: Connection, landing: SimulatedMachine
) -> None:
    with session(connection) as opened:
        for _ in range(2):
            machine.database("Orders").work()
            opened.run(f"BACKUP DATABASE [Orders] TO DISK = N'{SHARE}\\db.bak' WITH NOINIT, CHECKSUM")
    sets = Distant((machine.shares[SHARE] / "db.bak").read_bytes()).inspect().sets
    restore(there, Request("Orders", (Source(sets[1], (f"{SHARE}\\db.bak",)),)))
    assert landing.database("Orders").reached == sets[1].last_position


# ---- refused before anything is begun


def test_sets_that_make_no_database_are_refused(chain: Chain) -> None:
    copy = chain.take(Kind.FULL, copy_only=True)
    full, first = chain.take(Kind.FULL), chain.take(Kind.LOG)
    differential, second, third = chain.take(Kind.DIFFERENTIAL), chain.take(Kind.LOG), chain.take(Kind.LOG)
    other = Source(replace(second.facts, fork=str(uuid4())), second.devices)
    striped = Source(replace(full.facts, family_count=2), full.devices)
    late = third.facts.finished_at + timedelta(seconds=1)
    early = full.facts.finished_at - timedelta(seconds=1)
    cases = {
        "FullMissing": [Request("x", ()), Request("x", (first,)), Request("x", (full, differential, differential))],
        "OtherBase": [Request("x", (copy, differential)), Request("x", (full, first))],
        "LogGap": [Request("x", (full,), (second,)), Request("x", (full,), (first, third))],
        "LogTooEarly": [Request("x", (full, differential), (first,)), Request("x", (full,), (first, second, first))],
        "OtherFork": [Request("x", (full,), (first, other)), Request("x", (full,), (differential,))],
        "StripesMissing": [Request("x", (striped,))],
        "MomentBeyondLogs": [Request("x", (full,), (first, second, third), late), Request("x", (full,), (), late)],
        "MomentTooEarly": [Request("x", (full,), (first,), early)],
        "BadName": [Request("", (full,)), Request("x" * 129, (full,))],
    }
    for code, requests in cases.items():
        assert [why_not_restore(request).code for request in requests] == [code] * len(requests)
    assert why_not_restore(Request("x", (full, differential), (second, third))) is None
    anchor, last = chain.take(Kind.FULL, copy_only=True), chain.take(Kind.LOG)
    assert why_not_restore(Request("x", (anchor,), (last,))) is None, "a copy-only full anchors logs"


def test_the_landing_server_is_asked_before_anything_is_begun(
    chain: Chain, there: Connection, landing: SimulatedMachine, machine: SimulatedMachine
) -> None:
    full, other = chain.take(Kind.FULL), chain.take(Kind.FULL)
    assert refused(there, Request("x", (Source(full.facts, other.devices),))) == "NotThisSet"
    assert refused(there, Request("x", (Source(full.facts, (f"{SHARE}\\gone.bak",)),))) == "ShareUnreachable"
    landing.add("Orders")
    assert refused(there, Request("orders", (full,))) == "NameTaken"
    landing.version = (14, 0, 1)
    assert refused(there, Request("x", (full,))) == "NewerVersion"
    machine.accounts["farshore"].creates = False
    assert refused(there, Request("x", (full,))) == "MayNotCreate"
    assert landing.database("x") is None


def test_a_database_is_overwritten_only_when_that_is_wanted(
    chain: Chain, there: Connection, landing: SimulatedMachine
) -> None:
    full = chain.take(Kind.FULL)
    own = landing.add("Orders").family_guid
    assert refused(there, Request("Orders", (full,))) == "NameTaken"
    assert landing.database("Orders").family_guid == own
    standby = landing.add("Standby", state="RESTORING")  # somebody's log shipping: no REPLACE would be needed
    assert refused(there, Request("Standby", (full,))) == "NameTaken"
    assert landing.database("Standby") is standby
    restore(there, Request("Orders", (full,), overwrite=True))
    assert str(landing.database("Orders").family_guid) == full.facts.family_guid


# ---- failing on the way


def test_what_fails_on_the_way_leaves_no_half_database(
    chain: Chain, there: Connection, landing: SimulatedMachine, machine: SimulatedMachine
) -> None:
    full, log = chain.take(Kind.FULL), chain.take(Kind.LOG)
    path = machine.path_of(log.devices[0])
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    assert refused(there, Request("x", (full,), (log,))) == "DamagedBackup"
    assert landing.database("x") is None
    landing.free_bytes = 1000
    assert refused(there, Request("x", (full,))) == "NoRoom"


def test_the_server_itself_finds_what_the_rules_would_have_found(
    chain: Chain, there: Connection, landing: SimulatedMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With our own check out of the way the simulation refuses by position, as a real server does."""
    monkeypatch.setattr(restoring, "why_not_restore", lambda request: None)
    full, first = chain.take(Kind.FULL), chain.take(Kind.LOG)
    newer, differential, second = chain.take(Kind.FULL), chain.take(Kind.DIFFERENTIAL), chain.take(Kind.LOG)
    chain.take(Kind.LOG)
    assert refused(there, Request("x", (full,), (second,))) == "LogGap"
    assert refused(there, Request("x", (newer, differential), (first,))) == "LogTooEarly"
    assert refused(there, Request("x", (full, differential))) == "OtherBase"
    assert landing.database("x") is None


def test_a_restore_that_is_not_wanted_any_more_is_ended_and_dropped(
    chain: Chain, there: Connection, landing: SimulatedMachine
) -> None:
    full = chain.take(Kind.FULL)
    landing.pace = 5_000  # more than a minute and a half
    began = time.monotonic()
    with pytest.raises(Stopped):
        restore(there, Request("x", (full,)), stop=lambda: any(one.request for one in list(landing.sessions.values())))
    assert time.monotonic() - began < 45
    until(lambda: landing.database("x") is None)
