"""Reads a SQL Server backup file from a distance, by its own headers; refuses instead of guessing."""

from __future__ import annotations

from backups.engines.facts import Inspection, ReadAt
from backups.engines.sqlserver import compressed, plain
from backups.engines.sqlserver.saying_no import not_a_backup, truncated
from backups.engines.sqlserver.windows import Windows
from regions.refusals import Refusal

_PLAIN = b"TAPE"
_LONGEST_MAGIC = 16


def inspect(read: ReadAt, size: int) -> Inspection:
    """Return the sets of the file, or why it is refused.

    Takes two reads (head and tail, 64 KiB each) in the common case, and a small one per data file or set that begins
    out of their sight. Whatever `read` raises passes through: a store that fails is not a file that is wrong.
    """
    file = Windows(read, size)
    try:
        magic = file.at(0, min(size, _LONGEST_MAGIC)) if size else b""
        if len(magic) < _LONGEST_MAGIC or not any(magic):
            raise _unfinished_or_foreign(magic)
        if magic.startswith(_PLAIN):
            return Inspection(sets=tuple(plain.sets_of(file)))
        if magic.startswith(compressed.MAGIC):
            return Inspection(sets=(compressed.set_of(file),))
        raise not_a_backup()
    except Refusal as refusal:
        return Inspection(refusal=refusal)


def _unfinished_or_foreign(magic: bytes) -> Refusal:
    begun = any(known.startswith(magic[: len(known)]) for known in (_PLAIN, compressed.MAGIC))
    return truncated("hardly anything is written yet") if begun or not any(magic) else not_a_backup()
