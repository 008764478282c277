"""What servers remember of their backups, kept until it is found: rows of what Farshore has not seen itself.

A set that is found is forgotten here, compared first: where its header and its server disagree, the set says so. What
several replicas remember is one set (its GUID).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef

from backups import events
from backups.engines import Engine, engine_of
from backups.engines.facts import Device, HistoryPage, HistorySet, Kind, Method, SetFacts
from backups.events import speakable
from backups.models import BackupSet, Instance, RememberedSet, ServerLook, SetStatus
from backups.restore_sources import facts_of

KEPT = timedelta(days=35)
MOST_KEPT = 10_000  # an instance whose files are looked for in the wrong place would fill the table with its logs
SAME_NAMES = (
    *("started_at", "finished_at", "first_position", "last_position", "checkpoint_position", "base_position", "fork"),
    *("set_guid", "family_guid", "base_guid", "media_set_guid", "family_count", "position", "is_copy_only"),
    *("has_checksums", "begins_log_chain", "server", "software_version", "size_bytes"),
)


def keep(look: ServerLook, page: HistoryPage, at: datetime) -> int:
    """Write down what a page of the history tells and nobody has found, and where the next one begins.

    Returns how many rows are new. Safe to repeat: a set is remembered once, whichever replica tells of it.
    """
    instance = look.instance
    told = {one.facts.set_guid: one for one in _of_interest(look, page.sets, at) if one.facts.set_guid}
    with transaction.atomic():
        Instance.objects.select_for_update(no_key=True).get(pk=instance.pk)
        known = _found(instance, told)
        rows = [_row(instance, one, at) for guid, one in told.items() if guid not in known]
        RememberedSet.objects.bulk_create(rows, ignore_conflicts=True)
        for guid, found in known.items():
            _compare(found, told[guid])
        ServerLook.objects.filter(pk=look.pk).update(cursor=page.cursor)
    return len(rows)


def _of_interest(look: ServerLook, told: Iterable[HistorySet], at: datetime) -> list[HistorySet]:
    """What is too old is of no use; of a secondary only its group's databases are the instance's."""
    recent = [one for one in told if one.facts.finished_at > at - KEPT]
    if look.side == ServerLook.Side.PRIMARY:
        return recent
    shared = look.instance.databases.present().exclude(availability_group="")
    names = set(shared.values_list("name", flat=True))
    return [one for one in recent if one.facts.database in names]


def tidy(instance: Instance) -> None:
    """Forget what has been found, and what is too much."""
    forget_found(instance)
    mine = RememberedSet.objects.filter(instance=instance)
    if surplus := max(0, mine.count() - MOST_KEPT):
        oldest = mine.filter(kind=Kind.LOG).order_by("finished_at", "pk").values("pk")[:surplus]
        mine.filter(pk__in=list(oldest.values_list("pk", flat=True))).delete()


def forget_old(at: datetime) -> None:
    """Forget what is too old to be found, also of instances that nobody asks any more."""
    RememberedSet.objects.filter(finished_at__lte=at - KEPT).delete()


def forget_found(instance: Instance) -> int:
    """Forget the sets that lie in the store whole by now; returns how many."""
    here = BackupSet.objects.filter(instance=instance, set_guid=OuterRef("set_guid"))
    mine = RememberedSet.objects.filter(Exists(here.exclude(status=SetStatus.INCOMPLETE)), instance=instance)
    rows = {row.set_guid: row for row in mine}
    found = _found(instance, rows) if rows else {}
    for guid, known in found.items():
        _compare(known, history_set(rows[guid]))
    RememberedSet.objects.filter(pk__in=[rows[guid].pk for guid in found]).delete()
    return len(found)


def _found(instance: Instance, guids: Iterable[str]) -> dict[str, BackupSet]:
    """Return the sets of these GUIDs that are here whole, or were."""
    sets = BackupSet.objects.filter(instance=instance, set_guid__in=list(guids)).exclude(status=SetStatus.INCOMPLETE)
    return {found.set_guid: found for found in sets.select_related("instance")}


# ---- do they agree


def _compare(found: BackupSet, told: HistorySet) -> None:
    """Note on a set what its header and its server tell otherwise; that is an event, and an alert while it lasts."""
    if found.is_told_by_server or found.contradiction:
        return
    fields = differences(engine_of(found.instance.engine), told.facts, _read(found, told.facts))
    if not fields or not BackupSet.objects.filter(pk=found.pk, contradiction="").update(contradiction=fields[:200]):
        return
    sentence = f"The header of {found} and the history of its server disagree on: {fields}."
    events.record("set.contradicted", speakable(sentence), set=found, fields=fields)


def differences(engine: Engine, told: SetFacts, read: SetFacts) -> str:
    compare = engine.differences
    return ", ".join(compare(told, read)) if compare else ""


def _read(found: BackupSet, told: SetFacts) -> SetFacts:
    """Return what was read of a set; what a row of it does not hold is taken as it was told."""
    media = found.files.exclude(media_set_guid="").values_list("media_set_guid", flat=True).first()
    is_snapshot = told.method is Method.SNAPSHOT  # beside its metadata lie files that no server wrote
    stripes = told.family_count if is_snapshot else found.set_files.count()
    return replace(
        facts_of(found), media_set_guid=media or told.media_set_guid, family_count=stripes or told.family_count
    )


# ---- rows


def _row(instance: Instance, one: HistorySet, at: datetime) -> RememberedSet:
    facts = one.facts
    return RememberedSet(
        instance=instance,
        database=speakable(facts.database),
        kind=facts.kind,
        method=facts.method,
        is_compressed=facts.compressed,
        is_encrypted=facts.encrypted,
        is_damaged=one.is_damaged,
        is_foreign=one.is_foreign,
        certificate_thumbprint=one.encryptor_thumbprint.lower(),
        stored_bytes=one.stored_bytes,
        devices=[asdict(device) | {"name": speakable(device.name)} for device in one.devices],
        taken_by=speakable(one.user),
        called=speakable(one.name),
        remembered_at=at,
        **{name: getattr(facts, name) for name in SAME_NAMES},
    )


def history_set(row: RememberedSet) -> HistorySet:
    """Return what a server said of a set, from its row."""
    return HistorySet(
        number=row.pk,
        facts=facts_told(row),
        devices=tuple(Device(**said) for said in row.devices),
        user=row.taken_by,
        name=row.called,
        is_damaged=row.is_damaged,
        encryptor_thumbprint=row.certificate_thumbprint,
        stored_bytes=row.stored_bytes,
    )


def facts_told(row: RememberedSet) -> SetFacts:
    said: Mapping[str, Any] = {name: getattr(row, name) for name in SAME_NAMES}
    return SetFacts(
        database=row.database,
        kind=Kind(row.kind),
        method=Method(row.method),
        compressed=row.is_compressed,
        encrypted=row.is_encrypted,
        **said,
    )
