"""Taking a backup TO URL (2022 and later): the server writes straight into an S3 bucket, with a credential of ours.

The keys are journaled by the caller before the server begins, and are no other attempt's. A server that fails or dies
leaves an upload open and no object; whether an object under an attempt's key is a whole backup it says itself, or msdb.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial

from backups.engines.facts import (
    Attempt,
    Bucket,
    Connection,
    DatabaseOrder,
    FullNeeded,
    Inspection,
    Kind,
    SetFacts,
    SharedBackup,
)
from backups.engines.sqlserver import history
from backups.engines.sqlserver.connecting import Session, quoted_name, quoted_text, session
from backups.engines.sqlserver.reader import inspect
from backups.engines.sqlserver.server import Look, look, why_not
from backups.engines.sqlserver.taking import (
    MOST_STRIPES,
    SEEN_ONLY_BY_MSDB,
    Plan,
    agreed,
    has_ended,
    let_write,
    name_of_set,
    notes_on,
    program_of,
    sessions,
    standing_of,
)
from backups.engines.sqlserver.watching import Progress, Stop
from regions.refusals import Refusal

OLDEST_MAJOR = 16  # 2022
PART_BYTES, MOST_PARTS = 20 << 20, 10_000  # what a server sends at most, and what a store takes
FILE_BYTES = PART_BYTES * MOST_PARTS * 4 // 5  # of data, in one file: the log of meanwhile comes on top
LONGEST_URL = 259
IDENTITY = "S3 Access Key"
END_SECONDS = 30.0
HELD_UP = timedelta(hours=1)  # that the store shows what the server ended; a log that is really lost is a gap then
NOTHING = "NoSuchObject"
CREDENTIAL = "SELECT name FROM sys.credentials WHERE name = %s"
Place = Callable[[int], tuple[str, ...]]


def write_database(
    connection: Connection,
    order: DatabaseOrder,
    bucket: Bucket,
    *,
    place: Place,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> SharedBackup:
    """Let the server write one backup of a database into the bucket.

    `place(count)` journals and returns the keys of so many files, right before the server begins. Raises Refusal,
    Stopped, StorageError, or FullNeeded where there is nothing that a differential could stand on; what the server left
    behind then, or had ended all the same, `find_written` says.
    """
    with session(connection) as watching:
        found = look(watching)
        _require_writing(found)
        database = standing_of(watching, found, order)
        keep_credential(watching, bucket)
        plan = _planned(order, place(_stripes(order, database.data_bytes)), bucket)
        _require_addresses(bucket, plan.files)
        with _a_full_where_none_is(order), session(connection, plan.program) as taking:
            let_write(taking, watching, plan, bucket, progress=progress, stop=stop)
        facts = _agreed(history.ended(watching, plan.name, order.database), plan.files, bucket)
    return SharedBackup(facts, plan.files, tuple(notes_on(database, found)))


def find_written(
    reach: Callable[[], Connection],
    order: DatabaseOrder,
    keys: tuple[str, ...],
    bucket: Bucket,
    *,
    end_uploads: Callable[[], None],
) -> SharedBackup | None:
    """Return the backup that an earlier attempt, the order's, left whole under its keys; None: it came to nothing, and
    what lies there can be removed.

    The server is asked (`reach`) where the bytes do not say it all; what it still does for that attempt is ended first,
    for nobody waits for it. Raises Refusal, or StorageError, where nothing is certain: then nothing may be removed.
    """
    if facts := _whole(keys, bucket):
        return _left(facts, order, keys)
    with session(reach()) as watching:
        found = look(watching)
        _require_writing(found)
        _end(watching, order.attempt)
        end_uploads()  # a completion that is still on its way finds none: what is there now is all there will be
        if facts := _whole(keys, bucket):
            return _left(facts, order, keys)
        remembered = history.set_named(watching, name_of_set(order.kind, str(order.attempt)), order.database)
    return _by_history(remembered, order, keys, bucket)


def _by_history(
    remembered: history.HistorySet | None, order: DatabaseOrder, keys: tuple[str, ...], bucket: Bucket
) -> SharedBackup | None:
    """Conclude from msdb what the bytes do not say. A log that may have been ended is not given up so easily."""
    refused, is_log = _refused(keys, bucket), order.kind is Kind.LOG
    if remembered and NOTHING not in refused:
        return _left(_agreed(remembered, keys, bucket), order, keys)
    if remembered and is_log and datetime.now(UTC) - order.attempt.began_at < HELD_UP:
        raise _not_written(bucket, f"msdb names the log {keys[0]}, and it is not there")
    if is_log and refused.intersection(SEEN_ONLY_BY_MSDB):
        raise _not_written(bucket, f"{keys[0]} cannot be read here, and msdb does not name it")
    return None


def _left(facts: SetFacts, order: DatabaseOrder, keys: tuple[str, ...]) -> SharedBackup:
    if facts.database.casefold() != order.database.casefold():
        raise Refusal("OtherDatabase", f"{keys[0]} holds a backup of {facts.database}.", "See who wrote it.")
    return SharedBackup(facts, keys, left_by=order.attempt)


# ---- before anything is begun


def _require_writing(found: Look) -> None:
    why_not(found)
    if found.major < OLDEST_MAJOR or found.is_express:
        raise Refusal(
            "NoBackupToUrl",
            f"The server is {found.edition} {found.version}, which does not back up to S3.",
            "Name a share that it writes to: SQL Server 2022 or later writes to S3, and no Express does.",
            "share_called",
        )
    if not found.sees_requests:
        raise Refusal(
            "MayNotSeeState",
            f"{found.account} does not see whether the server still works for an attempt that was given up.",
            "GRANT VIEW SERVER PERFORMANCE STATE; the script does that.",
            "username",
        )


def _stripes(order: DatabaseOrder, data_bytes: int | None) -> int:
    """How many files hold a database of this size; a log is one, for nobody knows its size before."""
    if order.kind is Kind.LOG or not data_bytes:
        return 1
    return min(MOST_STRIPES, math.ceil(data_bytes / FILE_BYTES))


def _planned(order: DatabaseOrder, keys: tuple[str, ...], bucket: Bucket) -> Plan:
    whose = str(order.attempt)
    options = (f"MAXTRANSFERSIZE = {PART_BYTES}",) if order.compress else ()  # taken with COMPRESSION only
    if bucket.region not in ("", "us-east-1"):
        said = json.dumps({"s3": {"region": bucket.region}})
        options += (f"BACKUP_OPTIONS = {quoted_text(said).removeprefix('N').replace('%', '%%')}",)
    name = name_of_set(order.kind, whose)
    return Plan(order, name, program_of(whose), keys, order.compress, medium="URL", options=options)


def _require_addresses(bucket: Bucket, keys: tuple[str, ...]) -> None:
    longest = max(map(len, map(bucket.device, keys)))
    if longest > LONGEST_URL:
        raise Refusal(
            "AddressTooLong",
            f"The address of a backup in {bucket.address} has {longest} characters; the server takes {LONGEST_URL}.",
            "Attach the bucket under a shorter prefix, or name a share.",
        )


def keep_credential(watching: Session, bucket: Bucket) -> None:
    """Give the server the key that opens the bucket, under the bucket's own address; raises Refusal.

    It cannot be asked whether it has this very key already, so it is told each time. What it says is not quoted: the
    statement holds the secret, and a message may hold a piece of the statement.
    """
    is_there = bool(watching.ask(CREDENTIAL, bucket.address))
    for verb in ("ALTER",) if is_there else ("CREATE", "ALTER"):  # somebody else may have created it just now
        secret = quoted_text(f"{bucket.key_id}:{bucket.secret}")
        statement = f"{verb} CREDENTIAL {quoted_name(bucket.address)} WITH IDENTITY = '{IDENTITY}', SECRET = {secret}"
        said = watching.hear(statement)
        numbers = [message.number for message in said if message.is_error]
        if not numbers:
            return
    raise Refusal(
        "CredentialRefused",
        f"The server did not take the store's key as a credential ({numbers[0]}).",
        "GRANT ALTER ANY CREDENTIAL; the script does that. See the server's log for another reason.",
        "username",
    )


@contextmanager
def _a_full_where_none_is(order: DatabaseOrder) -> Iterator[None]:
    """Where a differential finds no full on the server, say that one is needed."""
    try:
        yield
    except Refusal as refusal:
        if order.kind is Kind.DIFFERENTIAL and refusal.code == "FullMissing":
            raise FullNeeded(refusal.code, refusal.sentence, refusal.remedy) from refusal
        raise


# ---- what an attempt came to


def _end(watching: Session, attempt: Attempt) -> None:
    """End what the server still does for an attempt; raises Refusal unless it is certain that nothing goes on."""
    program = program_of(str(attempt))
    for number in [number for number, name in sessions(watching).items() if name == program]:
        with suppress(Refusal):  # it may have ended by itself, or KILL not be allowed: then it is waited for
            watching.run(f"KILL {int(number)}")
    if not has_ended(watching, program, END_SECONDS):
        raise Refusal(
            "StillRunning",
            "The server still runs the backup of an earlier attempt, for which nobody waits any more.",
            "It is looked for again once it has ended; GRANT ALTER ANY CONNECTION lets Farshore end it.",
        )


def _whole(keys: tuple[str, ...], bucket: Bucket) -> SetFacts | None:
    """Return what the files say when each of them is there, whole, and a stripe of one set; None otherwise."""
    first: SetFacts | None = None
    for sequence, key in enumerate(keys, 1):
        inspection = _inspected(bucket, key)
        if inspection.refusal:
            return None
        read = inspection.sets[0]
        first = first or read
        if (read.set_guid, read.family_sequence, read.family_count) != (first.set_guid, sequence, len(keys)):
            return None
    return first


def _refused(keys: tuple[str, ...], bucket: Bucket) -> set[str]:
    """Return the codes of why they cannot be read."""
    inspections = [_inspected(bucket, key) for key in keys]
    return {inspection.refusal.code for inspection in inspections if inspection.refusal}


def _agreed(remembered: history.HistorySet, keys: tuple[str, ...], bucket: Bucket) -> SetFacts:
    return agreed(remembered, keys, partial(_inspected, bucket), partial(_not_written, bucket))


def _inspected(bucket: Bucket, key: str) -> Inspection:
    """Read an object by its own header; refused too where there is none."""
    there = bucket.look(key)
    return inspect(*there) if there else Inspection(refusal=Refusal(NOTHING, f"There is no object {key}.", ""))


def _not_written(bucket: Bucket, why: str, kind: type[Refusal] = Refusal) -> Refusal:
    return kind(
        "NotWritten",
        f"What lies in {bucket.address} is not what the server wrote there: {why}.",
        "See that the server and this region's store mean the same bucket.",
    )
