"""Backups that the server writes to a share: what is asked, watched, ended and checked (R-6.2b, R-9.3)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from backups.engines.facts import Connection, Kind, Stopped
from backups.engines.sqlserver import taking
from backups.engines.sqlserver.checksums import Verifier
from backups.engines.sqlserver.server import DatabaseStanding
from backups.engines.sqlserver.taking import Order, Share, take, why_not_take
from demo.tds import SimulatedMachine, SimulatedServer
from regions.refusals import Refusal
from tests.engines.sqlserver.conftest import SHARE, until

ODD_NAME = "Sa]l'es 100% ☂"


def plain(database: str = "Orders", kind: Kind = Kind.FULL, **more: object) -> Order:
    return Order(database, kind, compress=False, **more)


def is_verified(path: Path) -> bool:
    verifier = Verifier()
    verifier.feed(memoryview(path.read_bytes()))
    return verifier.verdict().level == "backup checksum"


# ---- what is taken


def test_full_log_and_differential_are_a_chain_whose_facts_are_those_of_the_files(
    connection: Connection, machine: SimulatedMachine, share: Share
) -> None:
    full = take(connection, plain(), share)
    machine.database("Orders").work()
    log = take(connection, plain(kind=Kind.LOG), share)
    machine.database("Orders").work()
    differential = take(connection, plain(kind=Kind.DIFFERENTIAL), share)
    assert [one.facts.kind for one in (full, log, differential)] == [Kind.FULL, Kind.LOG, Kind.DIFFERENTIAL]
    assert log.facts.first_position <= full.facts.last_position < log.facts.last_position
    assert differential.facts.base_guid == full.facts.set_guid
    assert [Path(one.files[0]).suffix for one in (full, log, differential)] == [".bak", ".trn", ".dif"]
    for one, row in zip((full, log, differential), machine.history, strict=True):
        assert one.facts.set_guid == str(row.backup.set_guid) and one.facts.has_checksums
        assert is_verified(share.folder / one.files[0])
    assert len(list(share.folder.iterdir())) == 3


@pytest.mark.parametrize("name", [ODD_NAME, "'; DROP DATABASE x; --", "[a].[b]", "数据库", "a" * 120])
def test_names_of_every_kind_are_quoted_and_never_become_a_path(
    connection: Connection, machine: SimulatedMachine, share: Share, name: str
) -> None:
    machine.add(name)
    found = take(connection, plain(name), share)
    assert found.facts.database == name
    assert all(character.isascii() and character not in "]['\\/ %" for file in found.files for character in file)


def test_stripes_are_one_set(connection: Connection, share: Share) -> None:
    found = take(connection, plain(stripes=3), share)
    assert found.facts.family_count == 3 and len(found.files) == 3
    assert all(is_verified(share.folder / file) for file in found.files)


def test_it_is_compressed_where_the_edition_can(
    connection: Connection, machine: SimulatedMachine, share: Share
) -> None:
    machine.database("Orders").pages = 8
    assert take(connection, Order("Orders"), share).facts.compressed
    machine.edition = "Express Edition (64-bit)"
    assert not take(connection, Order("Orders"), share).facts.compressed


def test_a_copy_only_full_is_no_base(connection: Connection, machine: SimulatedMachine, share: Share) -> None:
    first = take(connection, plain(), share)
    assert take(connection, plain(copy_only=True), share).facts.is_copy_only
    assert take(connection, plain(kind=Kind.DIFFERENTIAL), share).facts.base_guid == first.facts.set_guid


# ---- what is refused, and leaves nothing behind


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (plain("Gone"), "DatabaseMissing"),
        (plain("Asleep"), "DatabaseOffline"),
        (plain("Theirs"), "MayNotBackUp"),
        (plain("Plain", Kind.LOG), "RecoveryModelSimple"),
        (plain(kind=Kind.LOG), "NoLogChain"),
        (plain(kind=Kind.DIFFERENTIAL), "FullMissing"),
        (plain("Mirror"), "OnSecondary"),
        (plain("Mirror", Kind.DIFFERENTIAL), "OnSecondary"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_words(
    connection: Connection, machine: SimulatedMachine, share: Share, order: Order, code: str
) -> None:
    machine.add("Plain", recovery_model="SIMPLE")
    machine.add("Mirror", group=uuid4(), is_primary=False)
    machine.add("Theirs")
    machine.add("Asleep", state="OFFLINE")
    machine.accounts["farshore"].backs_up = frozenset({"Orders", "Plain", "Mirror", "Asleep"})
    with pytest.raises(Refusal) as refused:
        take(connection, order, share)
    assert refused.value.code == code and refused.value.remedy
    assert not machine.history and not list(share.folder.iterdir())


def test_a_broken_chain_is_told_and_only_an_ordinary_full_begins_another(
    connection: Connection, machine: SimulatedMachine, share: Share
) -> None:
    take(connection, plain(), share)
    machine.break_chain(machine.database("Orders"))  # SIMPLE and back to FULL
    take(connection, plain(copy_only=True), share)
    with pytest.raises(Refusal) as refused:
        take(connection, plain(kind=Kind.LOG), share)
    assert refused.value.code == "NoLogChain" and "copy-only" in refused.value.remedy
    take(connection, plain(), share)
    assert take(connection, plain(kind=Kind.LOG), share).facts.begins_log_chain


def test_on_a_secondary_a_copy_only_full_and_a_log_are_taken(
    connection: Connection, machine: SimulatedMachine, share: Share
) -> None:
    orders = machine.database("Orders")
    take(connection, plain(), share)  # while it was the primary
    orders.group, orders.is_primary, orders.is_preferred = uuid4(), False, False
    orders.work()
    copy = take(connection, plain(copy_only=True), share)
    assert copy.facts.is_copy_only and "prefers another replica" in copy.notes[0]
    assert take(connection, plain(kind=Kind.LOG), share).facts.kind is Kind.LOG


def secondary(**more: object) -> DatabaseStanding:
    return DatabaseStanding("d", "ONLINE", "FULL", True, availability_group="g", is_primary=False, **more)


@pytest.mark.parametrize(
    ("order", "major", "is_refused"),
    [
        (plain("d"), 16, True),
        (plain("d"), 17, False),  # from 2025 on the server itself decides
        (plain("d", copy_only=True), 13, False),
        (plain("d", Kind.LOG), 13, False),
        (plain("d", Kind.LOG, copy_only=True), 13, True),
        (plain("d", Kind.DIFFERENTIAL), 16, True),
        (plain("d", stripes=65, copy_only=True), 16, True),
        (plain("d", stripes=0, copy_only=True), 16, True),
    ],
)
def test_the_rules_of_a_secondary(order: Order, major: int, is_refused: bool) -> None:
    assert (why_not_take(secondary(), order, major) is not None) == is_refused


def test_a_path_that_the_server_cannot_open_is_named_with_its_words(connection: Connection, share: Share) -> None:
    with pytest.raises(Refusal) as refused:
        take(connection, plain(), Share("\\\\elsewhere\\sql", share.folder))
    assert refused.value.code == "ShareUnreachable"
    assert "Operating system error 3" in refused.value.sentence and "3201" in refused.value.sentence


def test_a_share_that_is_not_the_same_on_both_sides_is_noticed(
    connection: Connection, machine: SimulatedMachine, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    for folder in (other, other / "missing"):
        with pytest.raises(Refusal) as refused:
            take(connection, plain(), Share(SHARE, folder))
        assert refused.value.code == "NotShared"
        other.mkdir(exist_ok=True)
    with pytest.raises(Refusal) as refused:
        take(connection, plain(), Share(SHARE, other))
    assert refused.value.code == "NotShared" and "cannot be read here" in refused.value.sentence


def test_a_file_that_is_not_what_the_server_wrote_is_noticed(
    connection: Connection, machine: SimulatedMachine, share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = take(connection, plain(), share)
    body = (share.folder / earlier.files[0]).read_bytes()
    remembered = taking._remembered

    def swap(watching, plan):
        (share.folder / plan.files[0]).write_bytes(body)
        return remembered(watching, plan)

    monkeypatch.setattr(taking, "_remembered", swap)
    with pytest.raises(Refusal) as refused:
        take(connection, plain(), share)
    assert refused.value.code == "NotShared" and "is not what the server wrote" in refused.value.sentence
    assert [path.name for path in share.folder.iterdir()] == list(earlier.files)


def test_a_file_whose_header_is_not_known_here_is_described_by_msdb(
    connection: Connection, machine: SimulatedMachine, share: Share
) -> None:
    machine.version = (17, 0, 1000)  # 2025, whose files nobody has seen here
    found = take(connection, plain(), share)
    assert found.facts.set_guid == str(machine.history[0].backup.set_guid)
    assert found.facts.last_position == machine.history[0].backup.last


# ---- while it runs


@pytest.fixture
def slow(machine: SimulatedMachine) -> SimulatedMachine:
    """A backup takes about 4 seconds here."""
    machine.database("Orders").pages, machine.pace = 4096, 8 << 20
    return machine


class Background(threading.Thread):
    """A backup that somebody waits for."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.work, self.result, self.error = work, None, None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.work()
        except BaseException as error:
            self.error = error

    def ended(self) -> BaseException:
        self.join(30)
        assert not self.is_alive() and self.error is not None
        return self.error


def is_running(machine: SimulatedMachine) -> bool:
    return any(one.request for one in list(machine.sessions.values()))


def test_progress_is_seen_through_a_second_connection(
    connection: Connection, slow: SimulatedMachine, share: Share
) -> None:
    slow.pace = 16 << 20
    seen: list[float] = []
    found = take(connection, plain(), share, progress=seen.append)
    assert seen and seen == sorted(seen) and 0 < seen[-1] <= 100
    assert found.facts.finished_at > found.facts.started_at


def test_one_that_is_not_wanted_any_more_is_killed_and_leaves_nothing(
    connection: Connection, slow: SimulatedMachine, share: Share
) -> None:
    with pytest.raises(Stopped):
        take(connection, plain(), share, stop=lambda: is_running(slow))
    assert not slow.history and not list(share.folder.iterdir())
    until(lambda: not slow.sessions)
    assert not slow.database("Orders").is_busy


def test_where_kill_is_not_allowed_its_connection_is_closed_instead(
    connection: Connection, slow: SimulatedMachine, share: Share
) -> None:
    slow.accounts["farshore"].kills = False
    with pytest.raises(Stopped):
        take(connection, plain(), share, stop=lambda: is_running(slow))
    until(lambda: not is_running(slow))
    assert not slow.history and not list(share.folder.iterdir())


def test_one_that_takes_too_long_is_ended(connection: Connection, slow: SimulatedMachine, share: Share) -> None:
    with pytest.raises(Refusal) as refused:
        take(connection, plain(), share, seconds=1)
    assert refused.value.code == "TookTooLong"
    assert not slow.history and not list(share.folder.iterdir())


def test_one_that_somebody_else_kills_is_refused_as_that(
    connection: Connection, slow: SimulatedMachine, share: Share
) -> None:
    work = Background(lambda: take(connection, plain(), share))
    until(lambda: is_running(slow))
    next(one for one in slow.sessions.values() if one.request).killed.set()
    error = work.ended()
    assert isinstance(error, Refusal) and error.code == "Killed"
    assert not list(share.folder.iterdir())


def test_a_server_that_dies_in_the_middle_is_noticed_and_its_half_file_removed(
    server: SimulatedServer, connection: Connection, slow: SimulatedMachine, share: Share
) -> None:
    work = Background(lambda: take(connection, plain(), share))
    until(lambda: is_running(slow))
    server.die()
    error = work.ended()
    assert isinstance(error, Refusal) and error.code in ("ConnectionLost", "NotListening")
    until(lambda: not list(share.folder.iterdir()))
    assert not slow.history


def test_two_backups_of_one_database_do_not_run_at_once(
    connection: Connection, slow: SimulatedMachine, share: Share
) -> None:
    work = Background(lambda: take(connection, plain(), share))
    until(lambda: is_running(slow))
    with pytest.raises(Refusal) as refused:
        take(connection, plain(), share)
    assert refused.value.code == "BackupRunning"
    work.join(30)
    assert work.result.facts.database == "Orders", "the first one is left alone"
