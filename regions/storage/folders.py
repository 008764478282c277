"""Open folders by descriptor, so that nothing below a store's root can lead out of it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from regions.storage import Mismatch, StorageError

FOLDER_MODE, FILE_MODE = 0o700, 0o600  # backups hold people's data; whoever runs the workers reads them
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO must not hang us before we have looked at it

CODES = {
    errno.ENOSPC: "NoSpace",
    errno.EDQUOT: "NoSpace",
    errno.EACCES: "AccessDenied",
    errno.EPERM: "AccessDenied",
    errno.EROFS: "ReadOnly",
    errno.ELOOP: "NotRegular",
    errno.ENOTDIR: "NotRegular",
    errno.EISDIR: "NotRegular",
    errno.ENAMETOOLONG: "InvalidKey",
}
MAY_PASS = {errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN}


@contextmanager
def spoken(what: str) -> Iterator[None]:
    """Turn what the operating system says about our own calls into StorageErrors."""
    try:
        yield
    except OSError as error:
        code = CODES.get(error.errno or 0, "FolderError")
        sentence = f"{what}: {error.strerror or error}."
        raise StorageError(sentence, retry=error.errno in MAY_PASS, code=code) from error


def split(key: str) -> tuple[list[str], str]:
    """Return the folders and the name of a key; refuses what is no plain path below the root."""
    steps = key.split("/")
    if any(step in ("", ".", "..") or "\0" in step for step in steps):
        raise StorageError(f"{key!r} cannot be a key in a folder store.", code="InvalidKey")
    return steps[:-1], steps[-1]


class Folder:
    """An open folder. Names are looked up in it alone, never through a symbolic link; raises OSError."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    @contextmanager
    def root(cls, path: str) -> Iterator[Folder]:
        """Open a store's root: the one path that an administrator gave, links and all."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise StorageError(f"The folder {path} is not there.", retry=True, code="NoSuchFolder") from None
        with _closing(cls(fd)) as folder:
            yield folder

    @contextmanager
    def below(self, names: Sequence[str], *, make: bool = False) -> Iterator[Folder]:
        fd = os.dup(self.fd)
        try:
            for name in names:
                if make:
                    _make(fd, name)
                fd = _step(fd, name)
        except BaseException:
            os.close(fd)
            raise
        with _closing(Folder(fd)) as folder:
            yield folder

    def open(self, name: str) -> int:
        """Open a regular file for reading and return its descriptor."""
        fd = os.open(name, os.O_RDONLY | OPEN_FILE, dir_fd=self.fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise StorageError(f"{name} is not a regular file.", code="NotRegular")
        return fd

    @contextmanager
    def file(self, name: str, flags: int) -> Iterator[int]:
        fd = os.open(name, flags | OPEN_FILE, FILE_MODE, dir_fd=self.fd)
        try:
            yield fd
        finally:
            os.close(fd)

    def read(self, name: str) -> bytes:
        with self.file(name, os.O_RDONLY) as fd, open(fd, "rb", closefd=False) as file:
            return file.read()

    def write(self, name: str, body: bytes) -> None:
        """Write a new file and wait until it is on disk."""
        with self.file(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd, open(fd, "wb", closefd=False) as file:
            file.write(body)
            file.flush()
            os.fsync(fd)

    def append(self, name: str, body: bytes) -> None:
        with self.file(name, os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, body)
            os.fdatasync(fd)

    def move(self, name: str, home: Folder, new_name: str, *, absent: bool = False) -> None:
        """Give a finished file its place, at once or not at all; with `absent` only where nothing is."""
        if absent:
            try:
                os.link(name, new_name, src_dir_fd=self.fd, dst_dir_fd=home.fd, follow_symlinks=False)
            except FileExistsError:
                raise Mismatch(f"{new_name} is there already.", code="PreconditionFailed") from None
            self.unlink(name)
        else:
            os.rename(name, new_name, src_dir_fd=self.fd, dst_dir_fd=home.fd)
        home.sync()

    def unlink(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def rmdir(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.rmdir(name, dir_fd=self.fd)

    def sync(self) -> None:
        os.fsync(self.fd)

    def stat(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def names(self) -> list[str]:
        return sorted(os.listdir(self.fd))

    def prune(self, names: Sequence[str]) -> None:
        """Remove the folders of a path, innermost first, as far as they are empty."""
        for depth in range(len(names), 0, -1):
            try:
                with self.below(names[: depth - 1]) as parent:
                    os.rmdir(names[depth - 1], dir_fd=parent.fd)
            except OSError:
                return


def walk(
    folder: Folder, prefix: bytes, after: bytes, skip: bytes, at: bytes = b""
) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield key and stat of every regular file, in the byte order of keys; a file that vanishes meanwhile is left out.

    A folder that cannot be read raises: a listing never ends early (I19).
    """
    for name, is_folder in _entries(folder):
        key = at + name
        if is_folder and key != skip and _may_hold(key, prefix, after):
            with suppress(FileNotFoundError), folder.below([os.fsdecode(name)]) as below:
                yield from walk(below, prefix, after, skip, key + b"/")
        elif not is_folder and key.startswith(prefix) and key > after:
            with suppress(FileNotFoundError):
                found = folder.stat(os.fsdecode(name))
                if stat.S_ISREG(found.st_mode):
                    yield key, found


def _entries(folder: Folder) -> list[tuple[bytes, bool]]:
    """List a folder so that its keys come in order: a folder stands where its name with a slash stands."""
    with os.scandir(folder.fd) as entries:
        found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    return sorted(found, key=lambda entry: entry[0] + b"/" if entry[1] else entry[0])


def _may_hold(key: bytes, prefix: bytes, after: bytes) -> bool:
    below, beyond = key + b"/", key + b"0"  # "0" is the byte after "/"
    return (below.startswith(prefix) or prefix.startswith(below)) and beyond > after


@contextmanager
def _closing(folder: Folder) -> Iterator[Folder]:
    try:
        yield folder
    finally:
        os.close(folder.fd)


def _step(fd: int, name: str) -> int:
    below = os.open(name, OPEN_FOLDER, dir_fd=fd)
    os.close(fd)
    return below


def _make(fd: int, name: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, FOLDER_MODE, dir_fd=fd)
        os.fsync(fd)
