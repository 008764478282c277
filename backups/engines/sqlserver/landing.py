"""A landing server: what a look at it tells, and a database restored there from files in the share that both see."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from backups.engines.facts import Connection, LandedDatabase, LandedRequest, LandedSet, LandingFacts
from backups.engines.sqlserver.connecting import Session, session
from backups.engines.sqlserver.dropping import identity_of
from backups.engines.sqlserver.restoring import Request, Source, restore
from backups.engines.sqlserver.server import NOT_A_SERVER, OLDEST_MAJOR
from regions.refusals import Refusal

LOOK = """
SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)) AS version,
       CAST(SERVERPROPERTY('Edition') AS nvarchar(128)) AS edition,
       CAST(SERVERPROPERTY('EngineEdition') AS int) AS engine_edition,
       CAST(SERVERPROPERTY('InstanceDefaultDataPath') AS nvarchar(260)) AS data_path,
       @@VERSION AS program,
       SUSER_SNAME() AS account,
       HAS_PERMS_BY_NAME(NULL, NULL, 'CREATE ANY DATABASE') AS creates,
       HAS_PERMS_BY_NAME(NULL, NULL, 'ALTER ANY CONNECTION') AS kills,
       IS_SRVROLEMEMBER('sysadmin') AS is_sysadmin
"""
NAMES = "SELECT name FROM sys.databases ORDER BY name"
KEYS = ("SELECT thumbprint FROM master.sys.certificates", "SELECT thumbprint FROM master.sys.asymmetric_keys")
VOLUMES = """
SELECT v.volume_mount_point AS mount, v.available_bytes AS free
FROM sys.master_files AS f CROSS APPLY sys.dm_os_volume_stats(f.database_id, f.file_id) AS v
"""
SIMULATION = "Farshore's simulation"
PROOF = b"Farshore looks whether the server sees this folder. This file is removed at once.\r\n" * 50
OPENED = ("NotABackup", "ShareFailed")  # what the server says of a file that it could open and that is no backup
RECOVER = "recover"


# ---- looking


def inspect_landing(connection: Connection, *, share_called: str, share_folder: Path) -> LandingFacts:
    """Learn what the server is, and prove that it and this worker see the same folder.

    Raises Refusal when no backup could be restored there. Nothing stays behind in the folder.
    """
    with session(connection) as opened:
        found = opened.ask(LOOK)[0]
        _why_not(found)
        _see_the_same(opened, share_called, share_folder)
        names = tuple(row["name"] for row in opened.ask(NAMES))
        free = _bytes_free(opened, found["data_path"] or "")
        return LandingFacts(
            version=found["version"],
            databases=names,
            certificates=tuple(sorted({row["thumbprint"].hex() for keys in KEYS for row in opened.ask(keys)})),
            bytes_free=free,
            is_simulation=found["program"].startswith(SIMULATION),
            notes=tuple(_remarks(found, free)),
        )


def _why_not(found: dict[str, Any]) -> None:
    if found["engine_edition"] in NOT_A_SERVER:
        raise Refusal(
            "NotSqlServer",
            f"This is {found['edition']}, which restores nothing from a folder.",
            "Name a SQL Server that sees the share.",
            "host",
        )
    if int(found["version"].partition(".")[0]) < OLDEST_MAJOR:
        raise Refusal(
            "TooOld",
            f"The server is SQL Server {found['version']}; 2016 (13.0) is the oldest that is worked with.",
            "Name a newer one.",
            "host",
        )
    if not found["creates"]:
        raise Refusal(
            "MayNotCreate",
            f"{found['account']} may not create databases there.",
            "Make it a member of dbcreator; the script does that.",
            "username",
        )


def _remarks(found: dict[str, Any], free: int | None) -> Iterator[str]:
    yield f"{found['edition']}."
    if found["is_sysadmin"]:
        yield f"{found['account']} is a sysadmin, far more than Farshore needs: see the script for its own login."
    elif not found["kills"]:
        yield "A restore is given up by closing its connection, not by KILL: GRANT ALTER ANY CONNECTION."
    if free is None:
        yield "How much room there is, and how far a restore is, are not seen: GRANT VIEW SERVER STATE."


def _see_the_same(opened: Session, called: str, folder: Path) -> None:
    """Lay down a file that nobody else would, and let the server open it: a folder of another place has none.

    It is no backup, and the server saying just that (3241) is the proof; RESTORE HEADERONLY takes no right beyond those
    that a restore takes.
    """
    name = f"farshore-proof-{uuid4()}.bak"
    with _laid_down(folder, name):
        try:
            opened.ask("RESTORE HEADERONLY FROM DISK = %s", device_of(called, name))
        except Refusal as refusal:
            if refusal.code in OPENED:
                return
            if refusal.code != "ShareUnreachable":
                raise
            raise Refusal(
                "ShareNotSame",
                f"The server does not find under {called} what this worker put into {folder}. {refusal.sentence}",
                "Name one folder under both of its names, and let the server's service account read it.",
                "share_called",
            ) from refusal


@contextmanager
def _laid_down(folder: Path, name: str) -> Iterator[None]:
    try:
        (folder / name).write_bytes(PROOF)
    except OSError as error:
        raise Refusal(
            "ShareNotHere",
            f"This worker cannot write into {folder}: {error.strerror}.",
            "Mount the share there, writable for Farshore.",
            "share_folder",
        ) from error
    try:
        yield
    finally:
        (folder / name).unlink(missing_ok=True)


def _bytes_free(opened: Session, data_path: str) -> int | None:
    """The room on the volume of the server's own default folder, the longest mount point that leads there."""
    try:
        volumes = {row["mount"] or "": row["free"] for row in opened.ask(VOLUMES)}
    except Refusal as refusal:
        if refusal.code != "MayNotSeeState":
            raise
        return None
    leading = [mount for mount in volumes if data_path.casefold().startswith(mount.casefold())]
    return int(volumes[max(leading, key=len)]) if leading else None


def device_of(called: str, name: str) -> str:
    """What the server calls a file of the share; `name` has a / in front of a file that lies in a folder there."""
    sign = "\\" if "\\" in called else "/"
    return called.rstrip(sign) + sign + name.replace("/", sign)


# ---- restoring


def restore_database(connection: Connection, request: LandedRequest) -> LandedDatabase:
    """Restore a new database; raises Refusal with the reason in words, or Stopped, and then nothing of it is left."""
    telling = Telling(request)
    found = restore(
        connection,
        Request(
            request.name,
            tuple(_source(request, one) for one in request.sets),
            tuple(_source(request, one) for one in request.logs),
            request.until,
            marker=request.marker,
        ),
        progress=telling.percent,
        stop=request.stop,
        begins=telling.begins,
    )
    telling.ends()
    with session(connection) as opened:
        identity = identity_of(opened, request.name)
    return LandedDatabase(identity, found.restored_until, telling.seconds)


def _source(request: LandedRequest, found: LandedSet) -> Source:
    devices, data = ([device_of(request.share_called, name) for name in names] for names in (found.files, found.data))
    return Source(found.facts, tuple(devices), tuple(data))


@dataclass
class Telling:
    """How far a restore is, in bytes over all sets of a kind, and how long each kind took."""

    request: LandedRequest
    seconds: dict[str, float] = field(default_factory=dict)
    stage: str = ""
    began: float = 0.0
    before: int = 0
    size: int = 0

    def begins(self, source: Source | None) -> None:
        stage = str(source.facts.kind) if source else RECOVER
        if stage != self.stage:
            self.ends()
            self.stage, self.began, self.before, self.size = stage, time.monotonic(), 0, 0
        self.before += self.size
        self.size = source.facts.size_bytes if source else 0
        self.percent(stage, 0)

    def ends(self) -> None:
        if self.stage:
            self.seconds[self.stage] = round(time.monotonic() - self.began, 3)

    def percent(self, stage: str, percent: float) -> None:
        if self.request.progress:
            self.request.progress(self.stage, self.before + int(self.size * percent / 100), self._total)

    @property
    def _total(self) -> int | None:
        of_kind = [one for one in (*self.request.sets, *self.request.logs) if str(one.facts.kind) == self.stage]
        return sum(one.facts.size_bytes for one in of_kind) or None
