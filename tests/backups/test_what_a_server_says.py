"""A SQL Server is asked in the background: what it says of its databases and its backups is kept, and acted upon.

The server is the simulation, on a real socket; the stores are folders; its share is the folder that Farshore looks in.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from backups import tasks
from backups.chains import certificates, windows
from backups.copying import planning
from backups.default_backups import spoken_for
from backups.default_backups.spoken_for import LyingFile, what_lies_in
from backups.engines.facts import Device, HistorySet, Kind, Method, SetFacts
from backups.engines.sqlserver.connecting import session
from backups.models import (
    Alert,
    BackupFile,
    BackupSet,
    CopyState,
    Event,
    Instance,
    RememberedSet,
    ServerDatabase,
    ServerLook,
)
from backups.oversight import asking, protection, watch
from backups.servers import certificate_book, reaching, remembering
from demo.tds import SimulatedMachine, SimulatedServer
from regions import clock
from regions.refusals import Refusal
from tests.backups.world import SOURCE, TARGET, World
from tests.engines.sqlserver.conftest import PASSWORD, SHARE, reach

PRINT = bytes.fromhex("ab" * 20)
ENCRYPTED = "ENCRYPTION (ALGORITHM = AES_256, SERVER CERTIFICATE = backups)"


class Site:
    """One simulated server, the instance that stands for it, and the share that both see."""

    def __init__(self, world: World, machine: SimulatedMachine, server: SimulatedServer, **more: object) -> None:
        self.world, self.machine, self.server = world, machine, server
        self.instance = world.instance("erp", host="127.0.0.1", port=server.port, username="farshore", **more)
        self.folder = world.folder / SOURCE / self.instance.prefixes[0]
        self.folder.mkdir(parents=True)
        machine.share(SHARE, self.folder)

    def run(self, *statements: str) -> None:
        with session(reach(self.server)) as opened:
            for statement in statements:
                for database in self.machine.databases.values():
                    database.work()
                opened.run(statement, seconds=None)

    def full(self, file: str = "f.bak", *options: str, database: str = "Orders") -> None:
        said = ", ".join(["FORMAT", "CHECKSUM", *options])
        self.run(f"BACKUP DATABASE [{database}] TO DISK = N'{SHARE}\\{file}' WITH {said}")

    def log(self, file: str = "l.trn", *options: str, device: str = "", database: str = "Orders") -> None:
        said = ", ".join(["FORMAT", "CHECKSUM", *options])
        self.run(f"BACKUP LOG [{database}] TO DISK = N'{device or SHARE + chr(92) + file}' WITH {said}")

    def ask(self) -> int:
        """Ask whoever would be asked, as if a minute had passed."""
        ServerLook.objects.update(due_at=clock.now())
        answered = asking.ask_due(SOURCE)
        planning.weigh_due()
        return answered

    def find(self) -> int:
        return self.world.find(self.instance)

    def later(self, **past: float) -> None:
        """Let everything that the server remembers lie that much further in the past."""
        ago = timedelta(**past)
        for row in RememberedSet.objects.all():
            moved = {"started_at": row.started_at - ago, "finished_at": row.finished_at - ago}
            RememberedSet.objects.filter(pk=row.pk).update(**moved)


@pytest.fixture
def machine() -> SimulatedMachine:
    made = SimulatedMachine("SQL-SIM-1")
    made.login("farshore", PASSWORD)
    made.add("Orders")
    made.certificates["backups"] = PRINT
    return made


@pytest.fixture
def site(world: World, machine: SimulatedMachine) -> Iterator[Site]:
    with SimulatedServer(machine) as server:
        site = Site(world, machine, server)
        reaching.keep_password(site.instance, PASSWORD)
        site.instance.save()
        yield site


def open_alert(code: str) -> Alert | None:
    watch.watch()
    return Alert.objects.filter(code=code, closed_at=None).first()


# ---- asking


def test_what_the_server_says_of_its_databases_is_kept(site: Site) -> None:
    site.machine.add("Archive", recovery_model="SIMPLE", state="OFFLINE")
    assert site.ask() == 1
    kept = {row.name: row for row in ServerDatabase.objects.all()}
    assert sorted(kept) == ["Archive", "Orders"]
    assert (kept["Archive"].is_online, kept["Archive"].has_logs) == (False, False)
    look = ServerLook.objects.get()
    assert look.answered_at and look.read_until and not look.error and look.due_at > look.asked_at


def test_a_server_that_does_not_answer_concludes_nothing_and_is_told_of_after_a_while(site: Site) -> None:
    site.ask()
    site.server.die()
    assert site.ask() == 0
    assert ServerDatabase.objects.present().get().name == "Orders"
    assert open_alert("server_silent") is None
    look = ServerLook.objects.get()
    assert (look.failures, bool(look.error)) == (1, True)
    ServerLook.objects.update(failing_since=clock.now() - timedelta(minutes=11))
    alert = open_alert("server_silent")
    assert "has not answered since" in alert.sentence and look.error == alert.remedy


def test_a_server_that_says_nothing_at_all_does_not_hold_up_the_others(site: Site, world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        silent = world.instance("mute", host="127.0.0.1", port=port, username="farshore")
        asking.ask_due(SOURCE, seconds=2)
    looks = {look.instance_id: look for look in ServerLook.objects.all()}
    assert looks[site.instance.pk].answered_at
    assert looks[silent.pk].failures == 1 and "in the time" in looks[silent.pk].error


def test_whoever_cannot_be_asked_is_not(site: Site, world: World) -> None:
    world.instance("files-only")
    world.instance("pg", engine="postgresql", host="127.0.0.1", port=1)
    site.ask()
    assert [look.instance for look in ServerLook.objects.all()] == [site.instance]
    Instance.objects.filter(pk=site.instance.pk).update(host="")
    site.ask()
    assert not ServerLook.objects.exists()


def test_the_bell_of_a_region_asks_its_servers(site: Site) -> None:
    assert tasks.TIMETABLE["ask_servers_all"] == 60 and asking.regions_with_servers() == [SOURCE]
    tasks.ask_servers(SOURCE)
    assert ServerDatabase.objects.get().name == "Orders"
    assert ServerLook.objects.get().due_at > clock.now()


# ---- what it remembers


def test_only_what_has_not_been_found_is_kept_and_forgotten_once_it_is(site: Site) -> None:
    site.full("a.bak")
    site.find()
    site.log("b.trn")
    site.ask()
    assert RememberedSet.objects.get().kind == "log"
    site.find()
    site.ask()
    assert not RememberedSet.objects.exists()
    assert BackupSet.objects.count() == 2


def test_reading_goes_on_where_it_ended_and_begins_anew_with_the_history(site: Site) -> None:
    site.full()
    site.ask()
    first = ServerLook.objects.get().cursor
    assert first == 1
    site.log()
    site.ask()
    assert ServerLook.objects.get().cursor == 2
    site.machine.history.clear()
    site.full("anew.bak")
    site.ask()
    assert ServerLook.objects.get().cursor == 1
    assert RememberedSet.objects.count() == 3


def test_what_is_older_than_five_weeks_is_neither_read_nor_kept(site: Site) -> None:
    site.full()
    site.ask()
    site.later(days=36)
    tasks.ask_servers_all()
    assert not RememberedSet.objects.exists()


def test_no_more_is_kept_than_a_bounded_number_the_oldest_logs_go_first(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembering, "MOST_KEPT", 2)
    site.full()
    for number in range(3):
        site.log(f"{number}.trn")
    for row, moved in zip(site.machine.history, (4, 3, 2, 1), strict=True):
        at = row.backup.finished_at - timedelta(hours=moved)
        site.machine.history[row.id - 1] = replace(row, backup=replace(row.backup, started_at=at, finished_at=at))
    site.ask()
    kept = [(row.kind, last) for row in RememberedSet.objects.order_by("finished_at") for last in row.devices]
    assert [(kind, device["name"].rpartition("\\")[2]) for kind, device in kept] == [
        ("full", "f.bak"),
        ("log", "2.trn"),
    ]


def test_the_replicas_of_a_group_remember_one_history(site: Site, machine: SimulatedMachine) -> None:
    group = uuid4()
    orders = machine.database("Orders")
    orders.group = group
    other = SimulatedMachine("SQL-SIM-2")
    other.login("farshore", PASSWORD)
    replica = other.add("Orders", group=group, is_primary=False, family_guid=orders.family_guid)
    other.add("Elsewhere")
    with SimulatedServer(other) as second:
        Instance.objects.filter(pk=site.instance.pk).update(secondary_host="127.0.0.1", secondary_port=second.port)
        site.instance.refresh_from_db()
        other.share(SHARE, site.folder)
        site.full("primary.bak")
        replica.reached = orders.reached
        with session(reach(second)) as opened:
            opened.run(f"BACKUP DATABASE [Orders] TO DISK = N'{SHARE}\\s.bak' WITH FORMAT, COPY_ONLY", seconds=None)
            opened.run(f"BACKUP DATABASE [Elsewhere] TO DISK = N'{SHARE}\\e.bak' WITH FORMAT", seconds=None)
        site.ask()  # which databases are in a group is known after it
        site.ask()
    assert sorted(row.database for row in RememberedSet.objects.all()) == ["Orders", "Orders"]
    assert ServerLook.objects.filter(read_until=None).count() == 0


# ---- encrypted files


def test_an_encrypted_file_is_copied_once_the_server_names_it(site: Site) -> None:
    site.world.enable(site.instance)
    site.full("secret.bak", ENCRYPTED)
    site.find()
    file = BackupFile.objects.get()
    assert (file.state, file.refusal_code, BackupSet.objects.count()) == ("refused", "EncryptedHeader", 0)

    site.ask()
    found = BackupSet.objects.get()
    file.refresh_from_db()
    assert file.state == "settled"
    assert (found.database, found.kind, found.is_encrypted, found.is_told_by_server) == ("Orders", "full", True, True)
    assert found.certificate_thumbprint == PRINT.hex()
    site.world.carry()
    copy = found.copies.get()
    assert (copy.state, copy.verification) == (CopyState.COMPLETED, "not inspectable")
    site.ask()
    assert not RememberedSet.objects.exists()


def test_without_the_server_an_encrypted_file_stays_refused(site: Site) -> None:
    site.full("secret.bak", ENCRYPTED)
    site.server.die()
    site.find()
    site.ask()
    assert BackupFile.objects.get().state == "refused" and not BackupSet.objects.exists()


def test_a_name_that_is_overwritten_every_night_is_the_newest_set(site: Site) -> None:
    site.full("same.bak", ENCRYPTED)
    site.ask()
    site.later(days=1)
    site.full("same.bak", ENCRYPTED)
    site.find()
    site.ask()
    newest = site.machine.history[-1].backup
    assert BackupSet.objects.get().set_guid == str(newest.set_guid)
    assert RememberedSet.objects.count() == 1  # last night's, which nobody can have any more


def test_two_sets_that_one_file_could_hold_leave_it_refused(site: Site) -> None:
    site.full("same.bak", ENCRYPTED)
    site.full("same.bak", ENCRYPTED)
    site.find()
    site.ask()
    assert BackupFile.objects.get().state == "refused" and not BackupSet.objects.exists()


def test_the_stripes_of_an_encrypted_set_are_one_set(site: Site) -> None:
    devices = ", ".join(f"DISK = N'{SHARE}\\{n}.bak'" for n in (1, 2))
    site.run(f"BACKUP DATABASE [Orders] TO {devices} WITH FORMAT, {ENCRYPTED}")
    site.find()
    site.ask()
    found = BackupSet.objects.get()
    assert (found.status, found.set_files.count()) == ("succeeded", 2)


AT = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)
MIB = 1 << 20


def told(number: int, hours: float = 0, size: int = 100 * MIB, *names: str, **more: object) -> HistorySet:
    ended = AT + timedelta(hours=hours)
    facts = SetFacts("Orders", Kind.FULL, Method.PHYSICAL, ended - timedelta(hours=1), ended, **more)
    devices = tuple(Device(n, f"D:\\b\\{name}", 2) for n, name in enumerate(names or ("Same.BAK",), 1))
    return HistorySet(number, facts, devices, "sa", stored_bytes=size)


@pytest.mark.parametrize(
    ("size", "hours", "sets", "found"),
    [
        (100 * MIB, 0, [told(1)], 1),  # its time and its size
        (100 * MIB, 5, [told(1)], 1),  # uploaded later; nothing newer has that name
        (100 * MIB, -2, [told(1)], None),  # older than what it should hold
        (50 * MIB, 0, [told(1)], None),  # too small
        (200 * MIB, 0, [told(1)], None),  # too large
        (100 * MIB, 24, [told(1), told(2, 24)], 2),  # overwritten every night
        (100 * MIB, 12, [told(1), told(2, 24)], 1),  # the next night's is not in it yet
        (100 * MIB, 36, [told(1), told(2, 24, 300 * MIB)], None),  # the newest of that name is another
        (100 * MIB, 0.1, [told(1), told(2, 0.1)], None),  # either
        (100 * MIB, 0, [told(1, 0, 100 * MIB, "other.bak")], None),
        (60 * MIB, 0, [told(1, 0, 100 * MIB, "same.bak", "two.bak")], 1),  # a stripe of it
        (60 * MIB, 0, [told(1, 0, 100 * MIB, "same.bak", "SAME.bak")], None),  # which stripe?
        (MIB, 0, [told(1, -9, MIB, media_set_guid="m"), told(2, 0, MIB, media_set_guid="m", position=2)], None),
    ],
)
def test_a_file_is_the_one_set_it_can_hold_or_none(
    size: int, hours: float, sets: list[HistorySet], found: int | None
) -> None:
    spoken = what_lies_in(LyingFile("same.bak", size, AT + timedelta(hours=hours)), sets)
    assert (spoken.told.number if spoken else None) == found


def test_while_a_side_is_silent_only_a_file_of_its_own_time_is_taken() -> None:
    file = LyingFile("same.bak", 100 * MIB, AT + timedelta(hours=5))
    assert what_lies_in(file, [told(1)], only_close=True) is None
    assert spoken_for.last_part("\\\\files\\sql\\Same.BAK") == spoken_for.last_part("backups/erp/same.bak")


# ---- certificates


def test_a_set_is_restorable_only_where_its_certificate_is_registered(site: Site) -> None:
    world, instance = site.world, site.instance
    site.machine.database("Orders").thumbprint = PRINT
    world.enable(instance)
    site.ask()
    site.full()
    site.find()
    world.carry()
    found = BackupSet.objects.get()
    assert (found.certificate_thumbprint, found.is_encrypted) == (PRINT.hex(), False)
    store = world.store(TARGET)

    def state() -> protection.Protection:
        return protection.of(instance, clock.now())

    instance.refresh_from_db()
    assert state().unprotected == ["Orders"] and state().why["Orders"] == "certificate"
    assert not windows.chain_of(instance, store, "Orders").window()

    row = certificate_book.register(world.region(TARGET), "0xABAB" + "AB" * 18, "on LANDING-1", world.by)
    assert state().unprotected == []
    assert instance.intervals.filter(store=store).exists()

    certificate_book.withdraw(row, world.by)
    assert state().unprotected == ["Orders"]
    assert not instance.intervals.filter(store=store).exists()
    assert [event.kind for event in Event.objects.filter(kind__startswith="certificate.").order_by("pk")] == [
        "certificate.registered",
        "certificate.withdrawn",
    ]


def test_the_certificate_entered_for_an_instance_is_needed_by_all_its_sets(site: Site) -> None:
    world, instance = site.world, site.instance
    world.enable(instance)
    site.full()
    site.find()
    world.carry()
    instance.certificate_thumbprint = "CD" * 20
    instance.save()
    certificate_book.settle_instance(instance)
    assert protection.of(instance, clock.now()).why == {"Orders": "certificate"}
    assert not instance.intervals.exists()
    certificate_book.register(world.region(TARGET), "cd" * 20, "", world.by)
    assert protection.of(instance, clock.now()).unprotected == [] and instance.intervals.exists()
    with pytest.raises(Refusal, match="registered in"):
        certificate_book.register(world.region(TARGET), "CD" * 20, "", world.by)


def test_sets_from_before_a_database_was_encrypted_need_no_certificate(site: Site) -> None:
    site.full("before.bak")
    site.find()
    site.ask()
    BackupSet.objects.update(finished_at=clock.now() - timedelta(hours=1))
    site.machine.database("Orders").thumbprint = PRINT
    site.ask()
    site.full("after.bak")
    site.find()
    marked = BackupSet.objects.order_by("finished_at").values_list("certificate_thumbprint", flat=True)
    assert list(marked) == ["", PRINT.hex()]


def test_sets_that_were_here_before_an_encrypted_server_was_asked_need_its_certificate(site: Site) -> None:
    site.machine.database("Orders").thumbprint = PRINT
    site.full()
    site.find()
    assert BackupSet.objects.get().certificate_thumbprint == ""
    site.ask()
    assert BackupSet.objects.get().certificate_thumbprint == PRINT.hex()


# ---- who broke the chain


def test_a_log_that_went_elsewhere_is_named_with_job_device_user_and_minute(site: Site) -> None:
    site.full("f.bak")
    site.log("1.trn")
    site.find()
    site.log("", "NAME = N'weekly shrink'", device="NUL")
    site.ask()
    minute = site.machine.history[-1].backup.finished_at
    alert = open_alert("chain_broken")
    for word in ("weekly shrink", "NUL", "farshore", f"{minute:%H:%M}", "Orders"):
        assert word in alert.sentence
    site.full("again.bak")
    RememberedSet.objects.update(finished_at=clock.now() - timedelta(seconds=30))
    site.find()
    site.ask()
    assert open_alert("chain_broken") is None


def test_a_log_that_goes_elsewhere_where_no_logs_are_kept_is_nobodys_worry(site: Site) -> None:
    site.full("f.bak")
    site.find()
    site.log(device="NUL")
    site.ask()
    assert open_alert("chain_broken") is None


def test_another_tools_full_takes_the_base_of_differentials_unless_it_is_copy_only(site: Site) -> None:
    site.full("f.bak")
    site.find()
    site.run("BACKUP DATABASE [Orders] TO DISK = N'NUL' WITH COPY_ONLY")
    site.ask()
    assert open_alert("chain_broken") is None
    site.run("BACKUP DATABASE [Orders] TO DISK = N'NUL' WITH NAME = N'snapshot tool'")
    site.ask()
    alert = open_alert("chain_broken")
    assert "the base of differentials" in alert.sentence and "snapshot tool" in alert.sentence


def test_a_file_that_never_came_breaks_the_chain_once_something_later_has(site: Site) -> None:
    site.full("f.bak")
    site.find()
    site.log("lost.trn")
    os.remove(site.folder / "lost.trn")
    site.ask()
    site.later(minutes=20)
    BackupSet.objects.update(finished_at=clock.now() - timedelta(hours=1))
    assert open_alert("chain_broken") is None, "it may still come"
    site.log("next.trn")
    site.find()
    assert "lost.trn" in open_alert("chain_broken").sentence


def test_what_a_job_of_ours_is_still_carrying_is_missed_by_nobody(site: Site) -> None:
    site.full("slow.bak")
    os.remove(site.folder / "slow.bak")
    site.ask()
    site.find()
    site.later(hours=3)
    ours = {"reason": "timetable", "asked_at": clock.now(), "due_at": clock.now(), "database": "Orders"}
    began = clock.now() - timedelta(hours=4)
    job = site.instance.jobs.create(state="running", started_at=began, **ours)
    assert open_alert("backup_not_in_store") is None
    site.instance.jobs.filter(pk=job.pk).update(state="failed")
    assert open_alert("backup_not_in_store")


def test_a_released_instance_is_asked_and_alerted_of_no_more(site: Site) -> None:
    site.full("f.bak")
    site.find()
    site.log("l.trn")
    site.find()
    site.log(device="NUL")
    site.ask()
    assert open_alert("chain_broken")
    Instance.objects.update(released_at=clock.now())
    assert open_alert("chain_broken") is None
    site.ask()
    assert not ServerLook.objects.exists()


def test_a_gap_says_who_took_what_is_missing(site: Site) -> None:
    world, instance = site.world, site.instance
    world.enable(instance)
    world.set(instance, logs_enabled=True)
    site.full("f.bak")
    site.log("1.trn")
    site.find()
    site.log("", "NAME = N'weekly shrink'", device="NUL")
    site.log("2.trn")
    site.find()
    gap = instance.log_gaps.get()
    assert gap.broken_by == ""
    site.ask()
    gap.refresh_from_db()
    assert "weekly shrink" in gap.broken_by and "NUL" in gap.broken_by


def test_a_full_that_never_came_is_not_in_the_store(site: Site) -> None:
    site.full("lost.bak")
    os.remove(site.folder / "lost.bak")
    site.ask()
    site.find()
    assert open_alert("backup_not_in_store") is None
    site.later(hours=3)
    alert = open_alert("backup_not_in_store")
    assert "is not in the store" in alert.sentence and "lost.bak" in alert.sentence
    site.full("came.bak")
    site.find()
    assert open_alert("backup_not_in_store") is None


def test_a_header_that_says_otherwise_than_the_server_is_an_event_and_an_alert(site: Site) -> None:
    site.full()
    site.find()
    BackupSet.objects.update(first_position=1)
    site.ask()
    assert BackupSet.objects.get().contradiction == "first_position"
    assert Event.objects.filter(kind="set.contradicted").count() == 1
    assert "first_position" in open_alert("history_contradicts").sentence
    ServerLook.objects.update(cursor=0)
    site.ask()
    assert Event.objects.filter(kind="set.contradicted").count() == 1


# ---- protection


def test_a_database_that_the_server_names_and_nobody_copied_leaves_the_instance_partial(site: Site) -> None:
    site.world.enable(site.instance)
    site.full()
    site.find()
    site.world.carry()
    site.ask()
    site.instance.refresh_from_db()
    assert protection.of(site.instance, clock.now()).state == "in_step"
    site.machine.add("Fresh")
    site.machine.add("Away", state="OFFLINE")
    site.ask()
    now = protection.of(site.instance, clock.now())
    assert (now.state, now.unprotected) == ("partial", ["Away", "Fresh"])
    assert (now.why["Away"], now.why["Fresh"]) == ("offline", "new")


def test_a_database_that_is_gone_from_the_server_needs_no_more_backups(site: Site) -> None:
    site.machine.add("Old")
    site.world.enable(site.instance)
    site.full("a.bak")
    site.full("b.bak", database="Old")
    site.find()
    site.world.carry()
    site.ask()
    BackupSet.objects.filter(database="Old").update(finished_at=clock.now() - timedelta(days=3))
    site.instance.refresh_from_db()
    assert protection.of(site.instance, clock.now()).unprotected == ["Old"]
    del site.machine.databases["old"]
    site.ask()
    assert protection.of(site.instance, clock.now()).unprotected == []


HERE = protection.Told(is_online=True, may_back_up=True, last_full_at=AT, gone_at=None)


@pytest.mark.parametrize(
    ("told", "is_copied", "is_sealed", "why"),
    [
        (None, False, False, "no_copy"),
        (None, True, False, "late"),
        (None, False, True, "certificate"),
        (HERE, False, False, "no_copy"),
        (HERE._replace(last_full_at=None), False, False, "new"),
        (HERE._replace(is_online=False), True, True, "offline"),
        (HERE._replace(may_back_up=False), False, False, "may_not_back_up"),
        (HERE, True, True, "certificate"),
    ],
)
def test_why_a_database_is_not_protected(
    told: protection.Told | None, is_copied: bool, is_sealed: bool, why: str
) -> None:
    assert protection.why_not(told, is_copied, is_sealed) == why
    assert why in protection.WHY


@pytest.mark.parametrize(
    ("is_encrypted", "thumbprints", "needed"),
    [
        (False, ("", ""), set()),
        (True, ("", ""), {certificates.UNKNOWN}),
        (True, ("AB12", ""), {"ab12"}),
        (False, ("ab12", "CD34"), {"ab12", "cd34"}),
        (True, ("", "cd34"), {"cd34"}),
    ],
)
def test_which_certificates_a_set_needs(is_encrypted: bool, thumbprints: tuple, needed: set) -> None:
    assert certificates.needed(is_encrypted, *thumbprints) == needed
