"""A promoted standby's logs continue its former primary's: no gap, no backup, none lost (R-8.3, R-9.4; I5, I7, I8)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from backups import policies
from backups.chains import windows
from backups.copying import cancelling
from backups.keeping import purging, retention
from backups.logs import log_gaps
from backups.models import BackupFile, BackupJob, BackupSet, CancelReason, Copy, LogGap, RestorableInterval
from backups.oversight import audit
from tests.backups.logs import History, copied, open_alerts
from tests.backups.time_machine import TimeMachine
from tests.backups.world import OTHER, TARGET, World

DAY = timedelta(days=1)


@pytest.fixture
def history(world: World, time_machine: TimeMachine) -> History:
    """PostgreSQL on its first timeline, its logs wanted at TARGET."""
    world.store(TARGET)
    world.store(OTHER)
    facts = {"engine": "postgresql", "arrival": "taken", "host": "10.0.0.8", "secondary_host": "10.0.0.9"}
    story = History(world, world.instance("ledger", **facts), time_machine, database="", fork={"fork": "1"})
    world.set(story.instance, enabled=True, destination=TARGET, logs_enabled=True)
    BackupJob.objects.all().delete()
    assert policies.enabled_policy(story.instance)
    return story


def breaches() -> list[tuple[str, str]]:
    return [said for said in audit.breaches() if said[0] not in ("I1 objects present", "I16 seals")]


def needed_for(history: History, log: BackupSet) -> list[BackupSet]:
    store = history.world.store(TARGET)
    return [copy.set for copy in windows.copies_for(history.instance, store, "", log.finished_at)]


def assert_unbroken(history: History, whole: Sequence[BackupSet]) -> None:
    """The window goes on from one timeline to the next without a moment between, and nobody was told of a gap."""
    (began, until), *rest = history.windows
    for begins, ends in rest:
        assert begins <= until
        until = max(until, ends)
    assert (began, until) == (whole[0].finished_at, whole[-1].finished_at)
    assert history.gaps == [] and not open_alerts() and not BackupJob.objects.exists()
    assert needed_for(history, whole[-1]) == list(whole)
    assert breaches() == []


def test_a_promotion_is_followed_and_is_no_gap(history: History) -> None:
    full, old = history.full(), history.logs(2)
    history.work()
    history.promoted("2", "1")
    new = history.logs(2)
    history.work()
    assert_unbroken(history, [full, *old, *new])
    assert needed_for(history, old[0]) == [full, old[0]]


def test_two_promotions_are_followed_too(history: History) -> None:
    full, old = history.full(), history.logs(1)
    history.promoted("2", "1")
    middle = history.logs(1)
    history.promoted("3", "2")
    new = history.logs(2)
    history.work()
    assert_unbroken(history, [full, *old, *middle, *new])


def test_a_timeline_of_which_nobody_knows_where_it_began_is_a_gap(history: History) -> None:
    """R-9.4: the same story, with logs that do not tell."""
    history.full()
    history.logs(2)
    history.fork = {"fork": "2"}
    history.logs(2)
    history.work()
    assert [(gap.reached_fork, gap.fork, gap.healing) for gap in history.gaps] == [("1", "2", "backup")]


@pytest.mark.parametrize("late", [1, 2, 3])
def test_logs_that_arrive_in_another_order_come_to_the_same(history: History, late: int) -> None:
    """I7: the old timeline's last, the new one's first, or its second arrives when all others have."""
    full, old = history.full(), history.logs(2)
    history.promoted("2", "1")
    new = history.logs(3)
    whole = [full, *old, *new]
    Copy.objects.filter(set=whole[late + 1]).update(due_at=history.time.at + timedelta(hours=1))
    history.work()
    assert breaches() == []
    Copy.objects.update(due_at=history.time.at)
    history.work()
    assert_unbroken(history, whole)


@pytest.mark.parametrize("late", [1, 2])
def test_a_window_that_does_not_cross_is_found(history: History, late: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """I7: a bug planted on purpose: a log that joins two timelines is taken for one that only follows."""
    monkeypatch.setattr(windows, "_joins_forks", lambda copy, readable: False)
    history.full()
    logs = history.logs(2)
    history.promoted("2", "1")
    logs += history.logs(3)
    Copy.objects.filter(set=logs[late]).update(due_at=history.time.at + timedelta(hours=1))
    history.work()
    Copy.objects.update(due_at=history.time.at)
    history.work()
    assert "I7 windows" in {name for name, _ in breaches()}


def test_a_former_primary_s_logs_stay_its_own_history(history: History) -> None:
    """They lead to no moment of the new timeline, also when they arrive behind it."""
    full, old = history.full(), history.logs(1)
    history.promoted("2", "1")
    alone = history.log(fork="1", parent_fork="", fork_position=None, forked_at=None)
    history.fork["forked_at"] = history.time.forward(minutes=1)  # what was known of the time began anew
    history.position -= 10
    new = history.logs(2)
    history.work()
    assert needed_for(history, alone) == [full, old[0], alone]
    assert needed_for(history, new[1]) == [full, old[0], *new]
    assert history.gaps == [] and breaches() == []


def test_a_gap_of_the_new_timeline_is_none_of_a_former_primary_s_own(history: History) -> None:
    """I7: its own history goes on past the switch; the new timeline's does not, and the audit tells them apart."""
    history.full()
    history.logs(1)
    history.promoted("2", "1")
    alone = history.log(fork="1", parent_fork="", fork_position=None, forked_at=None)
    history.position -= 10
    history.lost_log()
    behind = history.log()
    history.work()
    assert [(gap.reached_fork, gap.fork) for gap in open_gaps(history)] == [("1", "2")]
    assert history.windows[-1][1] == alone.finished_at and breaches() == []
    RestorableInterval.objects.update(fork="2", reached=behind.last_position)
    assert any("passes a gap" in sentence for _, sentence in breaches())


def test_a_log_that_follows_on_the_new_timeline_looks_at_no_other_copy(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.full()
    history.logs(2)
    history.promoted("2", "1")
    history.logs(2)
    history.work()

    def never(*_: object) -> None:
        raise AssertionError("everything was looked at")

    for owner, verb in ((retention, "reschedule"), (retention, "lock_copies"), (windows, "chain_of")):
        monkeypatch.setattr(owner, verb, never)
    log = history.log()
    history.world.carry()
    assert history.windows[-1][1] == log.finished_at


def test_what_a_new_timeline_needs_of_the_old_one_stays_as_long_as_it(history: History) -> None:
    """R-12.6, I5: by its date, and at the last look before the bytes go."""
    full, old = history.full(), history.logs(3)
    history.promoted("2", "1")
    new = history.logs(2)
    history.work()
    history.time.forward(hours=1)
    retention.catch_up()
    assert {copied(found).expires_at for found in (full, *old)} == {copied(new[-1]).expires_at}
    history.full()
    history.work()
    past = history.time.at - 3 * DAY
    for found in (full, *old):
        Copy.objects.filter(set=found).update(state="expired", expires_at=past, expired_at=past, purge_at=past)
        copy = Copy.objects.select_related("set__instance", "destination_store").get(set=found)
        assert "needs it" in (purging.why_not_delete(copy, history.time.at, timedelta(0)) or ""), found
        Copy.objects.filter(set=found).update(state="completed", expired_at=None, purge_at=None)


def test_a_log_that_is_missing_at_the_switch_is_a_gap_with_its_limits(history: History) -> None:
    """R-9.4, I8: one gap, one backup."""
    history.full()
    old = history.logs(1)
    history.promoted("2", "1")
    history.lost_log()
    behind = history.log()
    history.work()
    log_gaps.settle(history.instance, history.world.store(TARGET), "")
    [gap] = history.gaps
    assert (gap.reached_fork, gap.reached, gap.fork, gap.begins) == (
        "1",
        old[-1].last_position,
        "2",
        behind.first_position,
    )
    assert gap.healing == "backup" and BackupJob.objects.count() == 1
    assert history.windows[-1][1] == old[-1].finished_at


# ---- what is missing at a destination and still at the source


def dropped(history: History, *logs: BackupSet) -> None:
    """A person cancelled their copies, which the next log shows to be a gap."""
    for log in logs:
        cancelling.cancel(log.copies.get(), CancelReason.PERSON, history.world.by)


def open_gaps(history: History) -> list[LogGap]:
    return [gap for gap in history.gaps if not gap.healed_at]


@pytest.mark.parametrize("lacking", [[2], [3], [2, 3, 4], [3, 4], [1, 2, 3, 4, 5]], ids=lambda found: f"logs {found}")
def test_logs_missing_around_a_switch_are_copied_from_the_source(history: History, lacking: list[int]) -> None:
    """R-9.4: the parent's last, the child's first, a whole timeline between: no backup is taken."""
    full, old = history.full(), history.logs(2)
    history.promoted("2", "1")
    middle = history.logs(2)
    history.promoted("3", "2")
    new = history.logs(3)
    whole = [full, *old, *middle, *new]
    dropped(history, *(whole[number] for number in lacking))
    assert open_gaps(history)
    history.work()
    assert open_gaps(history) == [] and "copy" in {gap.healing for gap in history.gaps}
    assert not open_alerts() and not BackupJob.objects.exists()
    assert needed_for(history, new[-1]) == whole
    assert {(min(begins for begins, _ in history.windows), max(until for _, until in history.windows))} == {
        (full.finished_at, new[-1].finished_at)
    }
    assert breaches() == []


def test_a_former_primary_s_logs_close_no_gap_of_the_new_timeline(history: History) -> None:
    """R-9.4, I7: they have the same positions, and lie at the source; what they hold is another history."""
    history.full()
    old = history.log()
    history.promoted("2", "1")
    alone = [history.log(fork="1", parent_fork="", fork_position=None, forked_at=None) for _ in range(2)]
    history.position -= 20
    history.lost_log()
    behind = history.log()
    dropped(history, *alone)
    history.work()
    [gap] = open_gaps(history)
    assert (gap.reached_fork, gap.reached, gap.fork, gap.begins) == ("1", old.last_position, "2", behind.first_position)
    assert gap.healing == "backup" and BackupJob.objects.count() == 1
    assert {log.copies.get().state for log in alone} == {"cancelled"}


def test_where_the_source_lacks_one_of_them_a_backup_is_taken(history: History) -> None:
    history.full()
    _, last = history.logs(2)
    history.promoted("2", "1")
    first, _ = history.logs(2)
    dropped(history, last, first)
    BackupFile.objects.filter(sets=last).update(state=BackupFile.State.GONE)
    history.work()
    assert [(gap.reached_fork, gap.fork, gap.healing) for gap in open_gaps(history)] == [("1", "2", "backup")]
    assert BackupJob.objects.count() == 1 and first.copies.get().state == "cancelled"
