"""Reading a base backup's tar as it passes: what its label and its manifest say, without keeping it.

The format: https://www.postgresql.org/docs/current/backup-manifest-format.html, and ustar. pg_basebackup puts
backup_label first and, writing to a pipe, backup_manifest last.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from dataclasses import dataclass
from typing import Any

from backups.engines.facts import Excerpt
from backups.engines.streaming import ArchiveDamaged

BLOCK = 512
LABEL, MANIFEST = "backup_label", "backup_manifest"
LABEL_MOST = 16 << 10
MANIFEST_TAIL = 64 << 10  # a manifest names every file and may be large; ranges and checksum stand at its end


def position_of(lsn: str) -> int:
    """Turn an LSN as PostgreSQL prints it (16/B374D848) into the integer that orders it."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


@dataclass(frozen=True)
class Story:
    """What a whole archive said of itself. Positions are LSNs as integers; `timeline` is the one it ends on.

    `base_position`: where the set began that this incremental stands on, None for a full.
    """

    first_position: int
    last_position: int
    checkpoint_position: int | None
    timeline: int
    from_standby: bool
    base_position: int | None = None


class ArchiveReader:
    """Feed it every byte in order; memory stays small whatever the size."""

    def __init__(self) -> None:
        self.size = 0
        self._header = bytearray()
        self._name = ""
        self._left = 0  # bytes of the member's content still to come
        self._padding = 0
        self._label = bytearray()
        self._manifest: ManifestReader | None = None
        self._manifest_at = 0
        self._ended = False

    def feed(self, view: memoryview) -> None:
        """Take the next bytes; raises ArchiveDamaged when they cannot be a tar."""
        self.size += len(view)
        while len(view) and not self._ended:
            if self._left:
                view = self._content(view)
            elif self._padding:
                view = self._skip_padding(view)
            else:
                view = self._heading(view)

    def _content(self, view: memoryview) -> memoryview:
        taken = view[: self._left]
        self._left -= len(taken)
        if self._name == LABEL and len(self._label) < LABEL_MOST:
            self._label += taken
        elif self._name == MANIFEST and self._manifest:
            self._manifest.feed(taken)
        return view[len(taken) :]

    def _skip_padding(self, view: memoryview) -> memoryview:
        skipped = min(self._padding, len(view))
        self._padding -= skipped
        return view[skipped:]

    def _heading(self, view: memoryview) -> memoryview:
        taken = view[: BLOCK - len(self._header)]
        self._header += taken
        if len(self._header) == BLOCK:
            self._open_member(bytes(self._header), begins=self.size - len(view) + len(taken))
            self._header.clear()
        return view[len(taken) :]

    def _open_member(self, header: bytes, begins: int) -> None:
        if not any(header):
            self._ended = True
            return
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise ArchiveDamaged(f"after {self.size} bytes comes something that is no tar header ({error})") from error
        self._name = member.name
        self._left = member.size
        self._padding = -member.size % BLOCK
        if member.name == MANIFEST:
            self._manifest, self._manifest_at = ManifestReader(), begins

    def story(self) -> Story:
        """Tell what the archive said; raises ArchiveDamaged unless it came whole, its manifest's own sum included."""
        if not self._ended:
            raise ArchiveDamaged("it ends in the middle")
        if not self._manifest:
            raise ArchiveDamaged("it has no backup_manifest")
        ranges = self._manifest.ranges()
        newest = max(ranges, key=lambda found: found["Timeline"])
        label = self._label.decode(errors="replace")
        checkpoint = re.search(r"^CHECKPOINT LOCATION: (\S+)", label, re.MULTILINE)
        base = re.search(r"^INCREMENTAL FROM LSN: (\S+)", label, re.MULTILINE)
        return Story(
            first_position=min(position_of(found["Start-LSN"]) for found in ranges),
            last_position=position_of(newest["End-LSN"]),
            checkpoint_position=position_of(checkpoint[1]) if checkpoint else None,
            timeline=newest["Timeline"],
            from_standby=bool(re.search(r"^BACKUP FROM: standby", label, re.MULTILINE)),
            base_position=position_of(base[1]) if base else None,
        )

    def outline(self) -> Excerpt:
        """Return where the manifest lies in a whole archive: all that an incremental on it needs to know of it."""
        return Excerpt(self._manifest_at, self._manifest.size, self._manifest.sha256())


class ManifestReader:
    """Sums a backup_manifest as it passes and keeps only its end."""

    def __init__(self) -> None:
        self.size = 0
        self._sum = hashlib.sha256()
        self._tail = bytearray()

    def feed(self, view: memoryview) -> None:
        self.size += len(view)
        self._tail += view
        surplus = len(self._tail) - MANIFEST_TAIL
        if surplus > 0:
            self._sum.update(self._tail[:surplus])
            del self._tail[:surplus]

    def sha256(self) -> str:
        whole = self._sum.copy()
        whole.update(self._tail)
        return whole.hexdigest()

    def ranges(self) -> list[dict[str, Any]]:
        """Return the WAL ranges needed to start from this backup; raises ArchiveDamaged if the manifest is damaged."""
        begin = self._tail.rfind(b'"WAL-Ranges"')
        last_line = self._tail.rfind(b'"Manifest-Checksum"')
        if begin < 0 or last_line < begin:
            raise ArchiveDamaged("its backup_manifest has no end")
        told = json.loads(b"{" + self._tail[begin:])
        whole = self._sum.copy()
        whole.update(self._tail[:last_line])
        if whole.hexdigest() != told["Manifest-Checksum"]:
            raise ArchiveDamaged("its backup_manifest does not agree with its own checksum")
        if not told["WAL-Ranges"]:
            raise ArchiveDamaged("its backup_manifest names no WAL")
        return told["WAL-Ranges"]
