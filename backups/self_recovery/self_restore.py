"""Our own database comes back from a store, into an empty one: the other way round from `self_backup`."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from backups import events, layout, recoveries, seals
from backups.copying import manifest
from backups.events import FARSHORE, By
from backups.models import Event, Recovery, SelfBackup
from backups.self_recovery import own_tools, self_backup
from backups.self_recovery.rebuilding.adopting import is_empty
from backups.self_recovery.rebuilding.numbers import attempt_anew, number_on
from backups.self_recovery.rebuilding.report import WRONG
from regions import clock, marker
from regions.models import Store
from regions.refusals import Refusal
from regions.sealed_streams import Opening
from regions.storage import ObjectInfo, Storage, StorageError
from regions.storage.mover import Part
from regions.storage.reading import reader, whole

PIECE = 1 << 20


@dataclass(frozen=True)
class Dump:
    """A dump of a database as the manifest beside it describes it."""

    key: str
    began_at: datetime
    size: int
    stored: ObjectInfo
    parts: tuple[Part, ...]
    sealed_events: tuple[int, str]


def newest(storage: Storage) -> Dump:
    """Return the newest dump in a store whose manifest can be read and whose object is there; raises Refusal."""
    found = marker.read(storage)
    if found is None:
        raise Refusal("MarkerMissing", f"{marker.KEY} is not in this store: no Farshore wrote it.", "", "url")
    prefix = f"{layout.ROOT}v1/{found.installation}/{layout.SELF}/"
    listed = {info.key: info for info in storage.list(prefix)}
    told = []
    for key in sorted((key for key in listed if key.endswith(".json")), reverse=True):
        try:
            return _dump(manifest.read(whole(storage, listed[key]), self_backup.FORMAT), prefix, listed)
        except WRONG as error:
            told.append(f"{key}: {error}")
    raise Refusal("DumpMissing", "There is no dump of Farshore's database in this store.", " ".join(told))


def _dump(said: dict[str, Any], prefix: str, listed: dict[str, ObjectInfo]) -> Dump:
    if not re.fullmatch(rf"{re.escape(prefix)}[0-9TZ.]+\.dump\.enc", said["key"]) or said["key"] not in listed:
        raise Refusal("DumpMissing", "Its dump is not there.", "")
    parts, offset = [], 0
    for number, size, sha256 in said["parts"]:
        parts.append(Part(number=number, offset=offset, size=size, sha256=sha256))
        offset += size
    if offset != said["size"] or listed[said["key"]].size != offset:
        raise Refusal("DumpMissing", "Its dump has another size.", "")
    head = said["sealed_events"]["sequence"], said["sealed_events"]["hash"]
    began_at = datetime.fromisoformat(said["began_at"])
    # By what its bytes hash to, not by its ETag: a store that was moved keeps the one and not the other.
    return Dump(said["key"], began_at, said["size"], listed[said["key"]], tuple(parts), head)


# ---- the way back


def require_empty() -> None:
    """Raise Refusal unless there is nothing in our database that a restored one would replace."""
    with connection.cursor() as cursor:
        tables = set(connection.introspection.table_names(cursor))
    if not tables:
        return
    if "backups_event" not in tables:
        raise Refusal("DatabaseNotEmpty", "The database holds tables that are not Farshore's.", "Name another one.")
    if not is_empty() or SelfBackup.objects.exists() or Event.objects.exclude(kind__startswith="keys.").exists():
        raise Refusal(
            "DatabaseNotEmpty",
            "This Farshore has a history of its own; nothing of it was touched.",
            "Begin with an empty one: another FARSHORE_DATA, or another DATABASE_URL.",
        )


def restore(storage: Storage, dump: Dump) -> None:
    """Put the dump in place of our empty database, all or nothing; raises Refusal.

    Every part is held against its recorded hash, every frame against its seal; a stream that breaks off is undone.
    """
    require_empty()
    with Opening(reader(storage, dump.stored, dump.parts), dump.key) as opened:
        first = opened.read(PIECE)  # the keys fit, and it begins well, before anything is dropped
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '60s'")
            cursor.execute("DROP SCHEMA public CASCADE")
            cursor.execute("CREATE SCHEMA public")
        connection.close()
        _load(first, opened)


def _load(piece: bytes, opened: Opening) -> None:
    with tempfile.TemporaryFile() as words:
        restoring = own_tools.start(
            "pg_restore",
            "--single-transaction",
            "--exit-on-error",
            "--no-owner",
            "--no-privileges",
            f"--dbname={connection.settings_dict['NAME']}",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=words,
        )
        try:
            while piece:
                restoring.stdin.write(piece)
                piece = opened.read(PIECE)
            restoring.stdin.close()
        except BrokenPipeError:  # it has ended; its own words say why
            pass
        except BaseException:
            restoring.kill()  # before it sees an end that is none: nothing of it is committed
            raise
        finally:
            restoring.wait()
        if restoring.returncode:
            words.seek(0)
            said = words.read()[-1000:].decode(errors="replace").strip()
            raise Refusal(
                "RestoreFailed",
                f"pg_restore failed: {said}",
                "The database is empty now: run `manage.py migrate`, correct this, and try again.",
            )


def settle(dump: Dump, by: By = FARSHORE) -> list[str]:
    """After the restored database has been migrated: nothing expires, nothing is numbered twice; return what is wrong
    with its event log."""
    wrong = list(seals.breaches(dump.sealed_events))
    attempt_anew()
    number_on()
    for store in Store.objects.attached().select_related("region"):
        recoveries.begin(store, Recovery.Kind.DUMP, by, lost=_lost_head(store))
    known = SelfBackup.objects.filter(key=dump.key)
    known.update(state=SelfBackup.State.KEPT, size=dump.size, finished_at=dump.began_at)
    events.record(
        "recovery.restored",
        f"Farshore's own database was restored from the dump of {dump.began_at:%Y-%m-%d %H:%M:%S} UTC.",
        by=by,
        dump=dump.key,
        restored_at=clock.now().isoformat(),
    )
    return wrong


def _lost_head(store: Store) -> tuple[int, str] | None:
    """Return the newest head a store has kept: it may know of events that the dump does not."""
    try:
        return seals.kept_head(store.open())
    except (StorageError, Refusal, json.JSONDecodeError, KeyError):
        return None
