"""Unpacking a base backup that is not trusted: plain files and folders only, and nothing that could give orders."""

from __future__ import annotations

import fnmatch
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from backups.engines.confinement import Account, own
from regions.refusals import Refusal

CHUNK = 1 << 20

# Settings, doors and signals of the old server, and what would make the new one create links.
DISCARDED = (
    "postgresql.conf",
    "postgresql.auto.conf",
    "pg_hba.conf",
    "pg_ident.conf",
    "conf.d/*",
    "recovery.conf",
    "recovery.done",
    "*.signal",
    "tablespace_map",
    "postmaster.pid",
    "postmaster.opts",
    "current_logfiles",
    "pg_tblspc/*",
    "pg_replslot/*",
    "pg_dynshmem/*",
    "pg_wal/archive_status/*",
)

Passed = Callable[[int], object]


def unpack_base(stream: BinaryIO, target: Path, whom: Account | None, passed: Passed) -> list[str]:
    """Fill the empty folder with the backup's files, owned by the account; returns what was left out.

    Raises Refusal for anything that wants to be elsewhere or is neither file nor folder; `passed(bytes)` may raise.
    """
    left_out = []
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as tar:
            for member in tar:
                name = _checked(member)
                if _is_discarded(name) or (name.startswith("pg_tblspc/") and member.issym()):
                    left_out.append(name)
                else:
                    _put(tar, member, name, target, whom, passed)
    except (tarfile.TarError, FileExistsError) as damage:
        raise _refusal(f"it cannot be read ({damage})") from damage
    if not (target / "PG_VERSION").is_file():
        raise _refusal("it holds no PG_VERSION")
    return left_out


def _checked(member: tarfile.TarInfo) -> str:
    """Return the member's name below the target; raises Refusal for one that could lie, or lead, anywhere else.

    Ours, because the standard library has its filters from 3.11.4 on only; we take names and bytes and nothing else.
    """
    name = member.name.removeprefix("./")
    shown = repr(member.name[:100])
    if name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise _refusal(f"{shown} would lie outside its folder")
    is_tablespace = name.startswith("pg_tblspc/") and member.issym()
    if not is_tablespace and (not (member.isreg() or member.isdir()) or member.issparse()):
        raise _refusal(f"{shown} is neither a file nor a folder")
    return os.path.normpath(name) if name else "."


def _is_discarded(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in DISCARDED)


def _put(
    tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, target: Path, whom: Account | None, passed: Passed
) -> None:
    path = target / name
    if member.isdir():
        _folder(path, target, whom)
        return
    _folder(path.parent, target, whom)
    _copy(tar.extractfile(member), path, whom, passed)


def _folder(path: Path, target: Path, whom: Account | None) -> None:
    if path != target and not path.exists():
        _folder(path.parent, target, whom)
        path.mkdir(mode=0o700)
        own(path, whom, 0o700)


def _copy(content: BinaryIO, path: Path, whom: Account | None, passed: Passed) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        if whom:
            os.fchown(fd, whom.uid, whom.gid)
        while taken := content.read(CHUNK):
            file.write(taken)
            passed(len(taken))


def _refusal(why: str) -> Refusal:
    return Refusal("SetDamaged", f"The backup cannot be restored: {why}.", "Restore from another set.")
