"""Where everything we write lies: built from our own ids only, never from a name somebody chose (design.md §3)."""

from __future__ import annotations

from datetime import datetime

from backups.engines import engine_of
from backups.engines.facts import LogPiece
from backups.models import BackupFile, BackupJob, Copy, Instance, LogStream, Recovery
from regions.models import Installation

ROOT = "farshore/"


STATE, SEALS, SELF = "state", "seals", "self"


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
