"""Farshore's own database: dumped into a store, sealed, and brought back into an empty one (R-1.2, I16, I18)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection

from backups import bell, events, seals, tasks
from backups.events import By
from backups.models import Alert, Event, SelfBackup
from backups.oversight import audit, watch
from backups.self_recovery import escrow, own_tools, self_backup, self_restore
from console.management.commands.prepare import Command as Prepare
from console.runtime.places import CLONE
from regions import sealed_streams, secrets
from regions.models import Region, Store
from regions.refusals import Refusal
from tests.backups.time_machine import TimeMachine
from tests.backups.world import OTHER, SOURCE, TARGET, World
from tests.house.running import plain_environment

pytestmark = pytest.mark.long

State = SelfBackup.State


@pytest.fixture(autouse=True)
def ring(settings: Any, tmp_path: Path) -> Path:
    settings.FARSHORE_KEYS = tmp_path / "house" / "keys"
    return settings.FARSHORE_KEYS


def back_up(*words: str) -> str:
    out = StringIO()
    call_command("backup_self", *words, stdout=out)
    return out.getvalue()


def objects(world: World, region: str = SOURCE) -> list[str]:
    return sorted(path.name for path in (world.folder / region).glob("farshore/v1/*/self/*"))


# ---- the whole way, with a real second database


class Elsewhere:
    """Another machine: a database of its own, empty, a data folder of its own, no key ring."""

    def __init__(self, name: str, data: Path) -> None:
        place = connection.settings_dict
        self.where = {"host": place["HOST"], "user": place["USER"], "port": place.get("PORT") or ""}
        self.where = {word: said for word, said in self.where.items() if said}
        self.name, self.data = name, data
        self.ask("DROP DATABASE IF EXISTS " + name, "postgres")
        self.ask(f"CREATE DATABASE {name}", "postgres")

    def ask(self, sql: str, database: str = "") -> list[tuple]:
        with psycopg.connect(dbname=database or self.name, autocommit=True, **self.where) as found:
            cursor = found.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def manage(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = plain_environment(
            DATABASE_URL=f"postgresql:///{self.name}?{urlencode(self.where)}",
            BROKER_URL="memory://",
            FARSHORE_DATA=str(self.data),
            FARSHORE_ALLOW_LOOPBACK="yes",
            **more,
        )
        command = [sys.executable, str(CLONE / "manage.py"), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)


@pytest.fixture
def elsewhere(transactional_db: None, tmp_path: Path) -> Any:
    found = Elsewhere("farshore_elsewhere", tmp_path / "elsewhere")
    yield found
    found.ask("DROP DATABASE farshore_elsewhere WITH (FORCE)", "postgres")


def test_bills_agreements_events_and_credentials_come_back_on_another_machine(
    elsewhere: Elsewhere, world: World, ring: Path, tmp_path: Path
) -> None:
    orders = world.instance("orders")
    world.enable(orders)
    world.arrived(orders)
    store = Store.objects.get(region=TARGET)
    store.keep_credentials({"access_key_id": "a", "secret_access_key": "b"})
    store.save()
    kit = tmp_path / "kit"
    kit.write_text(secrets.kit("of this house"))
    assert "read back and opened" in back_up("--store", TARGET)
    seals.seal_events(everything=True)
    assert list(audit.breaches()) == []
    events = list(Event.objects.filter(seal__isnull=False).order_by("pk").values_list("pk", "sentence", "seal__hash"))
    url = (world.folder / TARGET).as_uri()

    refused = elsewhere.manage("restore_self", url)
    assert refused.returncode == 1 and "Give the recovery kit: --keys FILE" in refused.stderr
    assert elsewhere.ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    assert elsewhere.manage("migrate", "-v0").returncode == 0  # as its first start would
    (world.folder / SOURCE).rename(world.folder / "the region is gone")
    restored = elsewhere.manage("restore_self", url, "--keys", str(kit))
    (world.folder / "the region is gone").rename(world.folder / SOURCE)
    assert restored.returncode == 0, restored.stderr
    assert f"! The store of {Region.objects.get(pk=SOURCE)} (" in restored.stdout and "is not there" in restored.stdout
    assert f"! The store of {Region.objects.get(pk=TARGET)} (" not in restored.stdout
    assert "Restored from the dump of" in restored.stdout and "--confirm" in restored.stdout

    same = "SELECT e.id, e.sentence, s.hash FROM backups_event e JOIN backups_seal s ON s.event_id = e.id ORDER BY e.id"
    known = elsewhere.ask(same)
    assert known == events[: len(known)] and len(known) >= len(events) - 1  # the dump does not tell of itself
    assert elsewhere.ask("SELECT count(*) FROM backups_acceptance") == [(1,)]
    assert elsewhere.ask("SELECT count(*) FROM backups_storagespan WHERE ended_at IS NULL") == [(1,)]
    assert elsewhere.ask("SELECT count(*) > 500 FROM billing_price") == [(True,)]
    assert elsewhere.ask("SELECT count(*) FROM backups_recovery WHERE confirmed_at IS NULL") == [(2,)]
    far = "SELECT nextval('backups_copy_id_seq') > max(id) + 1000 FROM backups_copy"
    assert elsewhere.ask(far) == [(True,)]
    assert elsewhere.ask("SELECT state FROM backups_selfbackup") == [("kept",)]
    ask = "from regions.models import Store; print(Store.objects.get(region='cn-shanghai').credentials())"
    assert "'secret_access_key': 'b'" in elsewhere.manage("shell", "-v0", "-c", ask).stdout
    audited = elsewhere.manage("audit")
    assert audited.returncode == 0, audited.stdout
    with pytest.raises(psycopg.errors.CheckViolation):
        elsewhere.ask("UPDATE backups_event SET sentence = 'never'")

    again = elsewhere.manage("restore_self", url)
    assert again.returncode == 1 and "a history of its own" in again.stderr
    assert elsewhere.ask(same)[: len(known)] == known
    caught_up = elsewhere.manage("rebuild_catalog", TARGET)
    assert "nothing that was not known; 0 objects" in caught_up.stdout, caught_up.stderr


def test_a_dump_that_was_changed_far_inside_leaves_nothing_half_restored(
    elsewhere: Elsewhere, world: World, ring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first frames open, and pg_restore has had much of it when the damage is found: all or nothing."""
    world.store(TARGET)
    monkeypatch.setattr(sealed_streams, "FRAME_BYTES", 4096)
    for _ in range(4):  # more than is read at once
        events.record("store.changed", "Filled.", noise=os.urandom(1 << 20).hex())
    back_up()
    [dump] = (world.folder / TARGET).glob("farshore/v1/*/self/*.enc")
    ring_there = elsewhere.data / "keys"
    ring_there.parent.mkdir()
    shutil.copy(ring, ring_there)
    whole = dump.read_bytes()
    assert len(whole) > 2 * self_restore.PIECE
    dump.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert elsewhere.manage("migrate", "-v0").returncode == 0
    failed = elsewhere.manage("restore_self", (world.folder / TARGET).as_uri())
    assert failed.returncode == 1 and "Restored" not in failed.stdout
    assert elsewhere.ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    dump.write_bytes(whole)
    assert elsewhere.manage("restore_self", (world.folder / TARGET).as_uri()).returncode == 0
    assert elsewhere.ask("SELECT count(*) FROM regions_store") == [(1,)]


# ---- taking it


@pytest.fixture
def house(transactional_db: None, world: World) -> World:
    world.store(SOURCE)
    world.store(TARGET)
    return world


def test_a_dump_holds_no_word_of_ours_in_the_clear(house: World) -> None:
    back_up()
    [dump] = (house.folder / SOURCE).glob("farshore/v1/*/self/*.enc")
    body = dump.read_bytes()
    assert body.startswith(b"farshore-sealed/1\n")
    assert b"PGDMP" not in body and b"backups_event" not in body
    assert dump.with_name(dump.name.removesuffix(".dump.enc") + ".json").exists()


def test_seven_are_kept_and_the_oldest_goes(house: World) -> None:
    for _ in range(9):
        back_up()
    assert SelfBackup.objects.filter(state=State.KEPT).count() == 7
    assert len(objects(house)) == 14
    gone = SelfBackup.objects.filter(state=State.DELETED)
    assert gone.count() == 2 and all(row.cleaned_at for row in gone)
    assert max(row.began_at for row in gone) < min(row.began_at for row in SelfBackup.objects.filter(state=State.KEPT))


def test_which_store_is_said_by_the_command_by_the_settings_or_by_where_the_copies_are(
    house: World, settings: Any
) -> None:
    """Whoever has lost the other places goes there anyway."""
    assert f"store of {Region.objects.get(pk=SOURCE)}" in back_up()  # none yet: the first that was attached
    orders = house.instance("orders")
    house.enable(orders)
    house.arrived(orders)
    assert f"store of {Region.objects.get(pk=TARGET)}" in back_up()
    Store.objects.filter(region=TARGET).update(state=Store.State.UNREACHABLE)
    assert f"store of {Region.objects.get(pk=SOURCE)}" in back_up()
    Store.objects.filter(region=TARGET).update(state=Store.State.OK)
    settings.SELF_BACKUP_REGION = TARGET
    assert f"store of {Region.objects.get(pk=TARGET)}" in back_up()
    assert f"store of {Region.objects.get(pk=SOURCE)}" in back_up("--store", SOURCE)
    with pytest.raises(CommandError, match="No store"):
        back_up("--store", OTHER)


def test_a_program_that_fails_leaves_an_error_and_no_object(house: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start = own_tools.start
    monkeypatch.setattr(own_tools, "start", lambda name, *words, **more: start(name, "--no-such-option", **more))
    with pytest.raises(CommandError, match="pg_dump failed"):
        back_up()
    row = SelfBackup.objects.get()
    assert row.state == State.FAILED and "no-such-option" in row.error and row.cleaned_at
    assert objects(house) == []
    monkeypatch.undo()
    back_up()
    assert len(objects(house)) == 2


def test_one_at_a_time(house: World) -> None:
    place = connection.settings_dict
    with psycopg.connect(dbname=place["NAME"], host=place["HOST"], user=place["USER"]) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [self_backup.LOCK])
        with pytest.raises(CommandError, match="is being taken"):
            back_up()
        assert not SelfBackup.objects.exists()
        other.execute("SELECT pg_advisory_unlock(%s)", [self_backup.LOCK])
        back_up()


def test_it_is_due_every_night_and_old_after_26_hours(world: World, time_machine: TimeMachine) -> None:
    assert not self_backup.is_due(time_machine.at)
    world.store(SOURCE)
    time_machine.at = time_machine.at.replace(hour=20, minute=0, second=0)
    Store.objects.update(attached_at=time_machine.at)
    assert self_backup.is_due(time_machine.at)
    time_machine.forward(hours=26, seconds=1)
    watch.watch()
    assert "does not exist" in Alert.objects.get(code="self_backup_old", closed_at=None).sentence
    row = SelfBackup.objects.create(
        store=Store.objects.get(), key="farshore/v1/k", state=State.KEPT, began_at=time_machine.at
    )
    watch.watch()
    assert not Alert.objects.filter(code="self_backup_old", closed_at=None).exists()
    assert not self_backup.is_due(time_machine.at)
    time_machine.at = row.began_at.replace(hour=1, minute=29) + timedelta(days=1)
    assert not self_backup.is_due(time_machine.at)
    time_machine.forward(minutes=1)
    assert self_backup.is_due(time_machine.at)
    time_machine.at = row.began_at + timedelta(hours=26)
    watch.watch()
    assert Alert.objects.filter(code="self_backup_old", closed_at=None).exists()


def test_the_timetable_gives_it_to_a_child_when_it_is_due(
    world: World, monkeypatch: pytest.MonkeyPatch, time_machine: TimeMachine
) -> None:
    spawned: list[tuple[str, ...]] = []
    monkeypatch.setattr(tasks, "_child", lambda *words: spawned.append(words))
    tasks.back_up_self()
    assert spawned == []
    world.store(SOURCE)
    tasks.back_up_self()
    assert spawned == [("backup_self", "--by-timetable")]
    assert "back_up_self" in tasks.TIMETABLE and bell.CONTROL == "control"


# ---- the key ring kept elsewhere


def test_it_is_asked_for_until_a_person_says_so_and_again_after_a_rotation(db: None) -> None:
    watch.watch()
    assert not Alert.objects.exists()  # there is no ring yet
    secrets.seal(b"", "first start")
    watch.watch()
    assert Alert.objects.get(closed_at=None).code == "keys_not_escrowed"
    with pytest.raises(Refusal):
        escrow.confirm(By())
    with pytest.raises(CommandError):
        call_command("keys", "escrowed", "--user", "nobody")
    User.objects.create_superuser("root")
    call_command("keys", "escrowed", "--user", "root", stdout=StringIO())
    assert not Alert.objects.filter(closed_at=None).exists()
    assert Event.objects.get(kind="keys.escrowed").actor_name == "root"
    watch.watch()
    assert not Alert.objects.filter(closed_at=None).exists()
    secrets.rotate()
    watch.watch()
    assert Alert.objects.get(closed_at=None).code == "keys_not_escrowed"


def test_the_kit_is_printed_to_a_person_and_never_into_a_log(db: None, ring: Path, caplog: Any) -> None:
    """I18: a service manager keeps what `up` prints; a terminal does not."""

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    log, terminal = StringIO(), Terminal()
    Prepare(stdout=log, no_color=True).make_key_ring()
    key = ring.read_text().split()[1]
    assert "Recovery kit" in log.getvalue() and key not in log.getvalue()
    Prepare(stdout=terminal, no_color=True).make_key_ring()
    assert terminal.getvalue() == ""  # once
    ring.unlink()
    Prepare(stdout=terminal, no_color=True).make_key_ring()
    assert ring.read_text().split()[1] in terminal.getvalue()
    out = StringIO()
    call_command("keys", "export", stdout=out)
    assert ring.read_text() in out.getvalue() and "installation" in out.getvalue()
    assert key not in caplog.text and ring.read_text().split()[1] not in str(list(Event.objects.values()))


def test_only_root_or_the_owner_prints_the_kit(db: None, ring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets.seal(b"", "first start")
    monkeypatch.setattr(os, "geteuid", lambda: 65_534 if ring.stat().st_uid != 65_534 else 65_533)
    with pytest.raises(CommandError, match="Only root"):
        call_command("keys", "export", stdout=StringIO())
