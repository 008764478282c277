"""The fact is written: files, set and finished job, in one transaction under the fence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest

from backups import bell, events
from backups.default_backups import buckets, incrementals, overtaking, shares, snapshots
from backups.default_backups.jobs import begin_again, finish, is_of_many
from backups.default_backups.taken_files import Stored
from backups.engines.facts import TakenSet
from backups.facts_of_sets import columns_of
from backups.models import BackupFile, BackupJob, BackupSet, Instance, SetFile, SetStatus
from regions.models import Store
from regions.storage import ObjectInfo


def record(job: BackupJob, store: Store, files: Sequence[Stored], taken: TakenSet) -> BackupSet:
    """Write the fact: files, set, finished job, in one transaction under the fence.

    What a server wrote by itself has no parts of ours.
    """
    size = sum(one.info.size for one in files)
    with transaction.atomic():
        if taken.facts.base_guid:  # a set before its instance, as weighing does
            incrementals.require_base(job.instance, taken.facts.base_guid)
        most = Greatest(F("data_bytes"), size)
        Instance.objects.filter(pk=job.instance_id).update(data_bytes=most)  # before the job, as everybody locks it
        is_done = taken.shared is None or shares.fits(job, taken.shared)
        at = finish(job) if is_done else begin_again(job)
        snapshots.require_kept(job)
        found = _new_set(job, taken, at)
        for sequence, one in enumerate(files, 1):
            file = _new_file(job, store, one.info, one.integrity(taken.outline), at)
            SetFile.objects.create(set=found, file=file, family_sequence=sequence)
        buckets.settle(files[0].info.key)
        if is_done:
            BackupJob.objects.filter(pk=job.pk).update(result=found)
            overtaking.spare_successor(job, at)
        if not is_of_many(job):
            said = " ".join([f"The backup {found} was taken.", *taken.notes])
            events.record("backup.taken", said, set=found, job=job.pk, bytes=size)
        bell.ring_planning()
        return found


def _new_set(job: BackupJob, taken: TakenSet, at: datetime) -> BackupSet:
    began_at, ended_at = taken.times or (job.started_at, at)  # the database's clock
    return BackupSet.objects.create(
        instance=job.instance,
        database=taken.facts.database,
        kind=taken.facts.kind,
        method=taken.facts.method,
        origin="taken",
        status=SetStatus.SUCCEEDED,
        discovered_at=at,
        run_id=f"job-{job.pk}",
        **columns_of(taken.facts) | {"started_at": began_at, "finished_at": ended_at},
    )


def _new_file(job: BackupJob, store: Store, stored: ObjectInfo, integrity: dict[str, Any], at: datetime) -> BackupFile:
    return BackupFile.objects.create(
        instance=job.instance,
        store=store,
        key=stored.key,
        size=stored.size,
        etag=stored.etag,
        version=stored.version,
        modified_at=stored.modified_at,
        state=BackupFile.State.SETTLED,
        is_ours=True,
        integrity=integrity,
        first_seen_at=at,
        settled_at=at,
    )
