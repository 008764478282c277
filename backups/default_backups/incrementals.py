"""Incrementals that Farshore takes: when the timetable wants one, and on which set (docs/decisions/0040)."""

from __future__ import annotations

import shutil
import tempfile
from datetime import datetime, timedelta
from typing import BinaryIO

from backups.copying import planning
from backups.engines import engine_of
from backups.engines.facts import Base, FullNeeded
from backups.models import BackupFile, BackupSet, Instance, Kind
from backups.restore_sources import facts_of
from regions.refusals import Refusal
from regions.storage import Gone, Mismatch, ObjectInfo
from regions.storage.mover import Differs, Part
from regions.storage.reading import reader

LATE = timedelta(hours=12)  # how long after its hour a full may have begun, or be asked for, without being a day late
IN_MEMORY = 16 << 20


def are_taken_of(instance: Instance) -> bool:
    engine = engine_of(instance.engine)
    return engine.take_incremental is not None and engine.capabilities.takes_incrementals_of(instance.engine_version)


def kind_due(instance: Instance, at: datetime) -> str:
    """Return what the timetable wants at its hour: a full every so many days, between them what changed since."""
    if instance.full_every_days <= 1 or not are_taken_of(instance):
        return Kind.FULL
    fulls = instance.sets.valid().filter(kind=Kind.FULL, origin="taken", started_at__isnull=False)
    began = fulls.order_by("-started_at").values_list("started_at", flat=True).first()
    is_due = began is None or at - began >= timedelta(days=instance.full_every_days) - LATE
    return Kind.FULL if is_due else Kind.DIFFERENTIAL


def kind_due_of(instance: Instance, database: str, at: datetime) -> str:
    """Return what the timetable wants of one database, where the server itself knows what a differential stands on."""
    able = engine_of(instance.engine).capabilities
    if instance.full_every_days <= 1 or not able.takes_differentials:
        return Kind.FULL
    fulls = instance.sets.valid().filter(kind=Kind.FULL, database=database, is_copy_only=False)
    began = fulls.order_by("-started_at").values_list("started_at", flat=True).first()
    is_due = began is None or at - began >= timedelta(days=instance.full_every_days) - LATE
    return Kind.FULL if is_due else Kind.DIFFERENTIAL


def has_base(instance: Instance, base_guid: str) -> bool:
    """Whether the full that a differential stands on is among the instance's valid sets."""
    fulls = instance.sets.valid().filter(kind=Kind.FULL, is_copy_only=False)
    return bool(base_guid) and fulls.filter(set_guid=base_guid).exists()


def base_for(instance: Instance, database: str = "") -> Base:
    """Return what an incremental taken now stands on: the newest set, with all that it needs still at the source.

    Raises FullNeeded where there is none.
    """
    newest = instance.sets.valid().data().filter(database=database).order_by("-finished_at", "-pk").first()
    if newest is None:
        raise FullNeeded("NoBase", "There is no backup yet that an incremental could stand on.")
    if [*planning.bases_of(newest), newest][0].kind != Kind.FULL:
        raise FullNeeded("BaseLost", f"What {newest} stands on is not at the source any more.")
    file = newest.files.select_related("store__region").first()
    if not file.integrity.get("outline"):
        raise FullNeeded("NoOutline", f"Of {newest} it was not kept what an incremental needs to know.")
    return Base(facts_of(newest), lambda: _outline_of(file))


def _outline_of(file: BackupFile) -> BinaryIO:
    """Read that stretch of the backup alone, and give it out only when it hashes to what was recorded."""
    offset, length, sha256 = file.integrity["outline"]
    stored = ObjectInfo(file.key, file.size, file.etag, file.modified_at, file.version)
    held = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - whoever asked closes it
    try:
        with reader(file.store.open(), stored, [Part(1, offset, length, sha256)]) as outline:
            shutil.copyfileobj(outline, held, 1 << 20)
    except (Differs, Gone, Mismatch) as lost:
        held.close()
        raise FullNeeded("BaseLost", f"{file} is not what was written there, and no base.") from lost
    except BaseException:
        held.close()
        raise
    held.seek(0)
    return held


def require_base(instance: Instance, base_guid: str) -> None:
    """Lock the base of what is being recorded, so that it is not retired in this moment; raises Refusal when it was."""
    named = BackupSet.objects.select_for_update(no_key=True, of=("self",)).valid()
    if not named.filter(instance=instance, set_guid=base_guid).exists():
        raise Refusal("BaseGone", "The backup that it stands on was removed meanwhile.", "It is taken again.")
