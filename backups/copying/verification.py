"""What the source says of a file, and whether what arrived agrees (design.md §4 "What the source says", I1).

A source reference is the strongest of: the part hashes taken while we wrote the file; the store's own digest of it; the
checksums inside it; a second, independent read. Without one the copy says _carried = stored_ and no more.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from enum import StrEnum

from django.conf import settings

from backups.models import BackupFile, Transfer
from regions.storage import ObjectInfo, Storage
from regions.storage.mover import Part


class Reference(StrEnum):
    TAKEN = "taken"
    STORE_DIGEST = "store_digest"
    INSIDE = "inside"
    SECOND_READ = "second_read"
    NONE = "none"


WORDS = {
    Reference.TAKEN: "agrees with the hashes taken while it was written",
    Reference.STORE_DIGEST: "agrees with the source store's own digest",
    Reference.INSIDE: "agrees with the checksums inside the file",
    Reference.SECOND_READ: "agrees with a second, independent read of the source",
    Reference.NONE: "carried = stored; the source gives nothing to compare with",
}
ORDER = list(Reference)
MD5 = re.compile(r"[0-9a-f]{32}")
MD5_OF_MD5S = re.compile(r"([0-9a-f]{32})-(\d+)")


class Disagrees(Exception):
    """What was carried is not what the source says it is."""


def layout_of(file: BackupFile) -> list[int] | None:
    """Return the part sizes the source's own record uses, so that parts can be compared one by one."""
    parts = file.integrity.get("parts")
    return [size for size, _ in parts] if parts else None


BACKUP_CHECKSUM = "backup checksum"  # the level at which every byte of the data is covered from inside


def expected(file: BackupFile, capabilities: dict, parts: int, level: str = "") -> Reference:
    """Return which reference this file is held against.

    `capabilities` are its source store's, `level` what its own checksums proved on the bytes read back.
    """
    if file.integrity.get("parts"):
        return Reference.TAKEN
    if capabilities.get("etag_is_md5") and parts == 1 and MD5.fullmatch(file.etag):
        return Reference.STORE_DIGEST
    if level == BACKUP_CHECKSUM:
        return Reference.INSIDE
    if settings.SECOND_READ == "always" or (settings.SECOND_READ == "folder" and file.store.url.startswith("file:")):
        return Reference.SECOND_READ
    return Reference.NONE


def compare(file: BackupFile, reference: Reference, parts: Sequence[Part], source: Storage, found: ObjectInfo) -> None:
    """Hold the carried parts against the reference; raises Disagrees. A second read costs a read of the source."""
    if reference == Reference.TAKEN:
        said = [(size, digest) for size, digest in file.integrity["parts"]]
        if said != [(part.size, part.sha256) for part in parts]:
            raise Disagrees("What arrived differs from the hashes taken while the backup was written.")
    elif reference == Reference.STORE_DIGEST:
        if parts[0].md5 != file.etag:
            raise Disagrees("What arrived differs from the source store's own digest.")
    elif reference == Reference.SECOND_READ:
        _read_again(source, found, parts)


def _read_again(source: Storage, found: ObjectInfo, parts: Sequence[Part]) -> None:
    buffer = memoryview(bytearray(1 << 20))
    for part in parts:
        seen = hashlib.sha256()
        with source.open_range(found.key, part.offset, part.size, found) as stream:
            while count := stream.readinto(buffer):
                seen.update(buffer[:count])
        if seen.hexdigest() != part.sha256:
            raise Disagrees(f"A second read of the source differs from what arrived, in part {part.number}.")


def level_of(transfers: Sequence[Transfer]) -> str:
    """Return what the files' own checksums prove of a whole copy: one word where all agree, else each of them."""
    return " · ".join(dict.fromkeys(transfer.verification for transfer in transfers if transfer.verification))[:40]


def weakest(transfers: Sequence[Transfer]) -> Reference:
    """Return the reference of a whole copy: that of its least well-known file."""
    return max(
        (Reference(transfer.reference or "none") for transfer in transfers), key=ORDER.index, default=Reference.NONE
    )
