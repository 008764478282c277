"""Default backups Farshore took go after their own retention, or when a person says so (R-2.4, R-2.5).

Found ones never do.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from backups import bell, events, presence
from backups.chains import dependents, log_chain, windows
from backups.copying import mending
from backups.engines import engine_of
from backups.engines.chains import ChainSet
from backups.events import By
from backups.models import PENDING, BackupFile, BackupJob, BackupSet, Copy, Instance, Kind, Restore, RestoreSource
from regions import clock
from regions.refusals import Refusal
from regions.storage import ObjectInfo, Storage, StorageError

log = logging.getLogger(__name__)
DAY = timedelta(days=1)
SHORTEST = 7 * DAY


# ---- past their dates


def retire_due(limit: int = 2000) -> int:
    """Delete default backups Farshore took, past their own retention; never found ones, never one whose copy is owed,
    and not the newest while the instance lives (R-2.4, R-2.5). What a younger log or differential needs stays with it.
    """
    count, at = retire_asked(), clock.now()
    due = _retirable(at)
    for instance in Instance.objects.filter(Exists(due.filter(instance=OuterRef("pk")))).order_by("pk"):
        past = _past(instance, at)
        for found in due.filter(instance=instance).select_related("instance").order_by("-finished_at", "-pk")[:limit]:
            if found.pk in past:
                count += _retire(found, at)
    return count


def retire_asked() -> int:
    """Delete what a person asked for. What has come to be needed since stays until it is not."""
    at = clock.now()
    asked = _retirable(at).filter(deletion_asked_at__isnull=False).select_related("instance")
    found = list(asked.order_by("-finished_at", "-pk"))
    return sum(_retire(one, at) for one in found if why_kept(one, at) is None)


def _retirable(at: datetime) -> QuerySet[BackupSet]:
    """Return what Farshore took, has been kept for the shortest time, and is owed to no copy."""
    ours = BackupSet.objects.filter(origin="taken", deleted_at=None, weighed_at__isnull=False)
    return ours.filter(finished_at__lte=at - SHORTEST).exclude(Exists(_owed(at).filter(set=OuterRef("pk"))))


def _owed(at: datetime) -> QuerySet[Copy]:
    """Return the copies that the source is still read for: on their way, or damaged and to be carried again (R-2.5)."""
    return Copy.objects.filter(Q(state__in=PENDING) | Q(pk__in=mending.owed(at).values("pk")))


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
    there = _there(instance, database)
    sets, needed_by = _chain(there, instance)
    own = {one.id: one.finished_at + instance.default_retention_days * DAY for one in sets}
    if newest := _newest(there):
        own[newest] = dependents.NEVER
    dates = dependents.effective(own, needed_by)
    return {pk for pk, date in dates.items() if date <= at}


def _there(instance: Instance, database: str) -> QuerySet[BackupSet]:
    return instance.sets.filter(database=database, deleted_at=None)


def _newest(there: QuerySet[BackupSet]) -> int | None:
    return there.valid().data().order_by("-finished_at", "-pk").values_list("pk", flat=True).first()


def _chain(there: QuerySet[BackupSet], instance: Instance) -> tuple[list[ChainSet], dict[int, set[int]]]:
    """Return the sets of a database at the source, and which of them each is needed by."""
    rules = engine_of(instance.engine).chain_rules
    sets = windows.set_chain(there, rules)
    return sets, log_chain.needed_by(log_chain.needs(*windows.data_and_logs(sets), rules))


# ---- when a person says so


def ask_to_delete(sets: Sequence[BackupSet], by: By) -> None:
    """Have default backups deleted at their source before their date; raises Refusal for all when one cannot be.

    Copies in other regions keep their own dates. The row is the wish; the sweep deletes.
    """
    at, going, looked = clock.now(), {one.pk for one in sets}, dict[tuple[int, str], Lying]()
    with transaction.atomic():
        rows = BackupSet.objects.select_for_update(of=("self",)).select_related("instance")
        for found in rows.filter(pk__in=going).order_by("pk"):
            where = (found.instance_id, found.database)
            looked[where] = lying = looked.get(where) or _lying(found)
            if refusal := why_kept(found, at, lying, going):
                raise refusal
            if found.deletion_asked_at is None:
                BackupSet.objects.filter(pk=found.pk).update(deletion_asked_at=at)
                said = f"The default backup {found} is to be deleted at its source."
                events.record("backup.deletion_asked", said, by=by, set=found)
        bell.ring("retire_asked_backups")


class Lying(NamedTuple):
    """What lies at the source of one database: its newest set, and which sets each is needed by."""

    newest: int | None
    needed_by: dict[int, set[int]]


def _lying(found: BackupSet) -> Lying:
    there = _there(found.instance, found.database)
    return Lying(_newest(there), _chain(there, found.instance)[1])


def why_kept(found: BackupSet, at: datetime, lying: Lying | None = None, going: Collection[int] = ()) -> Refusal | None:
    """Return why a default backup may not be deleted now, None where a person may (R-2.4, R-2.5).

    The seven days are the shortest that R-2.5 lets a default backup be kept, and R-2.4 those of a released instance;
    the vendor's operation asks for them too. `going`: the sets that are to be deleted with it.
    """
    since = max(found.finished_at, found.instance.released_at or found.finished_at)
    if found.deleted_at:
        return Refusal("BackupGone", "It has been deleted.", "")
    if found.origin != "taken":
        said = "Farshore never deletes what another's job wrote."
        return Refusal("BackupNotOurs", said, "Delete it where it was written.")
    if since > at - SHORTEST:
        until = since + SHORTEST
        return Refusal("BackupTooYoung", f"It is kept for 7 days, until {until:%Y-%m-%d %H:%M} UTC.", "Ask after that.")
    if found.weighed_at is None or _owed(at).filter(set=found).exists():
        return Refusal("CopyOwed", "A copy of it has not arrived yet.", "Wait for the copy, or cancel it.")
    if _is_being_restored(found):
        return Refusal("BackupInUse", "It is being restored.", "Ask when the restore is over.")
    return _needed(found, lying or _lying(found), going)


def _needed(found: BackupSet, lying: Lying, going: Collection[int]) -> Refusal | None:
    if lying.newest == found.pk and not found.instance.released:
        return Refusal("NewestKept", "It is the newest backup of its database at the source.", "Take another first.")
    by = len(lying.needed_by.get(found.pk, set()) - set(going))
    if not by:
        return None
    words = "A later backup needs" if by == 1 else f"{by} later backups need"
    return Refusal("BackupNeeded", f"{words} it.", "It goes when they go.")


# ---- deleting


def _retire(found: BackupSet, at: datetime) -> bool:
    """Give the files up under the set's lock, then delete them; a repeat after a crash deletes what is left."""
    with transaction.atomic():
        locked = BackupSet.objects.select_for_update(of=("self",)).get(pk=found.pk)
        is_needed = _standing_on(locked.instance_id, locked.set_guid).exists() or _is_being_restored(locked)
        if locked.deleted_at or is_needed or _owed(at).filter(set=locked).exists():
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
        won = BackupSet.objects.filter(pk=found.pk, deleted_at=None).update(deleted_at=at)
        if won:
            events.record("backup.retired", f"The default backup {found} was deleted at its source.", set=found)
    return bool(won)


def _is_being_restored(found: BackupSet) -> bool:
    return RestoreSource.objects.filter(set=found, copy=None, restore__state__in=Restore.PENDING).exists()


def _delete_file(storage: Storage, file: BackupFile) -> None:
    presence.require_ours(file.store, storage)
    storage.delete(file.key, ObjectInfo(file.key, file.size, file.etag, file.modified_at, file.version))
