"""Default backups Farshore took go after their own retention; found ones never (R-2.4, R-2.5)."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from backups import dependents, events, log_chain, presence, windows
from backups.engines import engine_of
from backups.models import PENDING, BackupFile, BackupJob, BackupSet, Copy, Instance, Kind, Restore, RestoreSource
from regions import clock
from regions.storage import ObjectInfo, Storage, StorageError

log = logging.getLogger(__name__)
DAY = timedelta(days=1)


def retire_due(limit: int = 2000) -> int:
    """Delete default backups Farshore took, past their own retention; never found ones, never one whose copy is owed,
    and not the newest while the instance lives (R-2.4, R-2.5). What a younger log or differential needs stays with it.
    """
    at, count = clock.now(), 0
    owed = Copy.objects.filter(set=OuterRef("pk"), state__in=PENDING)
    ours = BackupSet.objects.filter(origin="taken", deleted_at=None, weighed_at__isnull=False).exclude(Exists(owed))
    due = ours.filter(finished_at__lte=at - 7 * DAY)
    for instance in Instance.objects.filter(Exists(due.filter(instance=OuterRef("pk")))).order_by("pk"):
        past = _past(instance, at)
        for found in due.filter(instance=instance).select_related("instance").order_by("-finished_at", "-pk")[:limit]:
            if found.pk in past:
                count += _retire(found, at)
    return count


def forget_log_jobs() -> int:
    """Delete the jobs of logs that were taken by the timetable: their sets say all that they did. Returns how many."""
    ended = BackupJob.objects.filter(state=BackupJob.State.SUCCEEDED, kind=Kind.LOG, reason="timetable")
    return ended.filter(finished_at__lt=clock.now() - DAY).delete()[0]


def _standing_on(instance: Any, set_guid: Any) -> QuerySet[BackupSet]:
    """Return the sets at the source that cannot be restored without this one."""
    made = BackupSet.objects.filter(kind=Kind.DIFFERENTIAL, deleted_at=None).exclude(base_guid="")
    return made.filter(instance=instance, base_guid=set_guid)


def _past(instance: Instance, at: datetime) -> set[int]:
    """Return the sets at the source whose date, and that of all that need them, has come."""
    if instance.released_at:
        all_ = instance.sets.filter(deleted_at=None).values_list("pk", flat=True)
        return set(all_) if instance.released_at + 7 * DAY <= at else set()
    past: set[int] = set()
    for database in instance.sets.filter(deleted_at=None).values_list("database", flat=True).distinct():
        past |= _past_of(instance, database, at)
    return past


def _past_of(instance: Instance, database: str, at: datetime) -> set[int]:
    rules = engine_of(instance.engine).chain_rules
    there = instance.sets.filter(database=database, deleted_at=None)
    sets = windows.set_chain(there, rules)
    own = {one.id: one.finished_at + instance.default_retention_days * DAY for one in sets}
    newest = there.valid().data().order_by("-finished_at", "-pk").first()
    if newest:
        own[newest.pk] = dependents.NEVER
    needs = log_chain.needs(*windows.data_and_logs(sets), rules)
    dates = dependents.effective(own, log_chain.needed_by(needs))
    return {pk for pk, date in dates.items() if date <= at}


def _retire(found: BackupSet, at: datetime) -> bool:
    """Give the files up under the set's lock, then delete them; a repeat after a crash deletes what is left."""
    with transaction.atomic():
        locked = BackupSet.objects.select_for_update(of=("self",)).get(pk=found.pk)
        is_needed = _standing_on(locked.instance_id, locked.set_guid).exists() or _is_being_restored(locked)
        if is_needed or locked.copies.filter(state__in=PENDING).exists():
            return False
        files = list(locked.files.filter(is_ours=True))
        BackupFile.objects.filter(pk__in=[file.pk for file in files]).update(
            state=BackupFile.State.DELETED, ended_at=at
        )
    try:
        for file in files:
            _delete_file(file.store.open(), file)
    except StorageError as error:  # tried again at the next sweep; the others are not held up
        log.warning("default backup not retired", extra={"set": found.pk, "reason": error.sentence})
        return False
    with transaction.atomic():
        BackupSet.objects.filter(pk=found.pk).update(deleted_at=at)
        events.record("backup.retired", f"The default backup {found} was deleted at its source.", set=found)
    return True


def _is_being_restored(found: BackupSet) -> bool:
    return RestoreSource.objects.filter(set=found, copy=None, restore__state__in=Restore.PENDING).exists()


def _delete_file(storage: Storage, file: BackupFile) -> None:
    presence.require_ours(file.store, storage)
    storage.delete(file.key, ObjectInfo(file.key, file.size, file.etag, file.modified_at, file.version))
