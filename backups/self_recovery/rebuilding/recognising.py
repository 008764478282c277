"""Copies that are known already, in a store that was moved: a disk's own marks of a file change, its bytes do not."""

from __future__ import annotations

from backups import restore_sources
from backups.models import Transfer
from backups.self_recovery.rebuilding.contents import Contents, hold_against, replaced
from backups.self_recovery.rebuilding.report import WRONG, Report
from regions.models import Store
from regions.storage import Storage


def recognise(store: Store, storage: Storage, found: Contents, report: Report, *, rehash: bool) -> None:
    """Tell which verified objects are not the recorded ones by their ETag; with `rehash` accept those that hash to what
    our own rows recorded, never to what the store says of itself."""
    verified = Transfer.objects.filter(store=store, state=Transfer.State.VERIFIED).order_by("pk")
    for transfer in verified.iterator(chunk_size=500):
        info = found.objects.get(transfer.key)
        if info is None or info.etag == transfer.etag:
            continue  # what is missing is told when it is read: no listing decides over a copy (I19)
        try:
            if info.size != transfer.size or not rehash:
                raise replaced(transfer.key)
            hold_against(storage, info, restore_sources.proven(transfer))
        except WRONG as error:
            report.tell(f"Copy of file {transfer.file_id}", error)
            continue
        Transfer.objects.filter(pk=transfer.pk).update(etag=info.etag, version=info.version)
        report.add("known objects")
