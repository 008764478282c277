"""The models earn their trust: with a bug planted in the real code, each of them fails."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction

from backups.chains import dependents, log_lines, windows
from backups.copying import carrying, planning, replication
from backups.copying.planning import bases, checking, weighing
from backups.keeping import expiring, purging, retention, source_gone
from backups.keeping.retention import DAY
from backups.models import BackupSet, Copy, CopyState, Instance, RestorableInterval, StorageSpan, Transfer
from regions import clock
from tests.backups import histories, shortcut
from tests.backups.histories import Machine
from tests.backups.planning_model import PlanningMachine
from tests.backups.retention_model import RetentionMachine
from tests.backups.time_machine import TimeMachine
from tests.backups.world import World

Plant = Callable[[pytest.MonkeyPatch], None]


def coverage_never_ends(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(planning, "close_coverage", lambda policy, at: None)


def weighed_twice_is_planned_twice(patch: pytest.MonkeyPatch) -> None:
    weigh = planning.weigh

    def forgetful(pk: int) -> bool:
        BackupSet.objects.filter(pk=pk).update(weighed_at=None)
        return weigh(pk)

    for asked in (planning, weighing):
        patch.setattr(asked, "weigh", forgetful)


def a_copy_commits_under_an_old_route(patch: pytest.MonkeyPatch) -> None:
    def publish(copy: Copy, transfers: list[Transfer]) -> None:
        done = {"state": CopyState.COMPLETED, "completed_at": clock.now(), "manifest_key": f"manifest-{copy.pk}"}
        with transaction.atomic():
            Copy.objects.filter(pk=copy.pk).update(cancel_reason="", **done)

    patch.setattr(replication, "publish", publish)
    patch.setattr(carrying, "renew", lambda copy, **changes: None)


def a_changed_destination_forgets_what_was_in_flight(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(planning, "plan_anew", lambda policy, orphan, at: None)


def a_differential_travels_without_its_full(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(bases, "base_of", lambda differential, named: None)


def the_check_looks_back_half_a_day(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checking, "DAY", timedelta(hours=12))


def bytes_go_before_their_grace(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settings, "PURGE_GRACE_SECONDS", 3600)


def the_last_good_copy_goes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(expiring, "is_newest_full", lambda copy, at: False)


def the_last_good_copy_goes_when_enabled_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(expiring, "keep_last_good", lambda policy, by: None)


def charging_goes_on_after_expiry(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retention, "close_span", lambda copy, at: None)


def an_undo_charges_for_what_was_free(patch: pytest.MonkeyPatch) -> None:
    def reopen(copy: Copy, at: Any) -> None:
        spans = StorageSpan.objects.filter(copy=copy)
        if not spans.update(ended_at=None):
            StorageSpan.objects.create(copy=copy, bytes=copy.stored_bytes, began_at=at)

    patch.setattr(retention, "open_span", reopen)


def what_needs_a_full_does_not_keep_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retention, "all_of", lambda copies: {})


def what_a_log_needs_goes_before_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dependents.log_chain, "needs", lambda data, logs, rules: {})


def what_logs_need_is_never_dated_anew(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retention, "catch_up", lambda only=None: 0)


def a_window_runs_past_a_hole(patch: pytest.MonkeyPatch) -> None:
    def extend(copy: Copy) -> None:
        newest = RestorableInterval.objects.exclude(reached=None).order_by("-reached").first()
        if newest is None:
            windows.rebuild(copy.set.instance, copy.destination_store, [copy.set.database])
        else:
            newest.reached, newest.ended_at = copy.set.last_position, max(newest.ended_at, copy.set.started_at)
            newest.save()

    patch.setattr(windows, "extend", extend)


def what_has_expired_is_still_offered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(expiring.windows, "rebuild", lambda instance, store, databases=None: None)


def retention_counts_from_now(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retention, "own_expiry", lambda finished_at, days, hidden: clock.now() + days * DAY)


def an_undone_date_is_charged_without_a_gap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retention, "_settle", lambda copy, at: None)


def pins_do_not_hold(patch: pytest.MonkeyPatch) -> None:
    ask = purging.why_not_delete

    def careless(copy: Copy, at: Any, skew: timedelta) -> str | None:
        said = ask(copy, at, skew)
        return None if said and "reading it" in said else said

    patch.setattr(purging, "why_not_delete", careless)


def clocks_may_differ(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(purging, "CLOCKS_AGREE", DAY)


def a_shared_file_goes_with_the_first_copy(patch: pytest.MonkeyPatch) -> None:
    def give_up(copy: Copy) -> None:
        Transfer.objects.filter(copied_files__copy=copy).update(state=Transfer.State.DELETING)

    patch.setattr(purging, "_give_up_objects", give_up)


def a_region_that_is_gone_pauses_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(source_gone, "regions", set)


def what_is_back_gets_no_grace(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(source_gone, "regions_until", lambda at: source_gone.regions())


def a_new_fork_needs_nothing_of_the_one_it_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(log_lines, "_limits", lambda fork, switches: {fork: None})


def a_former_primary_s_logs_count_past_the_switch(patch: pytest.MonkeyPatch) -> None:
    cut = log_lines._stretch
    patch.setattr(log_lines, "_stretch", lambda log, limit, rules: cut(log, limit and 10**9, rules))


def a_former_primary_s_backup_counts_past_the_switch(patch: pytest.MonkeyPatch) -> None:
    found = log_lines._anchors
    patch.setattr(log_lines, "_anchors", lambda limits, data, rules: found(dict.fromkeys(limits), data, rules))


def a_log_that_joins_forks_is_taken_for_one_that_follows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(windows, "_joins_forks", lambda copy, readable: False)


def a_log_before_a_switch_that_arrives_behind_it_joins_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(windows, "that_cross", lambda copies: copies.none())


# a planted bug → the steps among which it hides
PLANNING = {
    coverage_never_ends: "enable disable back_up weigh_all",
    weighed_twice_is_planned_twice: "back_up weigh_one weigh_one cancel",
    a_copy_commits_under_an_old_route: "enable disable back_up weigh_all claim deliver",
    a_changed_destination_forgets_what_was_in_flight: "enable back_up weigh_all",
    a_differential_travels_without_its_full: "back_up weigh_one weigh_all",
    the_check_looks_back_half_a_day: "enable back_up weigh_all wait",
}
RETENTION = {
    bytes_go_before_their_grace: "back_up wait purge",
    the_last_good_copy_goes: "back_up wait",
    the_last_good_copy_goes_when_enabled_again: "back_up disable enable wait",
    charging_goes_on_after_expiry: "back_up wait",
    an_undo_charges_for_what_was_free: "back_up retain undo wait",
    an_undone_date_is_charged_without_a_gap: "back_up retain wait",
    what_needs_a_full_does_not_keep_it: "back_up wait",
    what_a_log_needs_goes_before_it: "back_up log log wait",
    what_logs_need_is_never_dated_anew: "back_up log log log wait",
    a_window_runs_past_a_hole: "back_up log log log carry",
    what_has_expired_is_still_offered: "back_up wait sweep",
    retention_counts_from_now: "back_up wait",
    pins_do_not_hold: "back_up pin wait wait purge",
    clocks_may_differ: "back_up wait purge",
    a_shared_file_goes_with_the_first_copy: "back_up pin wait wait purge",
    a_new_fork_needs_nothing_of_the_one_it_left: "back_up log promote log wait",
    a_former_primary_s_logs_count_past_the_switch: "back_up log log log promote linger linger linger wait",
    a_former_primary_s_backup_counts_past_the_switch: "back_up log promote linger log wait",
    a_log_that_joins_forks_is_taken_for_one_that_follows: "back_up log promote log carry",
    a_log_before_a_switch_that_arrives_behind_it_joins_nothing: "back_up late late log log log promote",
    a_region_that_is_gone_pauses_nothing: "back_up lose_source wait",
    what_is_back_gets_no_grace: "back_up lose_source get_back wait purge",
}
PLANTED = [(PlanningMachine, *item) for item in PLANNING.items()] + [
    (RetentionMachine, *item) for item in RETENTION.items()
]
LONG_SEARCHES = (
    a_former_primary_s_logs_count_past_the_switch,
    a_log_before_a_switch_that_arrives_behind_it_joins_nothing,
    a_shared_file_goes_with_the_first_copy,
    a_window_runs_past_a_hole,
    an_undone_date_is_charged_without_a_gap,
    what_is_back_gets_no_grace,
    what_logs_need_is_never_dated_anew,
)


def _marked(plant: Plant) -> list[pytest.MarkDecorator]:
    return [pytest.mark.long] if plant in LONG_SEARCHES else []


@pytest.mark.parametrize(
    ("machine", "plant", "steps"),
    [pytest.param(*case, id=case[1].__name__, marks=_marked(case[1])) for case in PLANTED],
)
def test_a_planted_bug_is_found(
    machine: type[Machine],
    plant: Plant,
    steps: str,
    world: World,
    orders: Instance,
    time_machine: TimeMachine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = {"world": world, "instance": orders, "time": time_machine, "storages": shortcut.take(monkeypatch)}
    plant(monkeypatch)
    with pytest.raises((AssertionError, IntegrityError)):  # the model says no, or already a promise of the tables
        histories.run(machine, histories.SEARCH, only=steps, **where)
