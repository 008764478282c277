"""The files that a command is pointed at: one by one, folders all the way down, or objects of a bucket.

Each is opened by itself and read in bounded memory. Whatever cannot be read is a Refusal of that one file, so that a
walk over thousands never ends at the first. No database, no settings of ours.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from backups.engines.facts import ReadAt
from regions.locations import clean_options, clean_url
from regions.refusals import Refusal
from regions.storage import Gone, Mismatch, ObjectInfo, Storage, StorageError, StoreOptions, open_storage
from regions.storage.filesystem import UPLOADS
from regions.storage.patience import patiently
from regions.storage.reading import reader

PIECE_BYTES = 1 << 20
KEYS = {
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
}
OPTIONS = {
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "verify": ("AWS_CA_BUNDLE",),
}


@dataclass(frozen=True)
class Opened:
    """An open file: `read` gives a stretch of it, `pieces` all of it in order, each only until the next is asked for.

    All of them, and `settle`, raise Refusal when it is no longer the file that was opened.
    """

    size: int
    read: ReadAt
    pieces: Callable[[], Iterator[memoryview]]
    settle: Callable[[], None]


@dataclass(frozen=True)
class Found:
    """A file to be read, under the path it is told by; opening it raises Refusal when that cannot be done."""

    path: str
    opened: Callable[[], AbstractContextManager[Opened]]


def files_at(place: str, options: Mapping[str, str], environment: Mapping[str, str]) -> Iterator[Found]:
    """Yield the files of a path, a file:/// address or an s3:// address, in the order of their names.

    Raises Refusal for an address that is none; what is wrong with a place that could be one is its own Found.
    """
    scheme, separator, _ = place.partition("://")
    if not separator or os.path.lexists(place):
        return _on_disk(place)
    if scheme == "file":
        return _on_disk(_path_of(place))
    if scheme == "s3":
        return _in_bucket(*_bucket_of(place, options, environment))
    raise Refusal("InvalidAddress", f"{place} is no path, file:/// or s3:// address.", "Correct it.")


# ---- on this machine's disks


def _path_of(address: str) -> str:
    parts = urlsplit(address)
    if parts.netloc or parts.query or parts.fragment:
        raise Refusal("InvalidAddress", f"{address} names no file of this machine.", "Begin it with file:///.")
    return unquote(parts.path, errors="surrogateescape")


def _on_disk(place: str) -> Iterator[Found]:
    """Yield a file, or all below a folder. Links are followed; a folder is entered once, whatever leads to it."""
    entered: set[tuple[int, int]] = set()
    waiting = [place]
    while waiting:
        path = waiting.pop()
        try:
            found = os.stat(path)
            if not stat.S_ISDIR(found.st_mode):
                yield _regular(path, found)
            elif (found.st_dev, found.st_ino) not in entered:
                entered.add((found.st_dev, found.st_ino))
                names = sorted((name for name in os.listdir(path) if name != UPLOADS), reverse=True)
                waiting += [os.path.join(path, name) for name in names]
        except OSError as error:
            yield _unreadable(path, _said_by_the_system(path, error))


def _regular(path: str, found: os.stat_result) -> Found:
    """Nothing else is opened: a FIFO would hang us, and a tape would wind."""
    if stat.S_ISREG(found.st_mode):
        return Found(path, lambda: _file(path))
    return _unreadable(path, Refusal("NotRegular", "This is not a regular file."))


@contextmanager
def _file(path: str) -> Iterator[Opened]:
    with _in_words(path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        before = os.fstat(fd)

        def read(offset: int, length: int) -> bytes:
            with _in_words(path):
                return os.pread(fd, length, offset)

        def settle() -> None:
            now = os.fstat(fd)
            if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise _changing()

        yield Opened(before.st_size, read, lambda: _pieces(path, fd, before.st_size), settle)
    finally:
        os.close(fd)


def _pieces(path: str, fd: int, size: int) -> Iterator[memoryview]:
    buffer, offset = memoryview(bytearray(min(PIECE_BYTES, size) or 1)), 0
    while offset < size:
        with _in_words(path):
            count = os.preadv(fd, [buffer[: size - offset]], offset)
        if not count:
            raise _changing()
        offset += count
        yield buffer[:count]


@contextmanager
def _in_words(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _said_by_the_system(path, error) from error


def _said_by_the_system(path: str, error: OSError) -> Refusal:
    if isinstance(error, FileNotFoundError):
        what = "This link leads nowhere." if os.path.islink(path) else "There is no such file."
        return Refusal("NoSuchFile", what)
    return Refusal("NotReadable", f"It cannot be read: {error.strerror or error}.")


def _changing() -> Refusal:
    return Refusal("StillChanging", "The file changed while it was read.", "Look again when it is wholly written.")


def _unreadable(path: str, refusal: Refusal) -> Found:
    @contextmanager
    def opened() -> Iterator[Opened]:
        raise refusal
        yield

    return Found(path, opened)


# ---- in a bucket


def _bucket_of(
    address: str, options: Mapping[str, str], environment: Mapping[str, str]
) -> tuple[str, str, dict[str, str], dict[str, str]]:
    """Return bucket, key or prefix, options and credentials; what was said goes before the environment."""
    url = clean_url(address.rstrip("/"))
    said = {name: options.get(name) or _first(environment, names) for name, names in OPTIONS.items()}
    said["addressing"] = options.get("addressing", "")
    credentials = {name: environment.get(variable, "") for name, variable in KEYS.items()}
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key, clean_options(url, said), credentials


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((said for name in names if (said := environment.get(name, ""))), "")


def _in_bucket(bucket: str, key: str, options: dict[str, str], credentials: dict[str, str]) -> Iterator[Found]:
    """Yield the object of this key, or all below it as a prefix."""
    address = f"s3://{bucket}/{key}".rstrip("/")

    def stored(url: str) -> Storage:
        return open_storage(StoreOptions(url, options, credentials))

    try:
        if key and (found := _object(stored(f"s3://{bucket}"), key)):
            yield _stored(stored(f"s3://{bucket}"), found, address)
            return
        storage, count = stored(address), 0
        for entry in storage.list():
            count += 1
            if entry.size or not f"/{entry.key}".endswith("/"):  # some consoles put an empty object for a folder
                yield _stored(storage, entry, f"{address}/{entry.key}")
        if key and not count:
            yield _unreadable(address, Refusal("NoSuchFile", "There is no such object, and none below it."))
    except StorageError as error:
        yield _unreadable(address, _said_by_the_store(error))


def _object(storage: Storage, key: str) -> ObjectInfo | None:
    """Return the object, None where there is none; who may only list below a prefix is told of a lack of rights."""
    try:
        return patiently(lambda: storage.head(key))
    except Gone:
        return None
    except StorageError as error:
        if error.code == "AccessDenied":
            return None
        raise


def _stored(storage: Storage, found: ObjectInfo, address: str) -> Found:
    @contextmanager
    def opened() -> Iterator[Opened]:
        def read(offset: int, length: int) -> bytes:
            with _in_store_words():
                return patiently(lambda: _range(storage, found, offset, length))

        yield Opened(found.size, read, lambda: _pieces_of(storage, found), lambda: None)

    return Found(address, opened)


def _range(storage: Storage, found: ObjectInfo, offset: int, length: int) -> bytes:
    data, filled = memoryview(bytearray(length)), 0
    with storage.open_range(found.key, offset, length, found) as stream:
        while filled < length and (count := stream.readinto(data[filled:])):
            filled += count
    return bytes(data[:filled])


def _pieces_of(storage: Storage, found: ObjectInfo) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(PIECE_BYTES))
    with _in_store_words(), reader(storage, found) as body:
        while count := body.readinto(buffer):
            yield buffer[:count]


@contextmanager
def _in_store_words() -> Iterator[None]:
    try:
        yield
    except (Gone, Mismatch) as error:
        raise _changing() from error
    except StorageError as error:
        raise _said_by_the_store(error) from error


def _said_by_the_store(error: StorageError) -> Refusal:
    return Refusal(error.code or "StoreError", error.sentence)
