"""Where everything we write lies: built from our own ids only, never from a name somebody chose (design.md §3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from backups.engines import engine_of
from backups.engines.facts import Attempt, LogPiece
from backups.models import BackupFile, BackupJob, Copy, Instance, LogStream, Recovery
from regions.models import Installation

ROOT = "farshore/"


SNAPSHOT = "snapshot"
SNAPSHOT_KEY = re.compile(
    rf"(?P<stem>{ROOT}v1/[^/]+/[^/]+/{SNAPSHOT}/\d+/\d+)\.\d{{1,5}}of(?P<files>\d{{1,5}})", re.ASCII
)
STATE, SEALS, SELF = "state", "seals", "self"
WRITTEN = "written"
WRITTEN_KEY = re.compile(
    rf"(?P<stem>{ROOT}v1/[^/]+/(?P<code>[^/]+)/{WRITTEN}/(?P<job>\d+)/(?P<attempt>\d+-\d{{8}}T\d{{6}}Z))"
    r"\.\d{1,2}of(?P<stripes>\d{1,2})(?P<ending>\.[a-z]+)",
    re.ASCII,
)


def base() -> str:
    """Return the prefix under which all of this installation lies, in every store."""
    return f"{ROOT}v1/{Installation.current().uuid}"


def object_key(copy: Copy, file: BackupFile) -> str:
    """Return the key of this attempt's object: the fence makes it one no other attempt ever uses."""
    return f"{_attempt(copy)}/{file.pk}"


def manifest_key(copy: Copy) -> str:
    return f"{_attempt(copy)}/manifest.json"


def _attempt(copy: Copy) -> str:
    return f"{base()}/{copy.set.instance.code}/{copy.set_id}/{copy.pk}/{copy.fence}"


def default_backup_key(job: BackupJob) -> str:
    ending = engine_of(job.instance.engine).capabilities.endings_by_kind.get(job.kind, ".tar")
    return f"{base()}/{job.instance.code}/default/{job.pk}/{job.fence}{ending}"


def written_keys(job: BackupJob, stripes: int) -> tuple[str, ...]:
    """Return where a server itself writes an attempt at a job, file by file.

    The first of them is what is journaled: it tells the others, the attempt, and what kind it is of.
    """
    ending = engine_of(job.instance.engine).capabilities.endings_by_kind[job.kind]
    attempt = f"{job.fence}-{job.started_at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    place = f"{base()}/{job.instance.code}/{WRITTEN}/{job.pk}/{attempt}"
    return tuple(f"{place}.{number}of{stripes}{ending}" for number in range(1, stripes + 1))


def snapshot_keys(job: BackupJob, files: int) -> tuple[str, ...]:
    """Return where an attempt at a snapshot backup is stored: its metadata, then the database's files, so many in all.

    The first of them is what is journaled: it tells the others.
    """
    return _numbered(f"{base()}/{job.instance.code}/{SNAPSHOT}/{job.pk}/{job.fence}", files)


def _numbered(stem: str, files: int) -> tuple[str, ...]:
    return tuple(f"{stem}.{number}of{files}" for number in range(1, files + 1))


def keys_of_attempt(key: str) -> tuple[str, ...]:
    """Return all keys of the attempt that was journaled by this one."""
    found = SNAPSHOT_KEY.fullmatch(key)
    return _numbered(found["stem"], int(found["files"])) if found else (key,)


@dataclass(frozen=True)
class Written:
    """What the journaled key of an attempt says that a server itself wrote, or was to write."""

    keys: tuple[str, ...]
    attempt: Attempt
    ending: str

    @classmethod
    def of(cls, key: str) -> Written | None:
        """Read what `written_keys` wrote; None for a key of another making."""
        found = WRITTEN_KEY.fullmatch(key)
        attempt = Attempt.from_name("-".join(found.group("code", "job", "attempt"))) if found else None
        if not found or not attempt:
            return None
        stem, stripes, ending = found.group("stem", "stripes", "ending")
        keys = tuple(f"{stem}.{number}of{stripes}{ending}" for number in range(1, int(stripes) + 1))
        return cls(keys, attempt, ending)


def journaled(key: str) -> str:
    """Return the key under which the attempt that an object is of was journaled."""
    written = Written.of(key)
    return written.keys[0] if written else keys_of_attempt(key)[0]


def heads() -> str:
    """Return the prefix of the heads of the event log that are kept at a destination.

    A log that goes on after a recovery keeps its heads in a folder of its own: those before it are evidence, and it may
    not have all that they vouch for.
    """
    newest = Recovery.objects.order_by("-recovered_at").values_list("recovered_at", flat=True).first()
    return f"{base()}/{SEALS}/{newest:%Y%m%dT%H%M%S}/" if newest else f"{base()}/{SEALS}/"


def log_key(stream: LogStream, piece: LogPiece) -> str:
    """Return where a received piece of log is stored; the fence makes it a key no other delivery of it ever uses."""
    ending = "".join(piece.path.suffixes)
    return f"{base()}/{stream.instance.code}/logs/{piece.facts.set_guid}/{stream.fence}{ending}"


def head_key(sequence: int) -> str:
    """Return where the head of the sealed event log is kept at a destination."""
    return f"{heads()}{sequence:020d}.json"


def state_key(instance: Instance, sequence: int) -> str:
    """Return where one version lies of what may change after the manifests of an instance."""
    return f"{base()}/{instance.code}/{STATE}/{sequence:012d}.json"


def self_backup_key(began_at: datetime) -> str:
    """Return where a dump of our own database lies; its manifest lies beside it."""
    return f"{base()}/{SELF}/{began_at:%Y%m%dT%H%M%S.%fZ}.dump.enc"
