"""One file to one store: journal the attempt, send its parts, complete, read back, compare (design.md §4)."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from backups import layout, presence
from backups.cleaning import abort_uploads
from backups.copying import verification
from backups.copying.inspecting import DAMAGED, Inspector, inspector_of
from backups.copying.verification import Disagrees, Reference
from backups.leases import LeaseLost, next_lease
from backups.models import PENDING, BackupFile, CopiedFile, Copy, CopyState, Transfer, TransferPart
from regions import clock
from regions.storage import Gone, Mismatch, ObjectInfo, PartReceipt, Storage, StorageError, mover
from regions.storage.mover import Part

State = Transfer.State
CARRIED = (*PENDING, CopyState.DAMAGED)  # a damaged one stays so while it is carried again, beside its old object


class Busy(Exception):
    """Another copy's worker is bringing the same file; wait for it."""


class SourceGone(Exception):
    """The file is no longer at its source, and the source store is there to say so."""


class SourceChanged(Exception):
    """Something else lies under the file's key: the next looks tell whether it was appended to, or is lost."""


def bring_files(copy: Copy, until: float) -> list[Transfer] | None:
    """Bring and verify every file of the copy's set; None when time came first. Raises what `carry_slice` handles."""
    presence.require_ours(copy.destination_store, copy.destination_store.open())
    files = list(copy.set.files.select_related("store__region").order_by("set_files__family_sequence"))
    _drop_attempts_at_other_files(copy, files)
    transfers = []
    for file in files:
        transfer = _ready_attempt(copy, file)
        if transfer.state != State.VERIFIED and not _bring(copy, transfer, until):
            return None
        transfers.append(transfer)
    return transfers


def renew(copy: Copy, **changes: object) -> None:
    """Renew the lease and write `changes`, both only while the fence is ours; raises LeaseLost."""
    lease = next_lease(clock.now())
    if not Copy.objects.filter(pk=copy.pk, fence=copy.fence, state__in=CARRIED).update(leased_until=lease, **changes):
        raise LeaseLost


# ---- the attempt


def _drop_attempts_at_other_files(copy: Copy, files: Sequence[BackupFile]) -> None:
    """The set was found again in another file (appended to, or moved): attempts at the old one are given up."""
    with transaction.atomic():
        renew(copy)
        if copy.state == CopyState.DAMAGED:
            begun = Transfer.objects.filter(replaces__copied_files__copy=copy, state__in=Transfer.UNDER_WAY)
            begun.exclude(file__in=files).update(state=State.ABANDONED)
            return
        stale = copy.copied_files.exclude(file__in=files)
        Transfer.objects.filter(pk__in=stale.values("transfer"), state__in=Transfer.UNDER_WAY).update(
            state=State.ABANDONED
        )
        stale.delete()


def _ready_attempt(copy: Copy, file: BackupFile) -> Transfer:
    """Return the attempt to go on with: a verified one to share, our own under way, or a new one.

    One that is to take a damaged one's place is not the copy's until it is proven: see `mending`.
    """
    with transaction.atomic():
        renew(copy)
        at_store = Transfer.objects.select_for_update().filter(file=file, store=copy.destination_store)
        transfer = (
            at_store.filter(state=State.VERIFIED).first() or at_store.filter(state__in=Transfer.UNDER_WAY).first()
        )
        if transfer is None:
            transfer = _journal(copy, file)
        elif transfer.state != State.VERIFIED and not _is_ours(copy, transfer):
            raise Busy
        if transfer.state != State.VERIFIED:
            transfer.fence += 1
            Transfer.objects.filter(pk=transfer.pk).update(fence=transfer.fence)
        if copy.state != CopyState.DAMAGED:
            CopiedFile.objects.update_or_create(copy=copy, file=file, defaults={"transfer": transfer})
        return transfer


def _journal(copy: Copy, file: BackupFile) -> Transfer:
    """Write the intention, its key included, before anything exists in the store."""
    try:
        with transaction.atomic():
            return Transfer.objects.create(
                file=file,
                store=copy.destination_store,
                replaces=_worn(copy, file) if copy.state == CopyState.DAMAGED else None,
                key=layout.object_key(copy, file),
                fence=copy.fence,
                size=file.size,
                started_at=clock.now(),
            )
    except IntegrityError as error:  # another copy's worker journaled the same file in this moment
        raise Busy from error


def _worn(copy: Copy, file: BackupFile) -> Transfer | None:
    """Return the damaged attempt a new one replaces: at this file, or at the one in which the set lay before."""
    damaged = Transfer.objects.filter(state=State.DAMAGED, copied_files__copy=copy).order_by("-pk")
    return damaged.filter(file=file).first() or damaged.first()


def _is_ours(copy: Copy, transfer: Transfer) -> bool:
    wanted = Q(copied_files__transfer=transfer)
    if transfer.replaces_id:
        wanted |= Q(copied_files__transfer=transfer.replaces_id)
    others = Copy.objects.filter(wanted, state__in=CARRIED, leased_until__gt=clock.now()).exclude(pk=copy.pk)
    return not others.exists()


def abandon(copy: Copy, transfer: Transfer, why: str) -> None:
    """Give an attempt up; its upload and object are removed by `cleaning`, a new attempt gets a new key."""
    with transaction.atomic():
        renew(copy)
        _write(transfer, state=State.ABANDONED, error=why)
        CopiedFile.objects.filter(transfer=transfer).delete()


# ---- one file


def _bring(copy: Copy, transfer: Transfer, until: float) -> bool:
    source, target = transfer.file.store.open(), copy.destination_store.open()
    if transfer.state != State.UPLOADED:
        found = _at_source(transfer.file, source)
        plan = mover.plan(transfer.size, _layout(transfer))
        if not _send(copy, transfer, source, found, target, plan, until):
            return False
    return _verify(copy, transfer, source, target, until)


def _layout(transfer: Transfer) -> list[int] | None:
    """Return how the file is cut: as it was when it was carried before, so that part can be held against part."""
    if _is_held_against_former(transfer):
        return list(transfer.replaces.parts.values_list("size", flat=True))
    return verification.layout_of(transfer.file)


def _is_held_against_former(transfer: Transfer) -> bool:
    return transfer.replaces is not None and transfer.replaces.file_id == transfer.file_id


def _at_source(file: BackupFile, source: Storage) -> ObjectInfo:
    """Return the source object exactly as recorded; SourceGone when the store, being there, holds it no more."""
    try:
        found = source.head(file.key)
    except Gone:
        presence.require_ours(file.store, source)
        raise SourceGone from None
    if (found.size, found.etag) != (file.size, file.etag) or file.version not in ("", found.version):
        raise SourceChanged  # a listing tells no versions, so a found file has none recorded
    return found


def _send(
    copy: Copy, transfer: Transfer, source: Storage, found: ObjectInfo, target: Storage, plan: list[Part], until: float
) -> bool:
    done = _already_there(copy, transfer, target)
    if transfer.state == State.UPLOADED:
        return True
    if not plan:
        _uploaded(copy, transfer, target.put(transfer.key, b""))
        return True
    try:
        parts = mover.carry(
            source,
            found,
            target,
            transfer.key,
            transfer.upload_id,
            plan,
            done=done,
            until=until,
            on_part=lambda part: _record_part(copy, transfer, part),
            in_flight=settings.PARTS_IN_FLIGHT,
            want_md5=len(plan) == 1,
            on_retry=lambda count: _record_resent(transfer, count),
            pulse=lambda: renew(copy),
        )
    except Mismatch:
        raise SourceChanged from None
    if parts is None:
        return False
    receipts = [PartReceipt(part.number, part.size, part.etag) for part in parts]
    renew(copy)
    stored = target.complete_upload(transfer.key, transfer.upload_id, receipts)
    try:
        _uploaded(copy, transfer, stored)
    except LeaseLost:
        _clean_once_more(transfer)
        raise
    return True


def _clean_once_more(transfer: Transfer) -> None:
    """The attempt was given up, and cleaned up, while the store was completing it: the object appeared afterwards."""
    Transfer.objects.filter(pk=transfer.pk, state=State.CLEANED).update(state=State.ABANDONED)


def _already_there(copy: Copy, transfer: Transfer, target: Storage) -> dict[int, Part]:
    """Return the parts both we and the store know; adopt a completed object, create the upload where there is none."""
    recorded = {row.number: _part(row) for row in transfer.parts.all()}
    if transfer.upload_id:
        try:
            return mover.resumable(target, transfer.key, transfer.upload_id, recorded)
        except Gone:
            return _adopt_or_begin_anew(copy, transfer, target)
    if transfer.size:
        _begin_upload(copy, transfer, target)
    return {}


def _begin_upload(copy: Copy, transfer: Transfer, target: Storage) -> None:
    abort_uploads(target, transfer.key)  # one may be there from a worker that died before it could journal the id
    upload_id = target.create_upload(transfer.key)
    _update(copy, transfer, state=State.UPLOADING, upload_id=upload_id)


def _adopt_or_begin_anew(copy: Copy, transfer: Transfer, target: Storage) -> dict[int, Part]:
    """The upload is gone: its object is there when a worker died between completing it and saying so."""
    try:
        stored = target.head(transfer.key)
    except Gone:
        abandon(copy, transfer, "The store no longer knows the upload.")
        raise StorageError("The store no longer knows the upload; a new attempt begins.", retry=True) from None
    if stored.size != transfer.size:
        abandon(copy, transfer, "The object has another size than what was sent.")
        raise Disagrees("The object at the destination has another size than what was sent.")
    _uploaded(copy, transfer, stored)
    return {}


def _uploaded(copy: Copy, transfer: Transfer, stored: ObjectInfo) -> None:
    if stored.size != transfer.size:
        abandon(copy, transfer, "The object has another size than what was sent.")
        raise Disagrees("The object at the destination has another size than what was sent.")
    _update(copy, transfer, state=State.UPLOADED, etag=stored.etag, version=stored.version, uploaded_at=clock.now())


def _verify(copy: Copy, transfer: Transfer, source: Storage, target: Storage, until: float) -> bool:
    """Read every part back from the destination, then hold what was carried against what the source says."""
    renew(copy, **({} if copy.state == CopyState.DAMAGED else {"state": CopyState.VERIFYING}))
    rows = list(transfer.parts.all())
    parts = [_part(row) for row in rows]
    _require_all(copy, transfer, parts)
    stored = ObjectInfo(transfer.key, transfer.size, transfer.etag, transfer.uploaded_at, transfer.version)
    inspector = inspector_of(transfer)
    try:
        finished = mover.read_back(
            target,
            stored,
            parts,
            verified={row.number for row in rows if row.verified_at},
            until=until,
            on_verified=lambda part: _record_verified(copy, transfer, part, inspector),
            in_flight=1 if inspector else settings.PARTS_IN_FLIGHT,
            watch=inspector.see if inspector else None,
            pulse=lambda: renew(copy),
        )
        if not finished:
            return False
        level = _proven_inside(inspector) if parts else ""
        reference = _hold_against_source(transfer.file, parts, source, level)
        _hold_against_former(transfer, parts)
    except (mover.Differs, Disagrees, Mismatch, Gone) as error:
        abandon(copy, transfer, str(error))
        raise Disagrees(f"{error}") from error
    _update(
        copy,
        transfer,
        state=State.VERIFIED,
        verified_at=clock.now(),
        reference=reference,
        verification=level,
        digest=mover.digest(parts),
        verifier_state=None,
    )
    return True


def _require_all(copy: Copy, transfer: Transfer, parts: Sequence[Part]) -> None:
    """What is read back is what was recorded: the record must leave no byte out (I1)."""
    ends = [0, *(part.offset + part.size for part in parts)]
    if [part.offset for part in parts] != ends[:-1] or ends[-1] != transfer.size:
        abandon(copy, transfer, "The parts that were recorded do not make up the file.")
        raise Disagrees("The parts that were recorded do not make up the file.")


def _proven_inside(inspector: Inspector | None) -> str:
    """Return what the file's own checksums prove; raises Disagrees when they say that it is damaged."""
    if inspector is None:
        return ""
    verdict = inspector.verdict()
    if verdict.level == DAMAGED:
        raise Disagrees(f"The file's own checksums do not agree with its bytes: {verdict.sentence}")
    return str(verdict.level)


def _hold_against_source(file: BackupFile, parts: Sequence[Part], source: Storage, level: str) -> Reference:
    """Return the reference the parts agree with; a source that has gone meanwhile can no longer be read twice."""
    reference = verification.expected(file, file.store.capabilities, len(parts), level)
    found = ObjectInfo(file.key, file.size, file.etag, file.modified_at, file.version)
    try:
        verification.compare(file, reference, parts, source, found)
    except Mismatch:
        return Reference.NONE
    except Gone:
        presence.require_ours(file.store, source)
        return Reference.NONE
    return reference


def _hold_against_former(transfer: Transfer, parts: Sequence[Part]) -> None:
    """What is carried again is what was carried and proven before: the source may be rotting too (I1)."""
    if _is_held_against_former(transfer) and mover.digest(parts) != transfer.replaces.digest:
        raise Disagrees("What lies at the source now is not what was carried and verified before.")


# ---- the journal


def _update(copy: Copy, transfer: Transfer, **changes: object) -> None:
    with transaction.atomic():
        renew(copy)
        _write(transfer, **changes)
    for name, value in changes.items():
        setattr(transfer, name, value)


def _write(transfer: Transfer, **changes: object) -> None:
    """Write to an attempt only while it is under way and nobody else carries it: an abandoned one never comes back.

    Copies of sets in one file share it, so a copy's fence does not tell; `Transfer.fence` rises with each taking up.
    """
    mine = Transfer.objects.filter(pk=transfer.pk, fence=transfer.fence, state__in=Transfer.UNDER_WAY)
    if not mine.update(**changes):
        raise LeaseLost


def _record_part(copy: Copy, transfer: Transfer, part: Part) -> None:
    with transaction.atomic():
        renew(copy)
        _write(transfer, bytes_sent=F("bytes_sent") + part.size)
        TransferPart.objects.update_or_create(
            transfer=transfer,
            number=part.number,
            defaults={
                "offset": part.offset,
                "size": part.size,
                "sha256": part.sha256,
                "etag": part.etag,
                "md5": part.md5,
                "verified_at": None,
            },
        )


def _record_resent(transfer: Transfer, count: int) -> None:
    Transfer.objects.filter(pk=transfer.pk).update(bytes_resent=F("bytes_resent") + count)


def _record_verified(copy: Copy, transfer: Transfer, part: Part, inspector: Inspector | None) -> None:
    with transaction.atomic():
        renew(copy)
        _write(transfer, bytes_verified=F("bytes_verified") + part.size)
        if inspector:
            _write(transfer, verifier_state=inspector.state_after(part))
        TransferPart.objects.filter(transfer=transfer, number=part.number).update(
            verified_at=Coalesce("verified_at", Now())
        )


def _part(row: TransferPart) -> Part:
    return Part(number=row.number, offset=row.offset, size=row.size, sha256=row.sha256, etag=row.etag, md5=row.md5)
