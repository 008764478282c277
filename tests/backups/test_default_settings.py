"""How default backups are set (R-2.5, R-5.1, R-7.1), and deleting one at its source before its date (R-2.4, R-2.5)."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any

import pytest

from backups import default_backups
from backups.copying import planning
from backups.default_backups import retiring
from backups.models import Arrival, BackupSet, CopyState, Event, Instance
from backups.policies import Refusals, Settings
from backups.policies import apply as apply_policy
from backups.terms import default_settings
from backups.terms.default_settings import settings_of
from regions.refusals import Refusal
from tests.backups.time_machine import TimeMachine
from tests.backups.world import SOURCE, TARGET, World

DAY = timedelta(days=1)


@pytest.fixture
def sql(world: World, time_machine: TimeMachine) -> Instance:
    world.store(TARGET)
    return world.instance("orders", arrival=Arrival.TAKEN, log_every_minutes=15)


def change(world: World, instance: Instance, **wanted: Any) -> bool:
    return default_settings.apply(instance, wanted, world.by)


# ---- setting


def test_what_is_set_holds_from_the_next_slot_on_and_the_event_says_what_was_before(
    world: World, sql: Instance, time_machine: TimeMachine
) -> None:
    default_backups.ask_by_timetable()
    wanted = {"timetable_days": (0, 3), "timetable_time": time(4, 30), "default_retention_days": 14}
    assert change(world, sql, **wanted, full_every_days=7, log_every_minutes=5)
    sql.refresh_from_db()
    assert sql.next_backup_at is None, "the hour is worked out anew"
    default_backups.ask_by_timetable()
    sql.refresh_from_db()
    assert (sql.next_backup_at.weekday() in (0, 3)) and sql.next_backup_at.time() == time(4, 30)
    said = Event.objects.get(kind="instance.default_backups").sentence
    assert "days Mon Tue Wed Thu Fri Sat Sun → Mon Thu" in said and "days kept 7 → 14" in said
    assert "minutes between logs 15 → 5" in said and "hour 02:00 → 04:30" in said


def test_wanting_what_already_is_changes_nothing(world: World, sql: Instance) -> None:
    assert not change(world, sql)
    assert not Event.objects.filter(kind="instance.default_backups").exists()


REFUSED = [
    ({"timetable_days": ()}, "timetable_days"),
    ({"timetable_days": (0, 7)}, "timetable_days"),
    ({"default_retention_days": 6}, "default_retention_days"),
    ({"default_retention_days": 731}, "default_retention_days"),
    ({"full_every_days": 0}, "full_every_days"),
    ({"full_every_days": 32}, "full_every_days"),
    ({"log_every_minutes": 7}, "log_every_minutes"),
]


@pytest.mark.parametrize(("wanted", "field"), REFUSED)
def test_what_cannot_be_is_refused_beside_its_field(
    world: World, sql: Instance, wanted: dict[str, Any], field: str
) -> None:
    before = settings_of(sql)
    with pytest.raises(Refusals) as refused:
        change(world, sql, **wanted)
    assert [one.field for one in refused.value.items] == [field]
    sql.refresh_from_db()
    assert settings_of(sql) == before


def test_everything_against_it_is_said_at_once(world: World, sql: Instance) -> None:
    with pytest.raises(Refusals) as refused:
        change(world, sql, default_retention_days=1, timetable_days=())
    assert {one.field for one in refused.value.items} == {"timetable_days", "default_retention_days"}


def test_what_its_engine_has_nothing_of_is_refused(world: World) -> None:
    maria = world.instance("shop", engine="mariadb", engine_version="11.8", arrival=Arrival.TAKEN, prefixes=[])
    for wanted, code in (
        ({"full_every_days": 7}, "IncrementalNotTaken"),
        ({"log_every_minutes": 5}, "LogNotTaken"),
        ({"backup_method": "snapshot"}, "InvalidParameters.Format"),
    ):
        with pytest.raises(Refusals) as refused:
            change(world, maria, **wanted)
        assert [one.code for one in refused.value.items] == [code]


def test_an_old_setting_that_would_be_refused_today_is_in_nobodys_way(world: World) -> None:
    maria = world.instance("shop", engine="mariadb", arrival=Arrival.TAKEN, prefixes=[], full_every_days=7)
    assert change(world, maria, default_retention_days=30)


def test_the_method_does_not_become_snapshot_while_cross_region_backup_is_on(world: World, sql: Instance) -> None:
    """R-7.1."""
    world.enable(sql)
    with pytest.raises(Refusals) as refused:
        change(world, sql, backup_method="snapshot")
    assert refused.value.items[0].code == "OperationDenied.SwitchToSnapshot"
    apply_policy(sql, Settings(enabled=False), world.by)
    assert change(world, sql, backup_method="snapshot")


def test_logs_do_not_cease_while_they_are_copied(world: World, sql: Instance) -> None:
    apply_policy(sql, Settings(True, 7, TARGET, logs_enabled=True, agreed=True), world.by)
    with pytest.raises(Refusals) as refused:
        change(world, sql, log_every_minutes=0)
    assert refused.value.items[0].code == "LogsWanted"


def test_of_two_who_edit_at_once_the_second_is_told_what_changed(world: World, sql: Instance) -> None:
    """I14, R-14.5."""
    seen = default_settings.version_of(sql)
    default_settings.apply(sql, {"default_retention_days": 30}, world.by, expected=seen)
    with pytest.raises(Refusals) as refused:
        default_settings.apply(sql, {"default_retention_days": 9}, world.by, expected=seen)
    assert "days kept 7 → 30" in str(refused.value)
    sql.refresh_from_db()
    assert sql.default_retention_days == 30


def test_what_is_not_given_stays_as_somebody_set_it_meanwhile(world: World, sql: Instance) -> None:
    """I14: the second call read the row before the first one was done."""
    stale = Instance.objects.get(pk=sql.pk)
    change(world, sql, default_retention_days=30)
    default_settings.apply(stale, {"timetable_time": time(4, 30)}, world.by)
    sql.refresh_from_db()
    assert (sql.default_retention_days, sql.timetable_time) == (30, time(4, 30))


def test_a_backup_whose_hour_has_come_is_asked_for_whatever_is_set(
    world: World, sql: Instance, time_machine: TimeMachine
) -> None:
    default_backups.ask_by_timetable()
    sql.refresh_from_db()
    time_machine.forward(seconds=(sql.next_backup_at - time_machine.at).total_seconds() + 3600)
    change(world, sql, default_retention_days=30, timetable_time=time(23, 0))
    sql.refresh_from_db()
    assert sql.next_backup_at <= time_machine.at, "it is due, and stays due"


def test_a_released_instance_is_not_set(world: World, sql: Instance) -> None:
    Instance.objects.filter(pk=sql.pk).update(released_at=sql.created_at)
    with pytest.raises(Refusals) as refused:
        change(world, sql, default_retention_days=30)
    assert refused.value.items[0].code == "ProductInstanceReleased"


# ---- deleting


@pytest.fixture
def kept_long(world: World, sql: Instance, time_machine: TimeMachine) -> list[BackupSet]:
    """Fulls of thirty days, of which none would go by itself."""
    Instance.objects.filter(pk=sql.pk).update(default_retention_days=60)
    sql.refresh_from_db()
    return [took(world, sql, time_machine.at - ago * DAY) for ago in (30, 20, 10, 5, 1)]


def took(world: World, instance: Instance, at: datetime, **more: Any) -> BackupSet:
    row = world.finished(instance, at, origin="taken", weighed_at=at, **more)
    row.files.update(is_ours=True)
    return row


def file_of(world: World, found: BackupSet) -> Any:
    return world.folder / SOURCE / found.files.get().key


def refused_code(world: World, *sets: BackupSet) -> str:
    with pytest.raises(Refusal) as refused:
        retiring.ask_to_delete(sets, world.by)
    return refused.value.code


def test_a_person_has_one_deleted_before_its_date_and_the_others_stay(world: World, kept_long: list[BackupSet]) -> None:
    assert retiring.retire_due() == 0
    retiring.ask_to_delete([kept_long[1]], world.by)
    retiring.ask_to_delete([kept_long[1]], world.by)
    assert Event.objects.filter(kind="backup.deletion_asked").count() == 1, "asked twice is asked once"
    assert retiring.retire_due() == 1
    assert retiring.retire_due() == 0
    assert [file_of(world, one).exists() for one in kept_long] == [True, False, True, True, True]
    assert refused_code(world, kept_long[1]) == "BackupGone"


def test_two_sweeps_at_once_delete_one_backup_once(
    world: World, kept_long: list[BackupSet], time_machine: TimeMachine
) -> None:
    """Both have listed it before either deletes it."""
    retiring.ask_to_delete([kept_long[1]], world.by)
    assert [retiring._retire(kept_long[1], time_machine.at) for _ in range(2)] == [True, False]
    assert Event.objects.filter(kind="backup.retired").count() == 1


def test_the_seven_days_of_r_2_5_are_kept_whoever_asks(world: World, kept_long: list[BackupSet]) -> None:
    assert refused_code(world, kept_long[3]) == "BackupTooYoung"


def test_of_several_none_is_deleted_when_one_cannot_be(world: World, kept_long: list[BackupSet]) -> None:
    assert refused_code(world, kept_long[0], kept_long[3]) == "BackupTooYoung"
    assert retiring.retire_due() == 0


def test_what_somebody_else_wrote_is_never_deleted(world: World, kept_long: list[BackupSet]) -> None:
    """R-2.4."""
    BackupSet.objects.filter(pk=kept_long[0].pk).update(origin="found")
    assert refused_code(world, kept_long[0]) == "BackupNotOurs"


def test_the_newest_stays(world: World, sql: Instance, time_machine: TimeMachine) -> None:
    only = took(world, sql, time_machine.at - 30 * DAY)
    assert refused_code(world, only) == "NewestKept"


def test_what_a_later_one_needs_stays_until_that_is_gone(
    world: World, sql: Instance, kept_long: list[BackupSet], time_machine: TimeMachine
) -> None:
    on_it = took(world, sql, time_machine.at - 29 * DAY, base=kept_long[0])
    assert refused_code(world, kept_long[0]) == "BackupNeeded"
    retiring.ask_to_delete([on_it], world.by)
    assert retiring.retire_due() == 1
    retiring.ask_to_delete([kept_long[0]], world.by)
    assert retiring.retire_due() == 1


def test_one_whose_copy_is_owed_stays(world: World, sql: Instance, time_machine: TimeMachine) -> None:
    """R-2.5."""
    world.enable(sql, days=30)
    owed = took(world, sql, time_machine.at)
    BackupSet.objects.filter(pk=owed.pk).update(weighed_at=None)
    time_machine.forward(days=8)
    took(world, sql, time_machine.at)
    assert refused_code(world, owed) == "CopyOwed", "nobody has looked yet"
    planning.weigh_due()
    assert refused_code(world, owed) == "CopyOwed", "it is on its way"
    world.carry()
    retiring.ask_to_delete([owed], world.by)
    assert retiring.retire_due() == 1
    assert owed.copies.get().state == CopyState.COMPLETED, "copies keep their own dates"


def test_one_whose_copy_is_damaged_stays_until_it_was_carried_again(
    world: World, sql: Instance, time_machine: TimeMachine
) -> None:
    """R-2.5, I6: the only sound bytes are those at the source."""
    world.enable(sql, days=30)
    old = took(world, sql, time_machine.at)
    BackupSet.objects.filter(pk=old.pk).update(weighed_at=None)
    planning.weigh_due()
    world.carry()
    time_machine.forward(days=8)
    took(world, sql, time_machine.at)
    old.copies.update(state=CopyState.DAMAGED)
    assert refused_code(world, old) == "CopyOwed"
    assert retiring.retire_due() == 0 and file_of(world, old).exists(), "by its date neither"
    old.copies.update(state=CopyState.COMPLETED)
    assert retiring.retire_due() == 1


def test_a_released_instances_backups_stay_their_seven_days(
    world: World, sql: Instance, kept_long: list[BackupSet], time_machine: TimeMachine
) -> None:
    """R-2.4."""
    retiring.ask_to_delete([kept_long[1]], world.by)
    Instance.objects.filter(pk=sql.pk).update(released_at=time_machine.at)
    kept_long[0].instance.refresh_from_db()
    assert refused_code(world, kept_long[0]) == "BackupTooYoung"
    assert retiring.retire_due() == 0, "also what was asked for before"
    time_machine.forward(days=7, seconds=1)
    assert retiring.retire_due() == 5


def test_several_that_need_each_other_go_together(
    world: World, sql: Instance, kept_long: list[BackupSet], time_machine: TimeMachine
) -> None:
    on_it = took(world, sql, time_machine.at - 29 * DAY, base=kept_long[0])
    retiring.ask_to_delete([kept_long[0], on_it], world.by)
    assert retiring.retire_asked() + retiring.retire_asked() == 2


def test_what_came_to_be_needed_after_it_was_asked_for_stays(
    world: World, sql: Instance, kept_long: list[BackupSet], time_machine: TimeMachine
) -> None:
    retiring.ask_to_delete([kept_long[0]], world.by)
    took(world, sql, time_machine.at - 29 * DAY, base=kept_long[0])  # found late
    assert retiring.retire_due() == 0
    assert file_of(world, kept_long[0]).exists()
