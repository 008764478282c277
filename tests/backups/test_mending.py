"""A copy whose bytes are no longer those is carried again while its set is at the source (I1, I3, I7, R-4.1, R-4.2)."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from backups import cleaning
from backups.chains import windows
from backups.copying import carrying, damage, mending, planning
from backups.keeping import expiring, purging, retention
from backups.logs import log_gaps
from backups.models import (
    Alert,
    BackupFile,
    BackupJob,
    Copy,
    CopyState,
    Event,
    Instance,
    LogGap,
    StorageSpan,
    Transfer,
)
from backups.oversight import audit
from billing import audit as ledger
from billing import statements, traffic
from billing.metering import month_of
from regions import clock
from regions.refusals import Refusal
from regions.storage.mover import Part
from tests.backups.logs import History, copied
from tests.backups.time_machine import TimeMachine
from tests.backups.world import SOURCE, TARGET, World, backup

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
State = Transfer.State


def object_of(world: World, copy: Copy) -> Path:
    return world.folder / TARGET / Transfer.objects.get(copied_files__copy=copy).key


def flip(path: Path, at: int = 7) -> None:
    """Change one byte and nothing else: the store sees the object it was given, as a rotting disk does."""
    times, body = path.stat(), bytearray(path.read_bytes())
    body[at] ^= 0xFF
    path.write_bytes(body)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def rot(world: World, copy: Copy) -> None:
    flip(object_of(world, copy))


def lose(world: World, copy: Copy) -> None:
    object_of(world, copy).unlink()


def found_wrong(copy: Copy, transfer: Transfer | None = None) -> list[Copy]:
    transfer = transfer or Transfer.objects.get(copied_files__copy=copy)
    first = transfer.parts.get(number=1)
    return damage.examine(copy, Part(1, 0, first.size, first.sha256), transfer)


def now(copy: Copy) -> Copy:
    return Copy.objects.get(pk=copy.pk)


def alert() -> Alert:
    return Alert.objects.get(code="copy_damaged", closed_at=None)


def is_clean() -> None:
    assert [*audit.breaches(), *ledger.breaches()] == []


@pytest.fixture
def copy(world: World, orders: Instance, time_machine: TimeMachine) -> Copy:
    """A verified copy, an hour old."""
    world.enable(orders, days=30)
    copy = world.arrived(orders)
    windows.rebuild(orders, copy.destination_store)
    time_machine.forward(seconds=3600)
    return copy


@pytest.mark.parametrize("harm", [rot, lose])
def test_a_damaged_copy_is_carried_again_and_is_sound(
    world: World, orders: Instance, copy: Copy, harm: Callable, time_machine: TimeMachine
) -> None:
    """The same bytes under a key of their own, the manifest after them; only then does the old object go."""
    before, window = Transfer.objects.get(), [(one.began_at, one.ended_at) for one in orders.intervals.all()]
    sound, first_manifest = object_of(world, copy).read_bytes(), copy.manifest_key
    harm(world, copy)
    assert found_wrong(copy) == [copy]
    assert not orders.intervals.exists()
    assert alert().remedy == damage.BY_ITSELF
    is_clean()
    time_machine.forward(seconds=60)

    assert world.mend() == [copy]

    healed, after = now(copy), Transfer.objects.get(copied_files__copy=copy)
    assert (healed.state, healed.error, healed.is_damaged) == (CopyState.COMPLETED, "", False)
    assert (after.replaces, after.state) == (before, State.VERIFIED)
    assert after.key != before.key and object_of(world, copy).read_bytes() == sound
    assert healed.manifest_key != first_manifest and (world.folder / TARGET / healed.manifest_key).exists()
    assert [(one.began_at, one.ended_at) for one in orders.intervals.all()] == window
    assert not Alert.objects.filter(closed_at=None).exists()
    is_clean()
    cleaning.clean_up(TARGET)
    assert Transfer.objects.get(pk=before.pk).state == State.CLEANED
    assert not (world.folder / TARGET / before.key).exists() and not (world.folder / TARGET / first_manifest).exists()
    assert now(copy).former_manifest_key == ""
    assert world.mend() == []


def test_the_damaged_object_lies_there_until_the_new_one_is_proven(world: World, copy: Copy) -> None:
    rot(world, copy)
    found_wrong(copy)
    old = object_of(world, copy)
    claimed = mending.claim(TARGET)
    transfers = carrying.bring_files(claimed, float("inf"))
    cleaning.clean_up(TARGET)
    mending.give_up()
    assert old.exists() and (world.folder / TARGET / copy.manifest_key).exists()
    assert now(copy).state == CopyState.DAMAGED and object_of(world, copy) == old
    mending._publish(claimed, transfers)
    assert now(copy).state == CopyState.COMPLETED and object_of(world, copy) != old


def test_its_second_way_is_shown_and_not_charged_and_nobody_pays_while_it_is_damaged(
    world: World, orders: Instance, copy: Copy, time_machine: TimeMachine
) -> None:
    """R-4.1, R-4.2: one span until the damage, one from the healing; the traffic line is the first arrival's."""
    arrived_at = copy.completed_at
    rot(world, copy)
    broken_at = clock.now()
    found_wrong(copy)
    time_machine.forward(seconds=7200)
    healed_at = clock.now()
    world.mend()
    time_machine.forward(seconds=60)
    spans = list(StorageSpan.objects.order_by("began_at").values_list("bytes", "began_at", "ended_at"))
    assert spans == [(100, arrived_at, broken_at), (100, healed_at, None)]
    assert now(copy).completed_at == arrived_at
    begin, end = month_of(arrived_at)
    assert [one.bytes for one in traffic.sent_between(begin, end)] == [100]
    assert [one.bytes for one in traffic.resent_between(begin, end)] == [100]
    assert [one.bytes for one in traffic.resent_between(begin, end, [orders.pk])] == [100]
    lines = {line.item.value: line.quantity for line in statements.statement(begin, clock.now()).lines}
    assert sum(quantity for item, quantity in lines.items() if "Storage" in item) == 100 * (3600 + 60)
    is_clean()


def test_found_damaged_again_it_is_carried_again_less_and_less_often(
    world: World, copy: Copy, time_machine: TimeMachine
) -> None:
    """A store that rots does not have the same bytes sent for ever; after that a person decides."""
    for times, wait in enumerate(damage.WAITS):
        rot(world, copy)
        found_wrong(now(copy))
        at = now(copy).mend_at
        assert (now(copy).times_damaged, at) == (times + 1, clock.now() + wait)
        if wait:
            assert world.mend() == []
            time_machine.forward(seconds=wait.total_seconds())
        assert [one.state for one in world.mend()] == [CopyState.COMPLETED]
        cleaning.clean_up(TARGET)
        is_clean()
        time_machine.forward(seconds=60)
    rot(world, copy)
    found_wrong(now(copy))
    assert now(copy).mend_at is None and alert().remedy == damage.BY_A_PERSON
    time_machine.forward(seconds=80 * 3600)
    mending.give_up()
    assert world.mend() == [] and mending.regions_with_work() == []

    mending.again(now(copy), world.by)
    assert [one.state for one in world.mend()] == [CopyState.COMPLETED]
    assert Transfer.objects.filter(replaces__isnull=False).count() == len(damage.WAITS) + 1
    is_clean()


def vanish(world: World, copy: Copy) -> None:
    (world.folder / SOURCE / copy.set.files.get().key).unlink()


def replaced(world: World, copy: Copy) -> None:
    BackupFile.objects.filter(set_files__set=copy.set_id).update(state=BackupFile.State.REPLACED)


@pytest.mark.parametrize("end", [vanish, replaced])
def test_with_its_source_gone_it_stays_damaged_and_says_so(
    world: World, copy: Copy, end: Callable, time_machine: TimeMachine
) -> None:
    rot(world, copy)
    found_wrong(copy)
    end(world, copy)
    Copy.objects.update(mend_at=clock.now())
    was = BackupFile.objects.get()
    # discovery does not look at these made-up names, so that what is gone is gone
    Instance.objects.update(prefixes=[], arrival="taken")
    [stays] = world.mend()
    assert (stays.state, stays.error) == (CopyState.DAMAGED, mending.SOURCE_IS_GONE)
    assert mending.SOURCE_IS_GONE in alert().sentence and "Back the instance up now" in alert().remedy
    assert Event.objects.filter(kind="copy.not_mended").count() == 1
    assert not Transfer.objects.filter(state__in=Transfer.UNDER_WAY).exists()
    assert object_of(world, copy).exists()
    is_clean()

    time_machine.forward(seconds=86_400)
    world.mend()
    assert Event.objects.filter(kind="copy.not_mended").count() == 1, "said once, looked at daily"
    BackupFile.objects.update(state=was.state)
    if end is replaced:
        BackupFile.objects.update(state=BackupFile.State.SETTLED)
        time_machine.forward(seconds=86_400)
        assert [one.state for one in world.mend()] == [CopyState.COMPLETED], "it has come back"
        is_clean()


def test_a_source_that_rotted_too_is_not_taken_for_the_sound_one(
    world: World, copy: Copy, time_machine: TimeMachine
) -> None:
    """What is carried again has to be what was carried and verified before, whatever the source says now."""
    rot(world, copy)
    found_wrong(copy)
    flip(world.folder / SOURCE / copy.set.files.get().key)
    [stays] = world.mend()
    assert stays.state == CopyState.DAMAGED
    assert "is not what was carried and verified before" in alert().sentence
    assert stays.times_damaged == 2 and stays.mend_at == clock.now() + HOUR
    assert Transfer.objects.filter(state=State.ABANDONED).count() == 1
    is_clean()


def test_sets_in_one_object_are_damaged_and_healed_together(world: World, orders: Instance, copy: Copy) -> None:
    """One carriage for all of them, one object, and its bytes are counted once (R-4.2)."""
    sharing = world.arrived(orders, database="Stock", beside=copy.set)
    assert Transfer.objects.count() == 1 and sharing.stored_bytes == 0
    rot(world, copy)
    assert found_wrong(sharing) == [copy, sharing]
    claimed = mending.claim(TARGET)
    mending.mend_slice(claimed)
    is_clean()
    assert len(world.mend()) == 1
    assert set(Copy.objects.values_list("state", "stored_bytes")) == {("completed", 100), ("completed", 0)}
    assert Transfer.objects.filter(state=State.VERIFIED).count() == 1
    assert Transfer.objects.filter(replaces__isnull=False).count() == 1
    cleaning.clean_up(TARGET)
    is_clean()


def test_a_set_that_was_appended_to_meanwhile_is_carried_with_its_new_file(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """NOINIT: its file is another one now, and holds it still."""
    world.enable(orders, days=30)
    first, second = backup("Sales"), backup("Stock")
    world.drop(orders, "all.bak", first)
    world.find(orders)
    world.carry()
    copy = Copy.objects.get()
    time_machine.forward(seconds=60)
    rot(world, copy)
    found_wrong(copy)
    world.drop(orders, "all.bak", first, second)
    world.find(orders)
    world.mend()
    world.carry()
    cleaning.clean_up(TARGET)
    assert set(Copy.objects.values_list("state", flat=True)) == {CopyState.COMPLETED}
    assert len({file.transfer_id for one in Copy.objects.all() for file in one.copied_files.all()}) == 1
    is_clean()


def test_only_the_wrong_file_of_several_is_carried_again(world: World, orders: Instance, copy: Copy) -> None:
    striped = world.finished(orders)
    other = world.finished(orders).files.get()
    striped.set_files.create(file=other, position=1, family_sequence=2)
    Copy.objects.exclude(pk=copy.pk).delete()
    planning.weigh(striped.pk)
    world.carry()
    stripes = Copy.objects.get(set=striped)
    first, second = Transfer.objects.filter(copied_files__copy=stripes).order_by("pk")
    flip(world.folder / TARGET / second.key)
    assert stripes in found_wrong(stripes, second)
    world.mend()
    assert now(stripes).state == CopyState.COMPLETED
    assert list(Transfer.objects.filter(replaces__isnull=False).values_list("replaces", flat=True)) == [second.pk]
    assert Transfer.objects.get(pk=first.pk).state == State.VERIFIED


@pytest.mark.parametrize("comes", ["nothing", "logs", "a look at the chain"])
def test_a_damaged_log_ends_the_window_until_it_is_back(world: World, time_machine: TimeMachine, comes: str) -> None:
    """I7, R-9.4: the source has it still, so it is carried again and no backup is taken for the gap."""
    ledger_of = world.instance("ledger", engine="postgresql", arrival="taken", host="10.0.0.8")
    history = History(world, ledger_of, time_machine, database="")
    world.enable(ledger_of, days=30)
    world.set(ledger_of, logs_enabled=True)
    history.full()
    logs = history.logs(3)
    history.work()
    [(begins, _)] = history.windows
    rot(world, copied(logs[1]))
    found_wrong(copied(logs[1]))
    logs += history.logs(2) if comes == "logs" else []
    if comes == "a look at the chain":
        log_gaps.settle(ledger_of, world.store(TARGET), "")
    history.work()
    assert history.windows[0] == (begins, logs[0].finished_at)
    assert [gap.healing for gap in history.gaps] == [LogGap.Healing.COPY] * (comes == "a look at the chain")
    world.mend()
    assert history.windows[0] == (begins, logs[-1].finished_at)
    assert all(gap.healed_at for gap in history.gaps)
    assert not Alert.objects.filter(closed_at=None, code__in=("log_gap", "copy_damaged")).exists()
    assert not BackupJob.objects.filter(reason="log_gap").exists()
    is_clean()


def test_nothing_is_carried_again_once_the_policy_has_ended(world: World, orders: Instance, copy: Copy) -> None:
    """R-15.1, I10: what was under way is given up; enabled again, it goes on."""
    rot(world, copy)
    found_wrong(copy)
    claimed = mending.claim(TARGET)
    transfers = carrying.bring_files(claimed, float("inf"))
    world.disable(orders, days=30)
    mending.mend_slice(claimed)
    assert now(copy).state == CopyState.DAMAGED, "no copy commits after its policy was disabled"
    mending.give_up()
    cleaning.clean_up(TARGET)
    assert Transfer.objects.get(pk=transfers[0].pk).state == State.CLEANED
    assert world.mend() == []
    assert mending.why_not(now(copy)).code == "BackupDisabled"
    is_clean()
    world.enable(orders, days=30)
    Copy.objects.update(leased_until=None)
    assert CopyState.COMPLETED in [one.state for one in world.mend()]
    is_clean()


def test_one_that_expires_first_goes_as_any_other_and_leaves_nothing(
    world: World, orders: Instance, copy: Copy, time_machine: TimeMachine
) -> None:
    rot(world, copy)
    found_wrong(copy)
    claimed = mending.claim(TARGET)
    transfers = carrying.bring_files(claimed, float("inf"))
    world.disable(orders, days=7)
    time_machine.forward(days=8)
    expiring.expire_due()
    with pytest.raises(mending.LeaseLost):
        mending._publish(claimed, transfers)
    mending.give_up()
    time_machine.forward(days=2)
    assert purging.purge_due(TARGET) == 1
    cleaning.clean_up(TARGET)
    lying = {path.name for path in (world.folder / TARGET).rglob("*") if path.is_file()}
    assert lying == {"marker.json"}
    is_clean()


def test_an_expiry_that_is_undone_finds_it_damaged_and_tells(world: World, orders: Instance, copy: Copy) -> None:
    """A copy in its grace whose object is found wrong is no sound one when it is wanted again."""
    policy = copy.policy
    Copy.objects.update(expires_at=clock.now() - HOUR)
    orders.policies.update(retention_days=7)
    copy.set.finished_at -= 8 * DAY
    copy.set.save()
    world.arrived(orders)
    retention.reschedule(orders.pk, copy.destination_store_id)
    expiring.expire_due()
    assert now(copy).state == CopyState.EXPIRED
    rot(world, copy)
    assert found_wrong(copy) == [], "it is not offered now"
    policy.__class__.objects.filter(pk=policy.pk).update(retention_days=30)
    retention.reschedule(orders.pk, copy.destination_store_id)
    assert now(copy).state == CopyState.DAMAGED
    mending.give_up()
    assert alert().subject == f"copy:{copy.pk}"
    is_clean()


def test_the_last_good_copy_is_carried_again_and_stays_free_of_charge(
    world: World, orders: Instance, copy: Copy, time_machine: TimeMachine
) -> None:
    """R-15.6: past its date, and wanted still."""
    world.set(orders, retention_days=7)
    time_machine.forward(days=9)
    expiring.expire_due()
    assert now(copy).kept_for == retention.LAST_GOOD
    rot(world, copy)
    found_wrong(now(copy))
    expiring.expire_due()
    world.mend()
    assert (now(copy).state, now(copy).kept_for) == (CopyState.COMPLETED, retention.LAST_GOOD)
    assert not StorageSpan.objects.filter(ended_at=None).exists()
    is_clean()

    rot(world, copy)
    found_wrong(now(copy))
    world.disable(orders, days=7)
    mending.give_up()
    expiring.expire_due()
    assert now(copy).state == CopyState.EXPIRED, "nobody mends it any more, so its date counts again"


def test_a_person_is_told_why_not(world: World, copy: Copy) -> None:
    assert mending.why_not(copy).code == "CopyNotDamaged"
    rot(world, copy)
    found_wrong(copy)
    assert mending.why_not(now(copy)) is None
    mending.claim(TARGET)
    with pytest.raises(Refusal, match="being carried again"):
        mending.again(now(copy), world.by)
    Copy.objects.update(leased_until=None)
    replaced(world, copy)
    with pytest.raises(Refusal, match="no longer at its source"):
        mending.again(now(copy), world.by)


def test_a_fault_on_the_way_is_tried_again_with_patience(world: World, copy: Copy) -> None:
    rot(world, copy)
    found_wrong(copy)
    world.lose(SOURCE)
    [stays] = world.mend()
    assert (stays.state, stays.failures, stays.times_damaged) == (CopyState.DAMAGED, 1, 1)
    assert stays.mend_at > clock.now() and "Carrying it again failed" in alert().sentence
    world.get_back(SOURCE)
    Copy.objects.update(mend_at=clock.now())
    assert [one.state for one in world.mend()] == [CopyState.COMPLETED]
    is_clean()
