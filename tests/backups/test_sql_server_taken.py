"""SQL Server backed up by Farshore, against the simulation over a real socket: asked for, taken, carried, healed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest

from backups import default_backups, policies, tasks
from backups.copying.planning.databases import databases_of
from backups.default_backups import recording, retiring, shares
from backups.engines import facts
from backups.engines.sqlserver import watching
from backups.events import FARSHORE
from backups.leases import LeaseLost
from backups.logs import log_receiving
from backups.models import (
    Alert,
    BackupFile,
    BackupJob,
    BackupSet,
    Copy,
    CopyState,
    Event,
    Instance,
    Kind,
    LogGap,
    LogStream,
)
from backups.oversight import log_healing, watch
from backups.policies import Settings
from backups.servers import secondaries, standings
from regions import clock
from regions.refusals import Refusal
from tests.backups.sql_servers import Fixture, make_due, running, take_all
from tests.backups.world import SOURCE, TARGET, World

DAY = timedelta(days=1)


@pytest.fixture
def sql(world: World) -> Iterator[Fixture]:
    with running(world) as found:
        yield found


def kinds(sets: list[BackupSet]) -> list[tuple[str, str]]:
    return [(one.database, one.kind) for one in sets]


# ---- the story


def test_taken_copied_and_healed_from_beginning_to_end(world: World, sql: Fixture) -> None:
    sql.machine.edition = "Express Edition (64-bit)"  # no compression: the copies' own checksums can be verified
    sql.machine.add("Archive", recovery_model="SIMPLE", pages=8)
    sql.machine.add("Asleep", state="OFFLINE")
    instance = sql.add(log_every_minutes=5, edition="high_availability")
    assert list(instance.databases.order_by("name").values_list("name", "is_online")) == [
        ("Archive", True),
        ("Asleep", False),
        ("Orders", True),
    ]

    # Enabling finds nothing of the last day: exactly one full of each database that can be backed up
    world.store(TARGET)
    policies.apply(instance, Settings(True, 7, TARGET, logs_enabled=True, agreed=True), world.by)
    assert sorted(BackupJob.objects.values_list("database", "reason")) == [("Archive", "24h"), ("Orders", "24h")]
    fulls = take_all()
    assert kinds(fulls) == [("Archive", "full"), ("Orders", "full")] and sql.names() == []

    # Logs every few minutes, of what has a chain
    for _ in range(2):
        sql.work()
        make_due(next_log_at=clock.now())
        assert default_backups.ask_logs_by_timetable() == 1
        assert kinds(take_all()) == [("Orders", "log")]
    instance.refresh_from_db()
    assert instance.next_log_at > clock.now() and instance.next_log_at.minute % 5 == 0

    copies = world.carry()
    assert {copy.state for copy in copies} == {CopyState.COMPLETED} and len(copies) == 4, [c.error for c in copies]
    assert {copy.verification for copy in copies} == {"backup checksum"}
    for copy in copies:
        [file] = copy.set.files.all()
        here = (world.folder / SOURCE / file.key).read_bytes()
        assert here == (world.folder / TARGET / copy.copied_files.get().transfer.key).read_bytes()
        assert file.is_ours and file.key.endswith({"full": ".bak", "log": ".trn"}[copy.set.kind])

    # Somebody else's job takes a log away: the gap is healed by a copy-only full of the secondary, which anchors logs
    other = sql.secondary()
    Instance.objects.update(secondary_host="127.0.0.1", secondary_port=sql.others[0].port)
    sql.work()
    orders = sql.machine.database("Orders")
    orders.logged = orders.reached
    make_due(next_log_at=clock.now())
    sql.work()
    default_backups.ask_logs_by_timetable()
    take_all()
    assert log_healing.heal_due() == 1
    gap, job = LogGap.objects.get(), BackupJob.objects.get(reason="log_gap")
    assert (gap.healing, job.database, job.on, job.is_copy_only) == ("backup", "Orders", "secondary", True)
    other.database("Orders").reached = orders.reached
    [healing] = take_all()
    assert healing.is_copy_only and healing.server == "SQL-SIM-2"
    assert all(not one.backup.copy_only for one in sql.machine.history), "the primary is left alone"
    sql.work()
    make_due(next_log_at=clock.now())
    default_backups.ask_logs_by_timetable()
    take_all()
    world.carry()
    gap.refresh_from_db()
    assert gap.healed_at is not None
    assert not Alert.objects.filter(code="log_gap", closed_at=None).exists()


# ---- what the server ended is never lost


@pytest.fixture
def instance(sql: Fixture) -> Instance:
    return sql.add()


def full_of(instance: Instance, database: str = "Orders") -> BackupSet:
    default_backups.ask(instance, FARSHORE, database=database)
    return take_all()[-1]


def log_of(instance: Instance) -> BackupJob:
    return default_backups.ask(instance, FARSHORE, database="Orders", kind=Kind.LOG)


def dies_before_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's next attempt comes to nothing after the server has ended the backup."""
    with monkeypatch.context() as planted:
        planted.setattr(recording, "record", lambda *_: (_ for _ in ()).throw(LeaseLost))
        assert default_backups.take(default_backups.claim(SOURCE)) is None
    BackupJob.objects.filter(state="running").update(leased_until=clock.now() - timedelta(seconds=1))


def test_a_log_whose_worker_died_is_carried_on_and_not_taken_again(
    sql: Fixture, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_of(instance)
    sql.work()
    job = log_of(instance)
    dies_before_the_record(monkeypatch)
    [left] = sql.names()
    sql.work()
    [log] = take_all()
    assert [row.backup.kind for row in sql.machine.history] == ["full", "log"], "no other one was taken"
    assert log.set_guid == str(sql.machine.history[-1].backup.set_guid) and f"-{job.pk}-1-" in left
    job.refresh_from_db()
    assert (job.state, job.result, job.attempts) == ("succeeded", log, 2) and sql.names() == []
    assert log.started_at < job.started_at, "it holds nothing of what was written after it had been taken"


def test_a_log_whose_job_was_given_up_goes_ahead_of_the_next(
    sql: Fixture, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = full_of(instance)
    sql.work()
    log_of(instance)
    dies_before_the_record(monkeypatch)
    BackupJob.objects.filter(state="running").update(state="failed")
    sql.work()
    second = log_of(instance)
    first_log, second_log = take_all()
    assert first_log.last_position == second_log.first_position
    assert first_log.first_position <= full.last_position < first_log.last_position
    second.refresh_from_db()
    assert second.result == second_log and sql.names() == []
    assert not instance.sets.exclude(pk__in=BackupSet.objects.valid()).exists(), "each lies under a key of its own"


def test_a_full_left_behind_keeps_its_own_time(
    sql: Fixture, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    default_backups.ask(instance, FARSHORE, database="Orders")
    dies_before_the_record(monkeypatch)
    attempted_at = BackupJob.objects.get().started_at
    [full] = take_all()
    assert full.started_at <= attempted_at and full.finished_at <= BackupJob.objects.get().finished_at


def test_what_is_recorded_already_is_only_removed(
    sql: Fixture, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_of(instance)
    sql.work()
    log_of(instance)
    monkeypatch.setattr(shares, "remove", lambda *_: None)  # dies between the record and this
    take_all()
    assert len(sql.names()) == 1
    monkeypatch.undo()
    sql.work()
    log_of(instance)
    take_all()
    assert instance.sets.filter(kind="log").count() == 2 and sql.names() == []


def test_half_a_file_of_the_job_is_removed_and_what_is_not_ours_is_left_alone(
    sql: Fixture, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = default_backups.ask(instance, FARSHORE, database="Orders")
    half = f"Orders_full_{instance.code}-{job.pk}-0-20260101T000000Z.bak"
    others = f"Orders_full_{instance.code}-{job.pk + 1000}-0-20260101T000000Z.bak"
    for name in (half, others, "Orders_full_of_the_dba.bak"):
        (sql.folder / name).write_bytes(b"TAPE" + bytes(5000))
    take_all()
    assert sql.names() == sorted([others, "Orders_full_of_the_dba.bak"])


def test_a_log_that_msdb_names_and_that_is_not_whole_here_holds_the_next_ones_up(
    sql: Fixture, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_of(instance)
    sql.work()
    log_of(instance)
    dies_before_the_record(monkeypatch)
    [name] = sql.names()
    body = (sql.folder / name).read_bytes()
    (sql.folder / name).write_bytes(body[: len(body) // 2])
    assert take_all() == []
    job = BackupJob.objects.get(kind="log")
    assert job.state == "queued" and name in job.error and sql.names() == [name]
    (sql.folder / name).write_bytes(body)  # the share has caught up
    make_due()
    assert kinds(take_all()) == [("Orders", "log")]


def test_a_link_in_the_share_is_not_followed(sql: Fixture, instance: Instance, world: World) -> None:
    job = default_backups.ask(instance, FARSHORE, database="Orders")
    secret = world.folder / "secret"
    secret.write_bytes(b"secret")
    name = f"Orders_full_{instance.code}-{job.pk}-0-20260101T000000Z.bak"
    (sql.folder / name).symlink_to(secret)
    assert take_all() == []
    assert "cannot be read here" in BackupJob.objects.get().error and secret.read_bytes() == b"secret"


def test_without_its_mark_a_share_is_not_written_to(sql: Fixture, instance: Instance) -> None:
    full_of(instance)
    (sql.folder / f".farshore-{instance.code}").unlink()
    sql.work()
    log_of(instance)
    assert take_all() == []
    assert "its mark is missing" in BackupJob.objects.get(kind="log").error
    assert len(sql.machine.history) == 1, "the server was not asked: it would have ended its log"


def test_a_full_share_is_told_and_nothing_is_left_there(sql: Fixture, instance: Instance) -> None:
    sql.machine.room = 10_000
    default_backups.ask(instance, FARSHORE, database="Orders")
    assert take_all() == []
    job = BackupJob.objects.get()
    assert "not enough space" in job.error and job.state == "queued" and sql.names() == []
    sql.machine.room = None
    make_due()
    assert kinds(take_all()) == [("Orders", "full")]


# ---- what is asked for


def test_the_timetable_takes_a_full_of_each_and_differentials_between(sql: Fixture, instance: Instance) -> None:
    sql.machine.add("Stock", pages=8)
    sql.machine.add("Asleep", state="OFFLINE")
    sql.machine.add("Theirs")
    sql.machine.accounts["farshore"].backs_up = frozenset({"Orders", "Stock", "Asleep"})
    Instance.objects.update(full_every_days=7, next_backup_at=clock.now())
    assert default_backups.ask_by_timetable() == 1
    assert kinds(take_all()) == [("Orders", "full"), ("Stock", "full")]
    assert not BackupJob.objects.exclude(state="succeeded").exists(), "what cannot be backed up is no error"

    sql.machine.add("Fresh", pages=8)
    sql.machine.accounts["farshore"].backs_up |= {"Fresh"}
    Instance.objects.update(next_backup_at=clock.now())
    default_backups.ask_by_timetable()
    assert sorted(kinds(take_all())) == [("Fresh", "full"), ("Orders", "differential"), ("Stock", "differential")]
    BackupSet.objects.filter(kind="full").update(started_at=clock.now() - 7 * DAY)
    Instance.objects.update(next_backup_at=clock.now())
    default_backups.ask_by_timetable()
    assert {kind for _, kind in kinds(take_all())} == {"full"}


def test_a_server_that_does_not_answer_is_told_and_looked_at_again(sql: Fixture, instance: Instance) -> None:
    sql.server.die()
    Instance.objects.update(next_backup_at=clock.now())
    default_backups.ask_by_timetable()
    assert take_all() == []
    job = BackupJob.objects.get()
    assert (job.state, job.database) == ("queued", "") and "Nothing listens" in job.error
    assert instance.databases.present().count() == 1, "a server that does not answer makes no database gone"


def test_a_differential_on_somebody_elses_full_becomes_a_full(sql: Fixture, instance: Instance) -> None:
    full_of(instance)
    orders = sql.machine.database("Orders")
    theirs = sql.machine.describe(orders, facts.Kind.FULL, copy_only=False, checksum=True, name="somebody's")
    sql.machine.taken(orders, theirs)
    default_backups.ask(instance, FARSHORE, database="Orders", kind=Kind.DIFFERENTIAL)
    [found] = take_all()
    assert found.kind == "full" and sql.names() == []
    assert "not among these backups" in Event.objects.get(kind="backup.full_instead").sentence


def test_a_new_database_has_a_full_before_its_logs(sql: Fixture, instance: Instance) -> None:
    Instance.objects.update(log_every_minutes=15, next_log_at=clock.now())
    default_backups.ask_logs_by_timetable()
    assert kinds(take_all()) == [("Orders", "full")]
    sql.work()
    Instance.objects.update(next_log_at=clock.now())
    default_backups.ask_logs_by_timetable()
    assert kinds(take_all()) == [("Orders", "log")]
    assert Event.objects.filter(kind__startswith="backup.").count() == 2, "of a log that was taken no event tells"


def test_logs_and_data_of_one_database_do_not_wait_for_each_other(sql: Fixture, instance: Instance) -> None:
    full, log = (default_backups.ask(instance, FARSHORE, database="Orders", kind=k) for k in KINDS)
    assert full != log
    for job, kind in ((full, Kind.FULL), (log, Kind.LOG), (full, Kind.DIFFERENTIAL)):
        assert default_backups.ask(instance, FARSHORE, database="Orders", kind=kind) == job
    assert default_backups.claim(SOURCE, default_backups.LOGS) == log
    assert default_backups.claim(SOURCE, default_backups.LOGS) is None
    assert default_backups.claim(SOURCE, default_backups.DATA) == full


KINDS = (Kind.FULL, Kind.LOG)


def test_beside_somebody_elses_job_only_copy_only_fulls_are_taken(world: World, sql: Fixture) -> None:
    """R-6.2b."""
    found = sql.add(arrival="found", prefixes=["backups/sql/"])
    assert default_backups.can_take(found) and not default_backups.is_in_turn(found)
    for kind in (Kind.LOG, Kind.DIFFERENTIAL):
        with pytest.raises(Refusal):
            default_backups.ask(found, world.by, database="Orders", kind=kind)
    theirs = world.finished(found, clock.now() - timedelta(hours=30), database="Orders")
    world.enable(found)
    job = BackupJob.objects.get()
    assert (job.database, job.reason, job.is_copy_only) == ("Orders", "24h", True)
    [full] = take_all()
    assert full.is_copy_only and sql.machine.database("Orders").base is None
    [copy] = world.carry()
    assert copy.set == full and copy.state == CopyState.COMPLETED
    assert default_backups.ask_by_timetable() == 0 and theirs.copies.count() == 0


def test_an_instance_known_by_its_files_only_is_not_backed_up(world: World) -> None:
    found = world.instance("ledger")
    assert not default_backups.can_take(found)
    taken = world.instance("shop", arrival="taken", host="127.0.0.1")
    assert not default_backups.can_take(taken), "nobody has named a share"
    with pytest.raises(Refusal, match="no share is known"):
        default_backups.ask(taken, world.by)


def test_enabling_counts_the_databases_that_the_server_names(world: World, sql: Fixture) -> None:
    """R-6.1: a database without a valid set gets exactly one full; one that is known to be gone gets none."""
    for name in ("Stock", "Dropped"):
        sql.machine.add(name, pages=8)
    instance = sql.add()
    full_of(instance)
    world.finished(_with_folder(instance), clock.now() - 3 * DAY, database="Dropped")
    del sql.machine.databases["dropped"]
    standings.refresh(instance)
    assert databases_of([instance], clock.now())[instance.pk] == ["Orders", "Stock"]
    for _ in range(2):
        world.enable(instance)
        world.disable(instance)
    world.enable(instance)
    assert list(BackupJob.objects.filter(reason="24h").values_list("database", flat=True)) == ["Stock"]


def test_enabling_a_server_that_was_never_looked_at_backs_each_database_up_once(world: World, sql: Fixture) -> None:
    instance = sql.add()
    instance.databases.all().delete()
    for _ in range(2):
        world.enable(instance)
        world.disable(instance)
    world.enable(instance)
    assert BackupJob.objects.get().database == ""
    assert kinds(take_all()) == [("Orders", "full")]


def _with_folder(instance: Instance) -> Instance:
    instance.prefixes = ["ours/"]
    return instance


def test_enabling_looks_for_databases_that_have_come_since_the_last_look(world: World, sql: Fixture) -> None:
    instance = sql.add()
    full_of(instance)
    sql.machine.add("Fresh", pages=8)
    Instance.objects.update(databases_seen_at=clock.now() - timedelta(hours=2))
    instance.refresh_from_db()
    world.enable(instance)
    assert kinds(take_all()) == [("Fresh", "full")]


def test_a_database_that_is_never_backed_up_is_told_while_the_others_are(sql: Fixture) -> None:
    sql.machine.add("Theirs")
    sql.machine.accounts["farshore"].backs_up = frozenset({"Orders"})
    instance = sql.add()
    instance.databases.update(first_seen_at=clock.now() - 3 * DAY)
    Instance.objects.update(created_at=clock.now() - 3 * DAY)
    watch.watch()
    assert [alert.code for alert in Alert.objects.filter(instance=instance)] == ["no_default_backup"]
    default_backups.ask(instance, FARSHORE)
    take_all()
    watch.watch()
    alert = Alert.objects.get(instance=instance, closed_at=None)
    assert alert.code == "database_not_backed_up" and "Theirs" in alert.sentence and "script" in alert.remedy


def test_the_process_of_a_log_goes_on_with_the_others_of_its_instance(sql: Fixture) -> None:
    sql.machine.add("Stock", pages=8)
    instance = sql.add(log_every_minutes=5)
    default_backups.ask(instance, FARSHORE)
    take_all()
    default_backups.ask(instance, FARSHORE, kind=Kind.LOG)
    default_backups.ask(instance, FARSHORE, database="Orders")
    default_backups.take_and_go_on(default_backups.claim(SOURCE, default_backups.LOGS))
    assert instance.sets.filter(kind="log").count() == 2
    assert BackupJob.objects.get(state="queued").kind == "full", "which is another process's"


def test_logs_have_room_while_fulls_hold_every_place(
    sql: Fixture, settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql.machine.add("Stock", pages=8)
    instance = sql.add()
    settings.BACKUPS_AT_ONCE = 1
    for name in ("_children", "_taking_logs"):
        monkeypatch.setattr(tasks, name, [])
    monkeypatch.setattr(tasks, "_child", lambda *_: subprocess.Popen(["sleep", "600"]))  # as busy as a real one
    asked = [("Orders", Kind.FULL), ("Stock", Kind.FULL), ("Orders", Kind.LOG)]
    for database, kind in asked:
        default_backups.ask(instance, FARSHORE, database=database, kind=kind)
    for _ in range(3):
        tasks.take_backups(SOURCE)
    running = BackupJob.objects.filter(state="running").values_list("database", "kind")
    for child in tasks._children + tasks._taking_logs:
        child.kill()
        child.wait()
    assert sorted(running) == [("Orders", "full"), ("Orders", "log")]


def test_logs_can_be_wanted_elsewhere_only_where_they_are_taken(world: World, sql: Fixture) -> None:
    instance = sql.add()
    world.store(TARGET)
    wanted = Settings(True, 7, TARGET, logs_enabled=True, agreed=True)
    [refusal] = policies.check(instance, wanted)
    assert (refusal.code, refusal.field) == ("LogBackupNotSupport", "logs_enabled")
    instance.log_every_minutes = 30
    assert policies.check(instance, wanted) == []
    assert not log_receiving.wanted().exists()
    policies.apply(sql_saved(instance), wanted, world.by)
    assert not log_receiving.wanted().exists() and not LogStream.objects.exists(), "nothing is received"


def sql_saved(instance: Instance) -> Instance:
    instance.save()
    return instance


def test_the_moments_of_logs_are_kept_like_those_of_backups(sql: Fixture) -> None:
    instance = sql.add(log_every_minutes=15)
    assert default_backups.ask_logs_by_timetable() == 0, "a first moment is worked out"
    instance.refresh_from_db()
    assert instance.next_log_at.minute % 15 == 0 and clock.now() < instance.next_log_at
    Instance.objects.update(next_log_at=clock.now() - DAY)
    assert [default_backups.ask_logs_by_timetable() for _ in range(2)] == [1, 0], "once however late"
    instance.refresh_from_db()
    assert instance.next_log_at > clock.now()
    BackupJob.objects.update(state="succeeded", finished_at=clock.now() - 2 * DAY)
    assert retiring.forget_log_jobs() == 1 and not BackupJob.objects.exists()


# ---- chains and secondaries


def test_a_chain_broken_on_the_server_is_for_a_person(world: World, sql: Fixture) -> None:
    """R-9.3: a copy-only full of the secondary cannot begin it."""
    sql.secondary()
    instance = sql.add(log_every_minutes=5, secondary_host="127.0.0.1", secondary_port=sql.others[0].port)
    world.store(TARGET)
    policies.apply(instance, Settings(True, 7, TARGET, logs_enabled=True, agreed=True), world.by)
    take_all()
    world.carry()
    for is_lost in (False, True, False):
        sql.work()
        log_of(instance)
        [log] = take_all()
        if is_lost:
            BackupFile.objects.filter(sets=log).update(state="gone")
            Copy.objects.filter(set=log).delete()
    sql.machine.break_chain(sql.machine.database("Orders"))
    standings.refresh(instance)
    world.carry()
    log_healing.heal_due()
    gap = LogGap.objects.get()
    assert gap.healing == "person" and gap.job is None and not BackupJob.objects.filter(reason="log_gap").exists()
    assert "ordinary full backup on the primary" in Alert.objects.get(code="log_gap").remedy
    Instance.objects.update(next_log_at=clock.now())
    default_backups.ask_logs_by_timetable()
    assert take_all() == [], "nor by the timetable of logs"


def test_logs_that_are_not_taken_are_told(sql: Fixture, instance: Instance) -> None:
    full_of(instance)
    Instance.objects.update(log_every_minutes=5)
    instance.databases.update(first_seen_at=clock.now() - DAY)
    watch.watch()
    alert = Alert.objects.get(code="logs_not_taken")
    assert "Orders" in alert.sentence and "log chain" in alert.remedy, "the last look was before the first full"
    sql.work()
    log_of(instance)
    take_all()
    watch.watch()
    alert.refresh_from_db()
    assert alert.closed_at is not None


def test_a_secondary_that_is_none_of_that_database_is_refused(sql: Fixture) -> None:
    other = sql.secondary()
    other.add("Stock")
    sql.machine.add("Stock")
    instance = sql.add(secondary_host="127.0.0.1", secondary_port=sql.others[0].port)
    assert default_backups.side_for_logs(instance, "Orders") == "secondary"
    assert default_backups.side_for_logs(instance, "Stock") == "primary", "it is in no availability group"
    default_backups.ask(instance, FARSHORE, database="Stock", on="secondary")
    assert take_all() == [] and "none of Stock" in BackupJob.objects.get().error
    BackupJob.objects.update(state="cancelled")
    default_backups.ask(instance, FARSHORE, on="secondary")
    assert [(one.database, one.is_copy_only) for one in take_all()] == [("Orders", True)]


def test_the_primary_may_be_down_while_its_secondary_is_backed_up(sql: Fixture) -> None:
    sql.secondary()
    sql.machine.database("Orders").group, other_group = sql.machine.database("Orders").group, uuid4()
    sql.machine.add("Else", group=other_group)
    instance = sql.add(secondary_host="127.0.0.1", secondary_port=sql.others[0].port)
    sql.server.die()
    assert secondaries.last_identity(instance) == ",".join(
        sorted({str(sql.machine.database("Orders").group), str(other_group)})
    )
    default_backups.ask(instance, FARSHORE, database="Orders", on="secondary")
    assert [one.server for one in take_all()] == ["SQL-SIM-2"]


def test_a_timetables_full_is_not_served_by_one_that_stands_beside(sql: Fixture) -> None:
    sql.secondary()
    instance = sql.add(secondary_host="127.0.0.1", secondary_port=sql.others[0].port)
    waiting = default_backups.ask(instance, FARSHORE, database="Orders", on="secondary")
    assert waiting.is_copy_only
    assert default_backups.ask(instance, FARSHORE, database="Orders") == waiting
    waiting.refresh_from_db()
    assert (waiting.is_copy_only, waiting.on) == (False, "primary")
    with pytest.raises(Refusal, match="No incrementals"):
        default_backups.ask(instance, FARSHORE, database="Orders", on="secondary", kind="differential")


def test_a_mark_that_somebody_made_a_link_is_not_written_through(sql: Fixture, instance: Instance) -> None:
    mark, elsewhere = sql.folder / f".farshore-{instance.code}", sql.folder.with_name("elsewhere")
    elsewhere.write_text("theirs")
    mark.unlink()
    mark.symlink_to(elsewhere)
    with pytest.raises(Refusal):
        shares.mark(instance)
    default_backups.ask(instance, FARSHORE, database="Orders")
    assert take_all() == [] and elsewhere.read_text() == "theirs" and sql.machine.history == []


def test_what_cannot_be_written_down_fails_its_job_and_stays_in_the_share(
    sql: Fixture, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_all()
    columns = recording.columns_of
    monkeypatch.setattr(recording, "columns_of", lambda facts: columns(facts) | {"server": "SQL\0SIM"})
    default_backups.ask(instance, FARSHORE, database="Orders")
    assert take_all() == []
    job = BackupJob.objects.latest("pk")
    assert (job.state, "cannot be written down" in job.error) == (BackupJob.State.QUEUED, True)
    assert len(sql.names()) == 1, "nothing is lost: whoever looks finds the file"


def test_how_far_the_server_is_stands_in_the_job_while_it_writes(
    sql: Fixture, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_all()
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.02)
    sql.machine.pace = 200_000
    default_backups.ask(instance, FARSHORE, database="Orders")
    assert len(take_all()) == 1
    job = BackupJob.objects.latest("pk")
    assert 0 < job.percent <= 100 and job.sent_bytes > 0
