"""The journey of logs: owed ahead of data, windows that never pass a hole, gaps healed once (R-8, R-9; I5, I7, I8)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from backups import default_backups, policies
from backups.chains import windows
from backups.copying import cancelling, planning, replication
from backups.default_backups import retiring
from backups.keeping import expiring, purging, retention
from backups.logs import log_gaps, log_receiving
from backups.models import (
    BackupFile,
    BackupJob,
    BackupSet,
    Copy,
    CopyPolicy,
    CopyState,
    Coverage,
    Edition,
    Event,
    Family,
    Instance,
    LogGap,
    LogStream,
    RestorableInterval,
)
from backups.oversight import audit, log_healing, protection
from backups.policies import Refusals, Settings
from regions.models import Store
from tests.backups.logs import MINUTE, History, copied, open_alerts
from tests.backups.time_machine import TimeMachine
from tests.backups.world import OTHER, TARGET, World

DAY = timedelta(days=1)


@pytest.fixture
def found(world: World, orders: Instance, time_machine: TimeMachine) -> History:
    """SQL Server, known by its files: log backups lie beside the fulls."""
    return History(world, orders, time_machine)


@pytest.fixture
def taken(world: World, time_machine: TimeMachine) -> History:
    """PostgreSQL, whose logs we receive."""
    world.store(TARGET)
    world.store(OTHER)
    facts = {"engine": "postgresql", "arrival": "taken", "host": "10.0.0.8", "secondary_host": "10.0.0.9"}
    return History(world, world.instance("ledger", **facts), time_machine, database="")


@pytest.fixture(params=["found", "taken"])
def history(request: pytest.FixtureRequest, db: None) -> History:
    return request.getfixturevalue(request.param)


def enable(history: History, **more: object) -> CopyPolicy:
    more = {"enabled": True, "destination": TARGET, "logs_enabled": True, **more}
    history.world.set(history.instance, **more)
    return policies.enabled_policy(history.instance)


def breaches() -> list[tuple[str, str]]:
    return [said for said in audit.breaches() if said[0] not in ("I1 objects present", "I16 seals")]


# ---- owed


def test_each_log_is_owed_once_and_goes_ahead_of_data(history: History) -> None:
    """R-5.2, R-8: oldest first, before a full that was planned before them."""
    enable(history)
    full, logs = history.full(), history.logs(3)
    planning.weigh_due()
    carried = [copy.set for copy in history.world.carry()]
    assert carried == [*logs, full]
    assert [copied(log).priority for log in logs] == [0, 0, 0]
    assert history.windows == [(history.windows[0][0], history.time.at)]
    assert breaches() == []


def test_without_log_backup_logs_are_not_copied(history: History) -> None:
    """R-12.4: disabled is the default."""
    history.world.enable(history.instance)
    full, log = history.full(), history.log()
    history.work()
    assert copied(full) and not log.copies.exists()
    assert not Coverage.objects.filter(content="log").exists()
    assert not LogStream.objects.exists()


def test_log_backup_is_on_only_while_data_backup_is(history: History) -> None:
    """R-8.1: disabling data turns logs off, and enabling data alone leaves them off."""
    enable(history)
    history.full()
    history.world.set(history.instance, enabled=False)
    assert not policies.current_settings(history.instance).logs_enabled
    assert not Coverage.objects.filter(ended_at=None).exists()
    history.time.forward(minutes=1)
    history.world.set(history.instance, enabled=True)
    log = history.log()
    assert not log.copies.exists()


def test_an_engine_that_gives_no_logs_is_refused_beside_the_field(world: World, orders: Instance) -> None:
    """R-12.4; the same instance is enabled without logs."""
    mute = world.instance("mute", engine="mariadb", arrival="found")
    with pytest.raises(Refusals) as refused:
        policies.apply(mute, Settings(True, 7, TARGET, logs_enabled=True, agreed=True), world.by)
    assert [(item.field, item.code) for item in refused.value.items] == [("logs_enabled", "LogBackupNotSupport")]
    policies.apply(mute, Settings(True, 7, TARGET, agreed=True), world.by)


def test_a_change_of_log_status_cancels_nothing_that_is_on_its_way(history: History) -> None:
    """R-14.5."""
    enable(history)
    history.full()
    log = history.log()
    claimed = replication.claim(TARGET)
    history.world.set(history.instance, logs_enabled=False)
    replication.carry_slice(claimed)
    history.world.carry()
    assert copied(log)
    later = history.log()
    assert not later.copies.exists()
    kinds = Event.objects.filter(kind__startswith="policy.logs").order_by("pk").values_list("kind", flat=True)
    assert list(kinds) == ["policy.logs_disabled"]


def test_of_two_who_change_the_log_status_the_second_is_told(history: History) -> None:
    """I14, R-14.5."""
    enable(history)
    before = policies.current_settings(history.instance)
    history.world.set(history.instance, logs_enabled=False)
    with pytest.raises(Refusals, match="changed while this was open"):
        policies.apply(history.instance, replace(before, retention_days=30), history.world.by)


def test_a_suspension_and_a_release_end_the_copying_of_logs(history: History) -> None:
    enable(history)
    history.full()
    Instance.objects.filter(pk=history.instance.pk).update(family=Family.SHARED)
    policies.requalify(history.instance)
    assert not history.log().copies.exists()
    Instance.objects.filter(pk=history.instance.pk).update(family=Family.DEDICATED)
    history.time.forward(minutes=1)
    policies.requalify(history.instance)
    resumed = history.log()
    assert resumed.copies.exists()
    history.time.forward(minutes=1)
    policies.release(history.instance, history.world.by)
    assert not history.log().copies.exists()
    history.world.carry()
    assert copied(resumed), "what is owed is finished (R-2.4)"


def test_a_changed_destination_gets_the_logs_from_the_last_day_on_and_all_that_follow(history: History) -> None:
    """R-6.4, R-8.2, R-14.4."""
    enable(history)
    full, logs = history.full(), history.logs(3)
    history.work()
    history.world.set(history.instance, destination=OTHER)
    later = history.log()
    assert [copy.set for copy in history.world.carry(OTHER)] == [*logs, later, full]
    interval = RestorableInterval.objects.get(store__region=OTHER)
    assert interval.ended_at == history.time.at
    assert not open_alerts()


# ---- enabling


def test_enabling_logs_copies_those_that_follow_a_set_of_the_last_day_oldest_first(history: History) -> None:
    history.world.enable(history.instance)
    BackupJob.objects.all().delete()
    full, logs = history.full(), history.logs(4)
    history.time.forward(minutes=1)
    history.world.set(history.instance, logs_enabled=True)
    history.world.carry()
    assert [copied(log).origin for log in logs] == ["24h"] * 4
    assert history.windows[0][1] == logs[-1].finished_at
    assert copied(full)
    assert not BackupJob.objects.exists()


def test_the_set_that_the_most_logs_follow_counts(history: History) -> None:
    """Behind a hole only the newer set is followed; the logs before the hole would lead nowhere."""
    history.world.enable(history.instance)
    history.full()
    before = history.log()
    history.lost_log()
    history.full()
    after = history.logs(2)
    history.time.forward(minutes=1)
    history.world.set(history.instance, logs_enabled=True)
    history.work()
    assert [copied(log).state for log in after] == ["completed"] * 2
    assert not before.copies.exists()


@pytest.mark.parametrize(
    ("facts", "side"),
    [({}, "secondary"), ({"secondary_host": ""}, "primary"), ({"edition": Edition.BASIC}, "primary")],
    ids=["secondary", "no secondary", "basic"],
)
def test_where_no_logs_follow_one_backup_is_taken(taken: History, facts: dict, side: str) -> None:
    """R-9.1, R-9.2: known by where the first log begins; nobody is alarmed, for a backup goes with the beginning."""
    Instance.objects.filter(pk=taken.instance.pk).update(**facts)
    taken.instance.refresh_from_db()
    taken.world.enable(taken.instance)
    BackupJob.objects.all().delete()
    taken.full()
    taken.lost_log()
    taken.world.set(taken.instance, logs_enabled=True)
    assert not BackupJob.objects.exists()
    for _ in range(2):
        taken.log()
        taken.work()
    job = BackupJob.objects.get()
    assert (job.reason, job.on) == ("log_gap", side)
    assert not open_alerts()


def test_where_the_first_log_follows_the_last_full_no_backup_is_taken(taken: History) -> None:
    """R-8.2: a server may still have what was written since."""
    taken.world.enable(taken.instance)
    BackupJob.objects.all().delete()
    taken.full()
    taken.world.set(taken.instance, logs_enabled=True)
    taken.log(first_position=taken.position - 20)
    taken.work()
    assert not BackupJob.objects.exists()
    assert taken.windows[0][1] == taken.time.at


def test_the_first_full_waits_for_the_logs_and_not_longer_than_a_few_minutes(taken: History) -> None:
    """R-6.2 and R-9.1 together need one backup, not two."""
    enable(taken)
    job = BackupJob.objects.get()
    assert job.reason == "24h"
    assert default_backups.claim(taken.instance.region_id) is None
    stream = log_receiving.claim(taken.instance.region_id)
    log_receiving.begin(stream)
    assert default_backups.claim(taken.instance.region_id) == job
    BackupJob.objects.update(state="queued", leased_until=None, due_at=taken.time.at + log_receiving.LOGS_FIRST)
    taken.time.forward(minutes=3)
    assert default_backups.claim(taken.instance.region_id) == job, "logs that never begin hold nothing up"


def test_a_found_instance_without_logs_is_enabled_and_waits_for_them(found: History) -> None:
    enable(found)
    found.full()
    assert not LogStream.objects.exists()
    first = found.log()
    found.work()
    assert copied(first)
    assert found.gaps == []


# ---- windows and gaps (I7, I8, R-9.4)


@pytest.mark.parametrize("missing", range(6))
def test_dropping_any_one_log_stops_the_window_before_it_raises_one_alert_and_triggers_one_backup(
    taken: History, missing: int
) -> None:
    """R-9.4, I7, I8: said with exact limits, and healed once; the backup brings the window back."""
    enable(taken)
    BackupJob.objects.all().delete()
    taken.full()
    for number in range(6):
        taken.lost_log() if number == missing else taken.log()
        taken.work()
    lost_at = taken.windows[0][0] + missing * MINUTE
    if missing == 5:
        assert taken.gaps == [], "what comes last is missed by nobody until the next log arrives"
        taken.log()
        taken.work()
    assert taken.windows == [(taken.windows[0][0], lost_at)]
    [gap] = taken.gaps
    assert (gap.from_time, gap.until_time) == (lost_at, lost_at + MINUTE)
    assert (gap.reached, gap.begins) == (100 + missing * 10, 110 + missing * 10)
    [said] = open_alerts()
    assert f"from {lost_at:%Y-%m-%d %H:%M:%S} to {lost_at + MINUTE:%Y-%m-%d %H:%M:%S} UTC" in said
    job = BackupJob.objects.get()
    assert (job.reason, job.on, gap.job) == ("log_gap", "secondary", job)
    for _ in range(3):
        taken.log()
        taken.work()
    assert BackupJob.objects.count() == 1
    assert protection.of(taken.instance, taken.time.at).state == "log_gap"

    BackupJob.objects.update(state="succeeded")
    healing = taken.full()
    taken.log()
    taken.work()
    assert open_alerts() == []
    assert taken.gaps[0].healed_at
    assert [begun for begun, _ in taken.windows] == [taken.windows[0][0], healing.finished_at]
    assert taken.windows[-1][1] == taken.time.at
    assert protection.of(taken.instance, taken.time.at).state != "log_gap"
    assert BackupJob.objects.count() == 1
    assert breaches() == []


def test_the_next_gap_triggers_the_next_backup(taken: History) -> None:
    """I8."""
    enable(taken)
    BackupJob.objects.all().delete()
    for _ in range(2):
        taken.full()
        taken.log()
        taken.lost_log()
        taken.log()
        taken.work()
        BackupJob.objects.filter(state="queued").update(state="succeeded")
    assert BackupJob.objects.filter(reason="log_gap").count() == 2
    assert [bool(gap.healed_at) for gap in taken.gaps] == [True, False]


def test_a_missing_file_that_the_source_still_has_is_copied_and_no_backup_is_taken(history: History) -> None:
    """R-9.4: here a person had cancelled its copy; the next log shows what that means."""
    enable(history)
    BackupJob.objects.all().delete()
    history.full()
    history.world.carry()
    first, dropped, last = history.logs(3)
    cancelling.cancel(dropped.copies.get(), "by_a_person", history.world.by)
    history.world.carry()
    assert history.windows[0][1] == first.finished_at
    [gap] = history.gaps
    assert gap.reached == first.last_position and gap.begins == last.first_position
    assert len(open_alerts()) == 1
    history.work()
    assert copied(dropped)
    assert history.windows == [(history.windows[0][0], last.finished_at)]
    assert (history.gaps[0].healing, open_alerts()) == ("copy", [])
    assert not BackupJob.objects.exists()


def test_a_person_is_asked_where_no_backup_can_be_taken(found: History) -> None:
    """R-9.3, R-9.4."""
    enable(found)
    found.full()
    found.log()
    found.lost_log()
    found.log()
    found.work()
    [gap] = found.gaps
    assert gap.healing == "person"
    assert protection.of(found.instance, found.time.at).state == "log_gap"
    assert "Take a full backup" in log_gaps.REMEDIES[gap.healing]
    found.full()
    found.work()
    assert found.gaps[0].healed_at and not open_alerts()


def test_a_log_that_vanished_before_it_was_copied_is_one_worry_and_not_two(taken: History) -> None:
    """R-2.5, R-9.4: the gap, with its limits, stands for the copy that was cancelled."""
    enable(taken)
    BackupJob.objects.all().delete()
    taken.full()
    taken.world.carry()
    gone = taken.log()
    file = gone.files.get()
    (taken.world.folder / taken.instance.region_id / file.key).unlink()
    taken.world.carry()
    assert gone.copies.get().cancel_reason == "source_gone"
    assert len(open_alerts("copy_cancelled")) == 1
    taken.log()
    taken.work()
    assert len(open_alerts()) == 1 and open_alerts("copy_cancelled") == []
    assert BackupJob.objects.count() == 1


def test_what_is_only_late_is_no_gap_and_the_window_waits_for_it(history: History) -> None:
    enable(history)
    history.full()
    history.world.carry()
    first, second, third = history.logs(3)
    Copy.objects.filter(set=first).update(due_at=history.time.at + timedelta(hours=1))
    history.work()
    assert copied(second) and copied(third)
    assert history.windows == [(history.windows[0][0],) * 2]
    assert history.gaps == []
    Copy.objects.update(due_at=history.time.at)
    history.work()
    assert history.windows == [(history.windows[0][0], third.finished_at)]


def test_a_gap_is_found_even_when_the_log_behind_it_was_planned_long_ago(history: History) -> None:
    """A log in the middle is given up after others had followed it."""
    enable(history)
    BackupJob.objects.all().delete()
    history.full()
    logs = history.logs(5)
    BackupFile.objects.filter(sets=logs[2]).update(state=BackupFile.State.GONE)
    cancelling.cancel(logs[2].copies.get(), "source_gone")
    assert [gap.begins for gap in history.gaps] == [logs[3].first_position]
    history.work()
    assert history.gaps[0].healing == ("backup" if history.instance.arrival == "taken" else "person")
    assert history.windows[0][1] == logs[1].finished_at


def test_before_logs_were_wanted_nothing_is_alarming(taken: History) -> None:
    """R-8.2: that logs begin only now is no gap anybody has to be woken for; a backup goes with their beginning."""
    taken.world.enable(taken.instance)
    BackupJob.objects.all().delete()
    taken.full()
    taken.work()
    taken.lost_log()
    taken.world.set(taken.instance, logs_enabled=True)
    taken.log()
    taken.work()
    assert BackupJob.objects.get().reason == "log_gap"
    assert open_alerts() == []
    assert [gap.healing for gap in taken.gaps] == ["backup"]


def test_one_database_s_gap_leaves_the_others_alone(found: History) -> None:
    enable(found)
    other = replace(found, database="Stock")
    for one in (found, other):
        one.full()
        one.log()
    found.lost_log()
    for one in (found, other):
        one.log()
        one.work()
    assert len(found.gaps) == 1 and other.gaps == []
    assert other.windows[0][1] > found.windows[0][1]


def test_disabling_logs_ends_the_worry(taken: History) -> None:
    enable(taken)
    taken.full()
    taken.log()
    taken.lost_log()
    taken.log()
    assert open_alerts()
    taken.world.set(taken.instance, logs_enabled=False)
    assert open_alerts() == []
    assert protection.of(taken.instance, taken.time.at).state != "log_gap"


def test_the_audit_finds_a_window_that_is_not_what_the_copies_come_to(history: History) -> None:
    enable(history)
    history.full()
    history.logs(2)
    history.lost_log()
    history.log()
    history.work()
    assert breaches() == []
    RestorableInterval.objects.update(ended_at=history.time.at, reached=history.position)
    said = [sentence for name, sentence in breaches() if name == "I7 windows"]
    assert len(said) == 2 and "passes a gap" in said[1]


# ---- retention of chains (R-12.6, I5)


def test_what_the_newest_log_needs_stays_as_long_as_it(history: History) -> None:
    enable(history)
    full, logs = history.full(), history.logs(30)
    history.work()
    newest = copied(logs[-1])
    history.time.forward(hours=1)
    retention.catch_up()
    kept = [copied(found) for found in (full, *logs[:-1])]
    assert {copy.expires_at for copy in kept} == {newest.expires_at}
    assert {copy.kept_for for copy in kept} == {"needed"}
    assert newest.kept_for == ""


def test_a_new_full_lets_the_former_chain_go(history: History) -> None:
    """Not before its copy has arrived: until then the logs behind it stand on the former one."""
    enable(history)
    history.full()
    old = history.log()
    history.work()
    new_full = history.full(first_position=history.position, last_position=history.position)
    new_log = history.log()
    history.time.forward(hours=1)
    retention.catch_up()
    assert old.copies.get().expires_at == new_log.finished_at + 7 * DAY
    history.work()
    assert copied(old).expires_at == old.finished_at + 7 * DAY
    assert copied(new_full).expires_at == new_log.finished_at + 7 * DAY


def test_a_log_that_follows_looks_at_no_other_copy(
    history: History, django_assert_max_num_queries: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance has tens of thousands: owing one more, and its arrival, may not load them."""
    enable(history)
    history.full()
    history.logs(3)
    history.work()

    def never(*_: object) -> None:
        raise AssertionError("everything was looked at")

    for owner, verb in ((retention, "reschedule"), (retention, "lock_copies"), (windows, "chain_of")):
        monkeypatch.setattr(owner, verb, never)
    with django_assert_max_num_queries(120):
        log = history.log()
        [copy] = history.world.carry()
    assert copy.set == log
    assert history.windows[0][1] == log.finished_at


def test_dates_are_caught_up_with_before_anything_expires(history: History) -> None:
    enable(history)
    full = history.full()
    history.log()
    history.work()
    history.time.forward(minutes=50)
    late = history.log()
    assert full.copies.get().expires_at < late.copies.get().expires_at
    history.work()
    history.time.at = late.finished_at + 7 * DAY - timedelta(minutes=1)
    expiring.expire_due()
    assert copied(full).expires_at == late.copies.get().expires_at
    history.time.forward(minutes=2)
    expiring.expire_due()
    assert not Copy.objects.filter(set__kind="log", state=CopyState.COMPLETED).exists()
    assert copied(full).kept_for == "last_good"
    assert history.windows == [(history.windows[0][0],) * 2]


def test_nothing_that_a_log_needs_is_deleted_whatever_its_date_says(history: History) -> None:
    """I5: the last look before the bytes go asks the chain, not only the date."""
    enable(history)
    full, logs = history.full(), history.logs(2)
    history.work()
    history.full()
    history.work()
    past = history.time.at - 3 * DAY
    for found, needed in ((full, True), (logs[0], True), (logs[1], False)):
        Copy.objects.filter(set=found).update(state="expired", expires_at=past, expired_at=past, purge_at=past)
        copy = Copy.objects.select_related("set__instance", "destination_store").get(set=found)
        said = purging.why_not_delete(copy, history.time.at, timedelta(0))
        assert (said is not None and "needs it" in said) == needed, found
        Copy.objects.filter(set=found).update(state="completed", expired_at=None, purge_at=None)


def test_a_log_that_outlived_its_date_in_the_queue_keeps_all_that_it_needs(history: History) -> None:
    """I5: by way of logs that have expired too, and only until it is cancelled."""
    enable(history)
    full, logs = history.full(), history.logs(2)
    history.work()
    queued = history.log()
    history.full()
    history.log()
    Copy.objects.filter(set=queued).update(due_at=history.time.at + 30 * DAY)
    history.work()
    history.time.at = queued.finished_at + 9 * DAY
    expiring.expire_due()
    history.time.forward(hours=25)
    assert states(full, *logs, queued) == ["expired"] * 3 + ["planned"]
    purging.purge_due(TARGET)
    assert states(full, *logs, queued) == ["expired"] * 3 + ["planned"]
    Copy.objects.filter(set=queued).update(due_at=history.time.at)
    Copy.objects.filter(state="expired").update(due_at=history.time.at)
    history.world.carry()
    purging.purge_due(TARGET)
    assert states(full, *logs, queued) == ["deleted"] * 3 + ["cancelled"]


def test_what_only_lies_in_one_file_with_the_last_good_copy_is_deleted_beside_a_log_that_waits(found: History) -> None:
    """I5, I6: the log leads on from the last good copy; nothing in the chain needs the full it was appended to."""
    enable(found)
    older = found.full()
    newer = found.full(beside=older)
    found.work()
    queued = found.log()
    Copy.objects.filter(set=queued).update(due_at=found.time.at + 30 * DAY)
    found.time.at = queued.finished_at + 9 * DAY
    expiring.expire_due()
    found.time.forward(hours=25)
    assert (states(older, newer, queued), copied(newer).kept_for) == (["expired", "completed", "planned"], "last_good")
    purging.purge_due(TARGET)
    assert states(older, newer, queued) == ["deleted", "completed", "planned"]
    assert copied(newer).copied_files.get().transfer.state == "verified"  # the object stays: it is shared


def states(*sets: BackupSet) -> list[str]:
    return [found.copies.get().state for found in sets]


def test_expiry_moves_the_window_and_undo_brings_it_back(history: History) -> None:
    """I7, R-14.3."""
    enable(history, retention_days=30)
    history.full()
    history.logs(2)
    history.work()
    before = history.windows
    history.time.forward(days=10)
    history.full()
    history.work()
    assert len(history.windows) == 2
    history.world.set(history.instance, retention_days=7)
    assert len(history.windows) == 1 and history.windows[0][0] > before[0][1]
    policies.undo_shortening(history.instance, history.world.by)
    assert history.windows[0] == before[0]
    assert breaches() == []


def test_windows_that_were_never_worked_out_are(history: History) -> None:
    """Copies that arrived before there were windows."""
    enable(history)
    history.full()
    history.log()
    history.work()
    before = history.windows
    RestorableInterval.objects.all().delete()
    assert windows.rebuild_missing() == 1
    assert history.windows == before
    assert windows.rebuild_missing() == 0


# ---- default backups at their source


def test_received_logs_are_retired_with_the_chain_they_belong_to(taken: History) -> None:
    """A moment of the last seven days can be restored from the source itself, and what nobody needs goes."""
    enable(taken)
    ours = {"origin": "taken"}
    old, old_logs = taken.full(), taken.logs(2)
    taken.work()
    BackupFile.objects.update(is_ours=True)
    taken.time.forward(days=6)
    young = taken.log(first_position=taken.position - 1)
    new = taken.full()
    taken.work()
    BackupFile.objects.update(is_ours=True)
    assert young.origin == ours["origin"]

    taken.time.forward(days=2)
    assert retiring.retire_due() == 0, "the log of two days ago needs all of them"
    taken.time.forward(days=5, hours=1)
    assert retiring.retire_due() == 4
    gone = [found.pk for found in (old, *old_logs, young)]
    assert set(taken.instance.sets.filter(deleted_at__isnull=False).values_list("pk", flat=True)) == set(gone)
    taken.time.forward(days=30)
    assert retiring.retire_due() == 0, "the newest full stays while the instance lives"
    new.refresh_from_db()
    assert new.deleted_at is None


def test_a_log_whose_copy_is_owed_is_not_retired(taken: History) -> None:
    enable(taken, retention_days=30)
    taken.full()
    log = taken.log()
    BackupFile.objects.update(is_ours=True)
    taken.time.forward(days=20)
    taken.full()
    assert retiring.retire_due() == 0
    taken.work()
    assert retiring.retire_due() == 2
    log.refresh_from_db()
    assert log.deleted_at


def test_a_gap_is_decided_on_by_one_sweep_only(taken: History) -> None:
    enable(taken)
    BackupJob.objects.all().delete()
    taken.full()
    taken.log()
    taken.lost_log()
    taken.log()
    [gap] = taken.gaps
    assert log_healing.heal(gap.pk) is True
    assert log_healing.heal(gap.pk) is False
    assert log_healing.heal_due() == 0
    assert BackupJob.objects.count() == 1


def test_logs_at_a_former_destination_concern_nobody(history: History) -> None:
    enable(history)
    history.full()
    history.work()
    history.world.set(history.instance, destination=OTHER)
    store = Store.objects.get(region=TARGET)
    log_gaps.settle(history.instance, store, history.database)
    assert not LogGap.objects.filter(store=store).exists()
