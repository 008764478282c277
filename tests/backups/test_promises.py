"""What the tables keep by themselves, whoever writes to them (design.md §3, I2, I4, I12, I16)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from backups import events, policies, seals
from backups.models import BackupFile, BackupJob, Copy, CopyPolicy, CopyState, Coverage, Instance, StorageSpan, Transfer
from backups.terms import agreements
from regions import clock
from regions.models import Region
from tests.backups.world import OTHER, SOURCE, TARGET, World


def refuses(change: Any, name: str) -> None:
    """The table refuses, and the promise that does has this name."""
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        change()
    assert name == caught.value.__cause__.diag.constraint_name


def policy(world: World, instance: Instance, destination: str = TARGET, **more: Any) -> CopyPolicy:
    place = Region.objects.get(pk=destination)
    acceptance = agreements.accept([instance], place, world.by)
    source = more.pop("source_region_id", instance.region_id)
    return CopyPolicy.objects.create(
        instance=instance, destination=place, source_region_id=source, enabled=True, acceptance=acceptance, **more
    )


@pytest.mark.parametrize("days", [0, 6, 1826])
def test_retention_is_7_to_1825_days(world: World, orders: Instance, days: int) -> None:
    refuses(lambda: policy(world, orders, retention_days=days), "retention_7_to_1825_days")
    assert policy(world, orders, retention_days=1825).pk


def test_the_destination_is_not_the_source(world: World, orders: Instance) -> None:
    """R-2.2."""
    refuses(lambda: policy(world, orders, SOURCE), "destination_differs_from_source")
    refuses(lambda: policy(world, orders, TARGET, kind="intra_region"), "destination_differs_from_source")
    assert policy(world, orders, SOURCE, kind="intra_region").pk


def test_the_source_is_the_instance_s_own_region(world: World, orders: Instance) -> None:
    refuses(lambda: policy(world, orders, TARGET, source_region_id=OTHER), "policy_source_is_the_instances")


@pytest.mark.parametrize(("source", "destination"), [(SOURCE, "cn-hangzhou-finance"), ("cn-hangzhou-finance", TARGET)])
def test_finance_cloud_is_a_closed_group(world: World, source: str, destination: str) -> None:
    """R-10.2."""
    instance = world.instance("ledger", source)
    refuses(lambda: policy(world, instance, destination), "policy_route_allowed")


@pytest.mark.parametrize(
    "facts", [{"family": "shared"}, {"billing_method": "serverless"}, {"backup_method": "snapshot"}]
)
def test_an_instance_that_does_not_qualify_is_not_enabled(world: World, facts: dict[str, str]) -> None:
    """R-3."""
    instance = world.instance(**facts)
    refuses(lambda: policy(world, instance), "policy_instance_qualifies")


def test_a_released_instance_is_not_enabled(world: World, orders: Instance) -> None:
    policies.release(orders, world.by)
    refuses(lambda: policy(world, orders), "policy_instance_not_released")


def test_one_policy_of_an_instance_is_enabled_and_one_row_stands_per_destination(
    world: World, orders: Instance
) -> None:
    first = policy(world, orders)
    refuses(lambda: policy(world, orders, OTHER), "one_enabled_policy")
    CopyPolicy.objects.filter(pk=first.pk).update(enabled=False)
    refuses(lambda: policy(world, orders), "policy_per_destination")


def test_no_set_has_two_live_copies_in_one_store(world: World, orders: Instance) -> None:
    """I2."""
    world.enable(orders)
    copy = world.arrived(orders)
    copy.pk = None
    copy.manifest_key += "2"
    refuses(copy.save, "one_live_copy")


def test_no_two_rows_name_one_object(world: World, orders: Instance) -> None:
    """I2."""
    world.enable(orders)
    world.arrived(orders)
    transfer = Transfer.objects.get()
    transfer.pk = None
    refuses(transfer.save, "one_row_names_one_object")


def test_a_copy_s_state_comes_with_what_proves_it(world: World, orders: Instance) -> None:
    """I1, I3, I4."""
    world.enable(orders)
    copy = Copy.objects.filter(pk=world.arrived(orders).pk)
    refuses(lambda: copy.update(manifest_key=""), "completed_with_a_manifest")
    refuses(lambda: copy.update(state=CopyState.CANCELLED), "cancelled_with_a_reason")
    refuses(lambda: copy.update(state=CopyState.CANCELLED, cancel_reason="bored"), "cancelled_with_a_reason")
    refuses(lambda: copy.update(cancel_reason="disabled"), "cancelled_with_a_reason")
    refuses(lambda: copy.update(state=CopyState.DELETED, deleted_at=clock.now()), "deleted_after_expiring")


def test_no_moment_is_charged_twice(world: World, orders: Instance) -> None:
    """I11."""
    world.enable(orders)
    copy = world.arrived(orders)
    at = clock.now()
    StorageSpan.objects.filter(copy=copy).update(ended_at=at + timedelta(hours=2))
    within = {"copy": copy, "bytes": 1, "began_at": at + timedelta(hours=1), "ended_at": at + timedelta(hours=3)}
    refuses(lambda: StorageSpan.objects.create(**within), "spans_never_overlap")
    refuses(lambda: StorageSpan.objects.filter(copy=copy).update(ended_at=at - timedelta(hours=1)), "span_runs_forward")
    StorageSpan.objects.create(**within | {"began_at": at + timedelta(hours=2)})


def test_an_instance_has_one_backup_at_a_time_and_a_policy_one_open_stretch(world: World, orders: Instance) -> None:
    at = clock.now()
    job = {"instance": orders, "reason": "24h", "asked_at": at, "due_at": at}
    BackupJob.objects.create(**job)
    refuses(lambda: BackupJob.objects.create(**job), "one_backup_at_a_time")
    stretch = {"policy": world.enable(orders), "began_at": at, "route_version": 1}
    refuses(lambda: Coverage.objects.create(**stretch), "one_open_coverage")


def test_a_found_set_and_a_file_are_known_once(world: World, orders: Instance) -> None:
    found = world.finished(orders)
    file = found.files.get()
    found.pk = file.pk = None
    refuses(found.save, "set_found_once")
    refuses(file.save, "file_seen_once")
    assert BackupFile.objects.count() == 1


HISTORY = ["backups_event", "backups_seal", "backups_acceptance", "backups_acceptedinstance", "backups_agreementtext"]


@pytest.mark.parametrize("table", HISTORY)
@pytest.mark.parametrize("verb", ["UPDATE", "DELETE", "TRUNCATE"])
def test_history_is_only_ever_added_to(world: World, orders: Instance, table: str, verb: str) -> None:
    """I16."""
    world.enable(orders)
    events.record("story.told", "Something happened.")
    seals.seal_events()
    column = {"backups_seal": "hash", "backups_acceptedinstance": "route_version", "backups_agreementtext": "text"}.get(
        table, "id"
    )
    words = {
        "UPDATE": f"UPDATE {table} SET {column} = {column}",
        "DELETE": f"DELETE FROM {table}",
        "TRUNCATE": f"TRUNCATE {table} CASCADE",
    }
    _execute("SET CONSTRAINTS ALL IMMEDIATE")  # else TRUNCATE waits for their checks before it asks the trigger
    before = _count(table)
    refuses(lambda: _execute(words[verb]), "append_only")
    assert _count(table) == before > 0


def _execute(words: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(words)


def _count(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return cursor.fetchone()[0]
