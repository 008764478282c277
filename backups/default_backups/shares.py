"""The folder that an instance's server and a worker of its region share: what may be one, and that it is really there.

What the server writes there is carried into the region's store like any other backup; see docs/decisions/0074.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from django.conf import settings

from backups.default_backups import incrementals
from backups.engines import engine_of
from backups.engines.facts import (
    Attempt,
    Connection,
    DatabaseOrder,
    FullNeeded,
    Kind,
    Share,
    SharedBackup,
    TakenSet,
)
from backups.models import BackupJob, BackupSet, Instance
from regions import clock
from regions.models import Store
from regions.refusals import Refusal

CALLED = re.compile(r"(\\\\[^\\/]+\\[^/]+|[A-Za-z]:\\[^/]*|/[^\\]*)")
Consume = Callable[[BinaryIO], None]
Progress = Callable[[float], None]


def is_needed(instance: Instance) -> bool:
    """Whether the server of such an instance writes its backups itself: to a share, or where it can to its store."""
    return engine_of(instance.engine).capabilities.writes_to_a_share


def is_known(instance: Instance) -> bool:
    return bool(instance.host and instance.share_called and instance.share_folder)


def share_of(instance: Instance) -> Share:
    return Share(instance.share_called, Path(instance.share_folder))


# ---- what may be one


def check(instance: Instance) -> None:
    """Raise Refusal, beside its field, unless this worker sees the share's folder and may write and delete there.

    The server is asked to write nothing: whether it sees the same folder, the first backup shows.
    """
    if not instance.share_called and not instance.share_folder:
        return
    if not CALLED.fullmatch(instance.share_called) or _climbs(instance.share_called):
        raise Refusal(
            "BadShare",
            "This is no folder as a server calls one.",
            "Enter \\\\host\\share or an absolute path, as the server itself sees it.",
            "share_called",
        )
    _check_folder(instance.share_folder)
    _prove(Path(instance.share_folder))


def _climbs(path: str) -> bool:
    return ".." in re.split(r"[\\/]", path) or any(ord(character) < 32 for character in path)


def _check_folder(said: str) -> None:
    folder = Path(said)
    if not said or not folder.is_absolute() or _climbs(said):
        raise _refused("The share's folder is the absolute path under which this worker sees it.", "Enter its path.")
    if not folder.is_dir():
        raise _refused(f"{folder} is no folder here.", "Mount the share on the machine of this region's worker.")
    real = Path(os.path.realpath(folder))
    if real != Path(os.path.normpath(folder)):
        raise _refused(f"{folder} leads elsewhere, through a link.", f"Enter the folder itself: {real}.")
    if real.is_relative_to(Path(settings.FARSHORE_DATA).resolve() / "demo"):
        return  # the demonstration's own server lives there
    for place, what in _taken_places():
        if real.is_relative_to(place) or place.is_relative_to(real):
            raise _refused(f"{folder} and {what} lie one within the other.", "Use a folder that serves nothing else.")


def _taken_places() -> list[tuple[Path, str]]:
    places = [(Path(settings.FARSHORE_DATA).resolve(), "Farshore's own data")]
    for store in Store.objects.attached().filter(url__startswith="file:").select_related("region"):
        places.append((Path(unquote(urlsplit(store.url).path)).resolve(), f"the store of {store.region.name}"))
    return places


def _prove(folder: Path) -> None:
    """Write a small file and delete it, as backups will be."""
    proof = folder / f".farshore-{uuid4().hex}"
    try:
        with open(proof, "xb") as file:
            file.write(b"Farshore was here.\n")
        proof.unlink()
    except OSError as error:
        why = f"{folder} does not take a file from this worker: {error.strerror}."
        raise _refused(why, "Let the account that Farshore's workers run as write and delete there.") from error


def _refused(sentence: str, remedy: str) -> Refusal:
    return Refusal("BadShareFolder", sentence, remedy, "share_folder")


# ---- that it is there


def mark(instance: Instance) -> None:
    """Leave this instance's mark in its share, which tells it from the folder that it is mounted over; may refuse."""
    if not instance.share_folder or is_marked(instance):
        return
    try:
        with open(_mark_of(instance), "x") as file:  # whatever is there under this name is not written to
            file.write("Here Farshore fetches backups of a database server. Leave this file.\n")
    except OSError as error:
        why = f"{instance.share_folder} does not take this instance's mark: {error.strerror}."
        raise _refused(why, "Mount it, and see what lies there.") from error


def is_marked(instance: Instance) -> bool:
    marked = _mark_of(instance)
    return marked.is_file() and not marked.is_symlink()


def require_mounted(instance: Instance) -> None:
    """Raise Refusal unless the share is there: a server that ends its log into a folder nobody sees helps no one.

    A share that was never used gets its mark now.
    """
    folder = Path(instance.share_folder)
    if is_marked(instance):
        return
    if not folder.is_dir() or instance.sets.filter(origin="taken").exists():
        raise Refusal(
            "ShareNotMounted",
            f"The share of {instance.name} is not at {folder}: its mark is missing there.",
            f"Mount it. If this is the right folder after all, put an empty file {_mark_of(instance).name} into it.",
            "share_folder",
        )
    mark(instance)


def _mark_of(instance: Instance) -> Path:
    return Path(instance.share_folder) / f".farshore-{instance.code}"


# ---- fetching from it


def taking(job: BackupJob, where: Connection, progress: Progress) -> Callable[..., TakenSet]:
    """Return how a job of one database is taken and carried on: `(consume, stop=)`."""
    require_mounted(job.instance)
    return partial(_take, job, where, progress)


def order_of(job: BackupJob) -> DatabaseOrder:
    return DatabaseOrder(
        database=job.database,
        kind=Kind(job.kind),
        copy_only=job.is_copy_only,
        of_secondary=job.on == BackupJob.On.SECONDARY,
        attempt=Attempt(job.instance.code, job.pk, job.fence, job.started_at),
    )


def _take(
    job: BackupJob, where: Connection, progress: Progress, consume: Consume, *, stop: Callable[[], bool]
) -> TakenSet:
    share = share_of(job.instance)
    known = BackupSet.objects.filter(instance=job.instance)
    written = engine_of(job.instance.engine).take_database(
        where,
        order_of(job),
        share,
        is_known=lambda guid: bool(guid) and known.filter(set_guid=guid).exists(),
        progress=progress,
        stop=stop,
    )
    times = times_of(job, written, clock.now())
    _require_base(job, share, written)
    _stream(share, written, consume)
    return TakenSet(written.facts, written.notes, times=times, shared=written)


def times_of(job: BackupJob, written: SharedBackup, at: datetime) -> tuple[datetime, datetime]:
    """When it began and ended. By our own clock, as far as we were there: what an earlier attempt took is no newer
    than its server says, and no older than that attempt."""
    if written.left_by is None:
        return job.started_at, at
    began = min(written.left_by.began_at, at)
    return began, max(began, min(written.facts.finished_at, at))


def _require_base(job: BackupJob, share: Share, written: SharedBackup) -> None:
    """A differential on a full that somebody else took and that is not here cannot be restored: it is not kept."""
    facts = written.facts
    if facts.kind == Kind.DIFFERENTIAL and not incrementals.has_base(job.instance, facts.base_guid):
        remove(job.instance, written)
        raise FullNeeded("BaseElsewhere", "The full that the server has as its base is not among these backups.")


def _stream(share: Share, written: SharedBackup, consume: Consume) -> None:
    """Give its bytes; raises Refusal when they change meanwhile, or are not there any more."""
    with reading(share, written) as file:
        consume(file)


@contextmanager
def reading(share: Share, written: SharedBackup) -> Iterator[BinaryIO]:
    """Open the one file of a backup; raises as `_stream`."""
    [name] = written.files
    try:
        with share.open(name) as file:
            before = os.fstat(file.fileno())
            yield file
            after = os.fstat(file.fileno())
    except OSError as error:
        raise _moved(name, error.strerror or str(error)) from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise _moved(name, "somebody writes to it")


def _moved(name: str, why: str) -> Refusal:
    return Refusal("ShareFailed", f"{name} could not be fetched from the share: {why}.", "See that it stays mounted.")


def remove(instance: Instance, written: SharedBackup) -> None:
    """Remove what is recorded, or not wanted; what cannot be removed now, the next look at the share removes."""
    for name in written.files:
        remove_file(instance, name)


def remove_file(instance: Instance, name: str) -> None:
    with suppress(OSError):
        (Path(instance.share_folder) / name).unlink(missing_ok=True)


def fits(job: BackupJob, written: SharedBackup) -> bool:
    """Whether what was fetched is what this job was asked for, and not what an earlier job had left."""
    left = written.left_by
    if left is None:
        return True
    is_its_own = left.job == job.pk and left.began_at >= job.asked_at.replace(microsecond=0)
    return is_its_own and (written.facts.kind, written.facts.is_copy_only) == (job.kind, job.is_copy_only)
