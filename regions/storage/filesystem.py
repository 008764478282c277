"""A folder as a store: the same verbs with pwrite, fsync and rename.

Everything is opened step by step from the root folder, no step through a symbolic link, and only regular files are
read: what lies in a folder store was put there by others. An unfinished upload is a folder below
`.farshore-uploads/` with its bytes (`body`), its `key` and a `journal` of the parts that are safely on disk.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from regions.storage import Gone, Mismatch, ObjectInfo, PartReceipt, Readable, StorageError, StoreOptions, UploadInfo
from regions.storage.buffers import borrowed
from regions.storage.folders import Folder, split, spoken, walk
from regions.storage.ranges import Counted

UPLOADS = ".farshore-uploads"
OWN = "farshore/"  # below this, empty folders are ours to remove
UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
DRAFT_SECONDS = 86_400


class FolderStorage:
    """A store below one folder. Its ETag is (size, mtime, inode): a file that changed is another object."""

    def __init__(self, store: StoreOptions) -> None:
        self._path = os.fsdecode(unquote_to_bytes(urlsplit(store.url).path))

    # Objects

    def head(self, key: str) -> ObjectInfo:
        file = self._open(key)
        try:
            return _info_of(key, os.fstat(file))
        finally:
            os.close(file)

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        with spoken("The folder could not be listed"), self._root() as root:
            for key, found in walk(root, os.fsencode(prefix), os.fsencode(start_after), skip=os.fsencode(UPLOADS)):
                yield _info_of(os.fsdecode(key), found)

    @contextmanager
    def open_range(self, key: str, offset: int, length: int, match: ObjectInfo | None = None) -> Iterator[Readable]:
        file = self._open(key)
        try:
            _require_same(file, key, match)
            yield Counted(_Range(file, key, offset, length, match), length)
        finally:
            os.close(file)

    def put(self, key: str, body: bytes, *, absent: bool = False) -> ObjectInfo:
        folders, name = split(key)
        draft = f"put-{uuid.uuid4().hex}"
        with spoken(f"{key} could not be written"), self._uploads() as drafts:
            drafts.write(draft, body)
            try:
                self._settle(drafts, draft, folders, name, absent=absent)
            finally:
                drafts.unlink(draft)
        return self.head(key)

    def delete(self, key: str, match: ObjectInfo | None = None) -> None:
        folders, name = split(key)
        try:
            _require_same_object(self.head(key), match)
        except Gone:
            return
        with spoken(f"{key} could not be deleted"), self._root() as root:
            with suppress(FileNotFoundError), root.below(folders) as home:
                home.unlink(name)
                home.sync()
            if key.startswith(OWN):
                root.prune(folders)

    def presigned(self, found: ObjectInfo, name: str, seconds: int) -> str | None:
        return None

    # Multipart uploads

    def create_upload(self, key: str, metadata: dict[str, str] | None = None) -> str:
        """`metadata` is not kept: a folder's upload is adopted by its key and size."""
        split(key)
        upload_id = uuid.uuid4().hex
        with (
            spoken("The upload could not be begun"),
            self._uploads() as uploads,
            uploads.below([upload_id], make=True) as upload,
        ):
            upload.write("key", os.fsencode(key))  # first, so that list_uploads finds whatever is left behind
            upload.write("body", b"")
            upload.write("journal", b"")
            upload.sync()
        return upload_id

    def put_part(self, key: str, upload_id: str, number: int, offset: int, length: int, body: Readable) -> PartReceipt:
        """Bytes, fdatasync, then the journal line: a part that is listed is on disk, whatever dies."""
        entry = _Entry(number, offset, length, uuid.uuid4().hex)
        with self._upload(key, upload_id) as upload, spoken(f"Part {number} could not be written"):
            upload.append("journal", entry.void())
            with upload.file("body", os.O_WRONLY) as file:
                _pour(body, file, offset, length)
                os.fdatasync(file)
            upload.append("journal", entry.line())
        return entry.receipt()

    def list_parts(self, key: str, upload_id: str) -> list[PartReceipt]:
        with self._upload(key, upload_id) as upload, spoken("The parts could not be listed"):
            return [entry.receipt() for entry in _journaled(upload)]

    def complete_upload(self, key: str, upload_id: str, parts: Sequence[PartReceipt]) -> ObjectInfo:
        folders, name = split(key)
        with self._upload(key, upload_id) as upload, spoken(f"{key} could not be completed"):
            size = _whole_size(parts, _journaled(upload))
            try:
                with upload.file("body", os.O_RDWR) as file:
                    os.ftruncate(file, size)
                    os.fsync(file)
            except FileNotFoundError:
                raise Gone(f"The upload {upload_id} was completed before.", code="NoSuchUpload") from None
            self._settle(upload, "body", folders, name)
        self.abort_upload(key, upload_id)
        return self.head(key)

    def abort_upload(self, key: str, upload_id: str) -> None:
        with suppress(Gone), self._upload(key, upload_id) as upload, spoken("The upload could not be removed"):
            for name in ("body", "journal", "key"):  # the key goes last: without it nobody would find the rest
                upload.unlink(name)
        if UPLOAD_ID.fullmatch(upload_id):
            with spoken("The upload could not be removed"), self._uploads() as uploads, suppress(OSError):
                os.rmdir(upload_id, dir_fd=uploads.fd)

    def list_uploads(self, prefix: str = "") -> Iterator[UploadInfo]:
        with spoken("The uploads could not be listed"), self._uploads() as uploads:
            _sweep_drafts(uploads)
            found = [_upload_info(uploads, name) for name in uploads.names() if UPLOAD_ID.fullmatch(name)]
        yield from (upload for upload in found if upload and upload.key.startswith(prefix))

    # The store itself

    def clock(self) -> datetime:
        return datetime.now(UTC)

    def space_left(self) -> int | None:
        with spoken("The folder did not answer"), self._root() as root:
            room = os.fstatvfs(root.fd)
            return room.f_bavail * room.f_frsize

    def features(self) -> dict[str, bool]:
        return {"versioning": False, "object_lock": False, "locks_all": False}

    def expiring_rules(self, prefix: str) -> list[str]:
        return []

    # Ways in

    @contextmanager
    def _root(self) -> Iterator[Folder]:
        with Folder.root(self._path) as root:
            yield root

    @contextmanager
    def _uploads(self) -> Iterator[Folder]:
        with self._root() as root, root.below([UPLOADS], make=True) as uploads:
            yield uploads

    @contextmanager
    def _upload(self, key: str, upload_id: str) -> Iterator[Folder]:
        """Open an upload's folder; Gone when it is not there or was begun for another key."""
        gone = Gone(f"The upload {upload_id} is gone.", code="NoSuchUpload")
        if not UPLOAD_ID.fullmatch(upload_id):
            raise gone
        with spoken("The upload could not be opened"), self._uploads() as uploads:
            try:
                with uploads.below([upload_id]) as upload:
                    if upload.read("key") != os.fsencode(key):
                        raise gone
                    mine = Folder(os.dup(upload.fd))
            except FileNotFoundError:
                raise gone from None
        try:
            yield mine
        finally:
            os.close(mine.fd)

    def _open(self, key: str) -> int:
        """Return the descriptor of a regular file; the caller closes it."""
        folders, name = split(key)
        with spoken(f"{key} could not be read"), self._root() as root:
            try:
                with root.below(folders) as home:
                    return home.open(name)
            except FileNotFoundError:
                raise Gone(f"There is no file {key}.", code="NoSuchKey") from None

    def _settle(self, drafts: Folder, draft: str, folders: list[str], name: str, *, absent: bool = False) -> None:
        """Move a finished file to its place; a folder that was pruned under our feet is made again."""
        for last in (False, False, True):
            try:
                with self._root() as root, root.below(folders, make=True) as home:
                    drafts.move(draft, home, name, absent=absent)
                return
            except FileNotFoundError:
                if last:
                    raise


class _Entry(NamedTuple):
    """A line of an upload's journal; a line torn by a crash has too few words or a short receipt, and is ignored."""

    number: int
    offset: int
    size: int
    etag: str

    def line(self) -> bytes:
        return f"\n{self.number} {self.offset} {self.size} {self.etag}\n".encode()

    def void(self) -> bytes:
        """What was there of this part is about to be written over."""
        return f"\n{self.number} void\n".encode()

    def receipt(self) -> PartReceipt:
        return PartReceipt(self.number, self.size, self.etag)


class _Range:
    """Reads a stretch of an open file and looks once more at its end: a file that grew or changed is no source."""

    def __init__(self, file: int, key: str, offset: int, length: int, match: ObjectInfo | None) -> None:
        self._file, self._key, self._at, self._end, self._match = file, key, offset, offset + length, match

    def readinto(self, buffer: memoryview) -> int:
        with spoken(f"{self._key} could not be read"):
            count = os.preadv(self._file, [buffer], self._at)
        self._at += count
        if not count or self._at >= self._end:
            _require_same(self._file, self._key, self._match)
        return count


def _info_of(key: str, found: os.stat_result) -> ObjectInfo:
    etag = f"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ino:x}"
    return ObjectInfo(key, found.st_size, etag, datetime.fromtimestamp(found.st_mtime, UTC))


def _require_same(file: int, key: str, match: ObjectInfo | None) -> None:
    _require_same_object(_info_of(key, os.fstat(file)), match)


def _require_same_object(found: ObjectInfo, match: ObjectInfo | None) -> None:
    if match and found.etag != match.etag:
        raise Mismatch(f"{found.key} has changed since it was looked at.", code="PreconditionFailed")


def _pour(body: Readable, file: int, offset: int, length: int) -> None:
    at, end = offset, offset + length
    with borrowed() as buffer:
        while at < end:
            count = body.readinto(buffer[: min(end - at, len(buffer))])
            if not count:
                raise StorageError(f"The source ended {end - at} bytes early.", retry=True, code="ShortRead")
            at += _write_all(file, buffer[:count], at)


def _write_all(file: int, chunk: memoryview, offset: int) -> int:
    written = 0
    while written < len(chunk):
        written += os.pwrite(file, chunk[written:], offset + written)
    return written


def _journaled(upload: Folder) -> list[_Entry]:
    """Return the parts that are on disk, by number; the last line about a part counts."""
    found: dict[int, _Entry] = {}
    for line in upload.read("journal").decode("ascii", "replace").splitlines():
        match line.split():
            case [number, "void"]:
                found.pop(int(number), None)
            case [number, offset, size, etag] if UPLOAD_ID.fullmatch(etag):
                found[int(number)] = _Entry(int(number), int(offset), int(size), etag)
    return sorted(found.values())


def _whole_size(parts: Sequence[PartReceipt], journaled: Sequence[_Entry]) -> int:
    """Return the size of the whole: the parts named must be on disk as acknowledged, end to end and without a hole."""
    on_disk, size = {entry.number: entry for entry in journaled}, 0
    for part in parts:
        entry = on_disk.get(part.number)
        if entry is None or entry.receipt() != part or entry.offset != size:
            raise StorageError(f"Part {part.number} is not in the upload as it was acknowledged.", code="InvalidPart")
        size += entry.size
    return size


def _upload_info(uploads: Folder, name: str) -> UploadInfo | None:
    with suppress(FileNotFoundError), uploads.below([name]) as upload:
        started_at = datetime.fromtimestamp(upload.stat("key").st_mtime, UTC)
        return UploadInfo(os.fsdecode(upload.read("key")), name, started_at)
    return None


def _sweep_drafts(uploads: Folder) -> None:
    """Remove what a `put` left behind when its process was killed."""
    for name in uploads.names():
        if name.startswith("put-"):
            with suppress(FileNotFoundError):
                if uploads.stat(name).st_mtime < time.time() - DRAFT_SECONDS:
                    uploads.unlink(name)
