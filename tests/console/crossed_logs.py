"""A server whose logs crossed for four hours, one of them missing: made straight in the tables."""

from __future__ import annotations

from datetime import datetime, timedelta

from backups.chains import windows
from backups.models import BackupFile, BackupSet, Copy, CopyState, Instance, Kind, LogGap, SetFile
from tests.console.fleet import TARGET, Fleet

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def shop_of(fleet: Fleet) -> Instance:
    """A server with one full four hours ago and a log every five minutes since; the 20th is missing."""
    instance = fleet.instance("shop", engine="postgresql", arrival="taken", engine_version="17.2")
    policy = fleet.policy(instance)
    type(policy).objects.filter(pk=policy.pk).update(logs_enabled=True)
    began = fleet.now - 4 * HOUR
    copied(fleet, instance, Kind.FULL, 1000, 1010, began, began)
    for number in range(40):
        if number != 20:
            span = (995 + number * 10, 1005 + number * 10)
            copied(fleet, instance, Kind.LOG, *span, began + number * 5 * MINUTE, began + (number + 1) * 5 * MINUTE)
    store = fleet.stores[TARGET]
    windows.rebuild(instance, store)
    for gap in windows.chain_of(instance, store, "").gaps():
        LogGap.objects.create(
            instance=instance,
            store=store,
            fork=gap.fork,
            reached_fork=gap.reached_fork,
            reached=gap.reached,
            begins=gap.begins,
            from_time=gap.from_time,
            until_time=gap.until_time,
            found_at=fleet.now,
            healing="backup",
        )
    return instance


def copied(
    fleet: Fleet,
    instance: Instance,
    kind: str,
    first: int,
    last: int,
    begin: datetime,
    end: datetime,
    database: str = "",
) -> Copy:
    store = fleet.stores[TARGET]
    found = BackupSet.objects.create(
        instance=instance,
        database=database,
        kind=kind,
        started_at=begin,
        finished_at=end,
        first_position=first,
        last_position=last,
        checkpoint_position=first,
        fork="1",
        set_guid=f"{database} {kind} {first}"[:40],
        size_bytes=16 << 20,
        discovered_at=end,
        weighed_at=end,
    )
    file = BackupFile.objects.create(
        instance=instance,
        store=fleet.stores[instance.region_id],
        key=f"logs/{database}{first}.tar.zst",
        size=1 << 20,
        etag="e",
        modified_at=end,
        state="settled",
        first_seen_at=end,
    )
    SetFile.objects.create(set=found, file=file)
    policy = instance.policies.get()
    return Copy.objects.create(
        set=found,
        policy=policy,
        destination_store=store,
        state=CopyState.COMPLETED,
        route_version=policy.route_version,
        planned_at=end,
        due_at=end,
        completed_at=end,
        expires_at=end + 7 * DAY,
        manifest_key=f"m/{database}{first}",
        total_bytes=1 << 20,
        stored_bytes=1 << 20,
    )
