"""RESTORE of the simulation: what it is given is read by its own headers, and order and LSNs are checked.

    RESTORE {HEADERONLY | FILELISTONLY | VERIFYONLY} FROM DISK = path [, DISK = …] [WITH FILE = n, CHECKSUM]
    RESTORE {DATABASE | LOG} name [FROM DISK = path [, DISK = …]] [WITH option [, option]…]

Options: FILE = n, NORECOVERY, RECOVERY, REPLACE, CHECKSUM, STATS [= n], METADATA_ONLY, MOVE 'name' TO 'path',
STOPAT = 'time'. No data comes back, for there was none: what is restored is a name, a size and a place in the log.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from backups.engines.facts import Kind, Method, SetFacts
from backups.engines.sqlserver import Verifier
from demo.tds import snapshotting, values
from demo.tds.backing_up import Interrupted, Say, read_text
from demo.tds.machine import Database, Request, Session, SimulatedMachine
from demo.tds.selecting import Selected
from demo.tds.tokens import Column, Message
from demo.tds.words import Sentence, Wrong

QUESTIONS = ("HEADERONLY", "FILELISTONLY", "VERIFYONLY")
TYPES = {Kind.FULL: 1, Kind.LOG: 2, Kind.DIFFERENTIAL: 5}
PIECE = 256 << 10
ZONE = 95  # where a set's first block says its time zone
PLACES = ("D:\\data\\", "L:\\log\\")
HEADER = (
    *(Column(name, values.NAME) for name in ("BackupName", "ServerName", "DatabaseName")),
    *(Column(name, values.TINYINT) for name in ("BackupType", "Compressed")),
    *(Column(name, values.SMALLINT) for name in ("Position",)),
    *(Column(name, values.INTEGER) for name in ("SoftwareVersionMajor",)),
    *(Column(name, values.LSN) for name in ("FirstLSN", "LastLSN", "CheckpointLSN", "DatabaseBackupLSN")),
    *(Column(name, values.MOMENT) for name in ("BackupStartDate", "BackupFinishDate")),
    *(
        Column(name, values.IDENTIFIER)
        for name in ("BackupSetGUID", "FamilyGUID", "RecoveryForkID", "DifferentialBaseGUID")
    ),
    *(Column(name, values.BOOLEAN) for name in ("IsCopyOnly", "HasBackupChecksums")),
)
FILE_LIST = (
    Column("LogicalName", values.NAME),
    Column("PhysicalName", values.text_type(260)),
    Column("Type", values.text_type(1)),
    Column("Size", values.BIG_NUMBER),
    Column("FileId", values.BIGINT),
)


@dataclass
class Order:
    """What a RESTORE statement asks for."""

    what: str
    database: str = ""
    devices: list[str] = field(default_factory=list)
    position: int = 1
    flags: set[str] = field(default_factory=set)
    moves: dict[str, str] = field(default_factory=dict)
    stop_at: datetime | None = None


def order_from(sentence: Sentence, parameters: Mapping[str, Any]) -> Order:
    """Read the statement behind the word RESTORE."""
    word = sentence.take().plain
    if word not in (*QUESTIONS, "DATABASE", "LOG"):
        sentence.at -= 1
        raise sentence.wrong()
    order = Order(word)
    if word not in QUESTIONS:
        order.database = sentence.name()
    if sentence.skips("FROM"):
        while not order.devices or sentence.skips(","):
            sentence.must("DISK", "=")
            order.devices.append(read_text(sentence, parameters))
    if sentence.skips("WITH"):
        _read_option(order, sentence, parameters)
        while sentence.skips(","):
            _read_option(order, sentence, parameters)
    return order


def _read_option(order: Order, sentence: Sentence, parameters: Mapping[str, Any]) -> None:
    if sentence.skips("FILE", "="):
        order.position = sentence.number()
    elif sentence.skips("STATS"):
        sentence.number() if sentence.skips("=") else None
    elif sentence.skips("MOVE"):
        name = read_text(sentence, parameters)
        sentence.must("TO")
        order.moves[name] = read_text(sentence, parameters)
    elif sentence.skips("STOPAT", "="):
        order.stop_at = datetime.fromisoformat(read_text(sentence, parameters))
    elif sentence.next.plain in ("NORECOVERY", "RECOVERY", "REPLACE", "CHECKSUM", "METADATA_ONLY"):
        order.flags.add(sentence.take().plain)
    else:
        raise sentence.wrong()


@dataclass
class Restoring:
    """How far a database that is being restored has come; `stopped` where STOPAT has left the rest out."""

    full: SetFacts
    reached: int
    fork: str
    stopped: bool = False


@dataclass
class Run:
    """One RESTORE statement being carried out."""

    machine: SimulatedMachine
    session: Session
    order: Order
    say: Say
    interrupted: Callable[[], bool]
    zones: dict[str, int] = field(default_factory=dict)

    def run(self) -> Selected | None:
        order = self.order
        if order.what not in QUESTIONS:
            self._restore()
            return None
        stripes = self._stripes()
        if order.what == "VERIFYONLY":
            self._verify()
            self.say(Message(3262, f"The backup set on file {order.position} is valid.", 0))
            return None
        return self._headers() if order.what == "HEADERONLY" else _files(self._chosen(stripes[0]))

    # Reading what it is given

    def _stripes(self) -> list[tuple[SetFacts, ...]]:
        return [self._sets(device) for device in self.order.devices]

    def _sets(self, device: str) -> tuple[SetFacts, ...]:
        body = self._path(device).read_bytes()
        inspection = snapshotting.read(body)
        if inspection.refusal:
            said = (
                f"The media family on device '{device}' is incorrectly formed. "
                "SQL Server cannot process this media family."
            )
            raise self._terminated(Message(3241, said))
        for facts in inspection.sets:
            if not facts.compressed:  # else it lies in a chunk: then this machine's own zone is as good as any
                (self.zones[facts.set_guid],) = struct.unpack_from("b", body, facts.offset + ZONE)
        return inspection.sets

    def _path(self, device: str) -> Path:
        path = self.machine.path_of(device)
        if not path or not path.is_file():
            said = f"Cannot open backup device '{device}'. Operating system error 2(The system cannot find the file"
            raise self._terminated(Message(3201, f"{said} specified.)."))
        return path

    def _chosen(self, sets: tuple[SetFacts, ...]) -> SetFacts:
        found = next((facts for facts in sets if facts.position == self.order.position), None)
        if not found:
            said = f"The file ID {self.order.position} on device '{self.order.devices[0]}' is not valid."
            raise self._terminated(Message(3254, said))
        return found

    def _whole(self) -> SetFacts:
        """The set that is asked for, once all its stripes are given."""
        found = [self._chosen(sets) for sets in self._stripes()]
        given = {facts.family_sequence for facts in found}
        if len({facts.set_guid for facts in found}) > 1 or len(given) < found[0].family_count:
            said = (
                f"The media set has {found[0].family_count} media families but only {len(given)} are provided. "
                "All members must be provided."
            )
            raise self._terminated(Message(3132, said))
        return min(found, key=lambda facts: facts.family_sequence)

    def _verify(self) -> None:
        for device in self.order.devices:
            verifier = Verifier()
            verifier.feed(memoryview(self._path(device).read_bytes()))
            if verifier.verdict().level == "damaged":
                raise self._terminated(Message(3189, "Damage to the backup set was detected."))

    def _headers(self) -> Selected:
        sets = self._sets(self.order.devices[0])
        return Selected(list(HEADER), [self._header(facts) for facts in sets])

    def _header(self, facts: SetFacts) -> list[Any]:
        zone = self._zone(facts)
        return [
            *(None, facts.server, facts.database, TYPES[facts.kind], int(facts.compressed), facts.position),
            int(facts.software_version.partition(".")[0]),
            *(facts.first_position, facts.last_position, facts.checkpoint_position or 0, facts.base_position or 0),
            *((at + zone).replace(tzinfo=None) for at in (facts.started_at, facts.finished_at)),
            *(facts.set_guid, facts.family_guid, facts.fork, facts.base_guid or None),
            *(facts.is_copy_only, facts.has_checksums),
        ]

    def _zone(self, facts: SetFacts) -> timedelta:
        """A header is printed in the time of the server that wrote it, and STOPAT means that time."""
        return timedelta(minutes=15 * self.zones.get(facts.set_guid, self.machine.time_zone))

    # Restoring

    def _restore(self) -> None:
        order, account = self.order, self.session.account
        if not (account.creates or account.is_sysadmin):
            raise self._terminated(Message(262, "CREATE DATABASE permission denied in database 'master'.", 14))
        database = self.machine.database(order.database)
        if not order.devices:
            self._recover(self._restoring(database))
            return
        facts = self._whole()
        if "CHECKSUM" in order.flags:
            self._verify()
        ours, theirs = self.machine.version[0], int(facts.software_version.partition(".")[0])
        if theirs > ours:
            said = (
                f"The database was backed up on a server running version {facts.software_version}. That version is "
                f"incompatible with this server, which is running version {self.machine.product_version}."
            )
            raise self._terminated(Message(3169, said))
        if facts.kind is Kind.FULL:
            database = self._begin(database, facts)
        else:
            self._go_on(self._restoring(database), facts)
        self._take_time(database, facts)
        if "NORECOVERY" not in order.flags:
            self._recover(database)
        self.say(Message(3014, f"{self._statement} successfully processed {facts.size_bytes // 8192} pages.", 0))

    def _begin(self, database: Database | None, facts: SetFacts) -> Database:
        order = self.order
        if database and database.state != "RESTORING" and "REPLACE" not in self.order.flags:
            own = str(database.family_guid) == facts.family_guid
            said = (
                "The tail of the log for the database has not been backed up."
                if own
                else (
                    f"The backup set holds a backup of a database other than the existing '{database.name}' database."
                )
            )
            raise self._terminated(Message(3159 if own else 3154, said, state=4))
        if (facts.method is Method.SNAPSHOT) != ("METADATA_ONLY" in self.order.flags):
            said = "METADATA_ONLY goes with the metadata of a snapshot, and with nothing else. (simulation)"
            raise self._terminated(Message(50000, said))
        if facts.method is Method.SNAPSHOT and (why := snapshotting.why_not_attach(self.machine, facts, order.moves)):
            raise self._terminated(why)
        for file in facts.database_files:
            path = self.order.moves.get(file.logical_name, file.physical_path)
            if not path.startswith(PLACES) and not self.machine.path_of(path):
                said = f'Directory lookup for the file "{path}" failed with the operating system error 3.'
                raise self._terminated(Message(5133, said))
        if facts.size_bytes > self.machine.free_bytes:
            said = f"There is insufficient free space on disk volume '{PLACES[0]}' to create the database."
            raise self._terminated(Message(3257, said))
        database = database or self.machine.add(self.order.database, created=datetime.now())
        database.state, database.family_guid = "RESTORING", UUID(facts.family_guid)
        database.pages, database.logged, database.base = facts.size_bytes // 8192, None, None
        database.restoring = Restoring(facts, facts.last_position, facts.fork)
        database.files = dict(self.order.moves)
        return database

    def _restoring(self, database: Database | None) -> Database:
        if not database:
            said = (
                f'The database "{self.order.database}" does not exist. RESTORE can only create a database when '
                "restoring either a full backup or a file backup of the primary file."
            )
            raise self._terminated(Message(3118, said))
        if not database.restoring:
            said = "The log or differential backup cannot be restored because no files are ready to rollforward."
            raise self._terminated(Message(3117, said))
        return database

    def _go_on(self, database: Database, facts: SetFacts) -> None:
        known = database.restoring
        if facts.family_guid != known.full.family_guid or facts.fork != known.fork:
            said = "This backup set cannot be applied because it is on a recovery path that is inconsistent."
            raise self._terminated(Message(4330, said))
        if facts.kind is Kind.DIFFERENTIAL:
            if facts.base_guid != known.full.set_guid:
                said = (
                    "This differential backup cannot be restored because the database has not been restored to the "
                    "correct earlier state."
                )
                raise self._terminated(Message(3136, said))
        elif facts.first_position > known.reached:
            said = f"The log in this backup set begins at LSN {facts.first_position}, which is too recent to apply."
            raise self._terminated(Message(4305, said))
        elif facts.last_position < known.reached:
            said = f"The log in this backup set terminates at LSN {facts.last_position}, which is too early to apply."
            raise self._terminated(Message(4326, said))
        self._stop_at(database, facts)

    def _stop_at(self, database: Database, facts: SetFacts) -> None:
        """The log up to the moment; what lies behind it is left out, as is every later log."""
        known, moment = database.restoring, self.order.stop_at
        if known.stopped:
            return
        if moment and moment < (facts.started_at - timedelta(days=1)).replace(tzinfo=None):
            said = "The specified STOPAT time is too early. All or part of the database is already rolled forward."
            raise self._terminated(Message(4335, said))
        ended = (facts.finished_at + self._zone(facts)).replace(tzinfo=None)
        known.stopped = bool(moment and moment <= ended)
        known.reached = max(known.reached, facts.last_position)
        database.stopped_at = moment if known.stopped else None

    def _take_time(self, database: Database, facts: SetFacts) -> None:
        request = Request(self._statement, database)
        self.session.request, began, done = request, time.monotonic(), 0
        try:
            while done < facts.size_bytes:
                done += PIECE
                request.percent = min(100.0, 100 * done / facts.size_bytes)
                until = began + done / self.machine.pace if self.machine.pace else 0
                while not (self.session.killed.is_set() or self.interrupted()) and time.monotonic() < until:
                    time.sleep(0.01)
                if self.session.killed.is_set() or self.interrupted():
                    raise Interrupted
        finally:
            self.session.request = None

    def _recover(self, database: Database) -> None:
        known = database.restoring
        database.state, database.restoring, database.reached = "ONLINE", None, known.reached
        database.fork_guid = uuid4()

    @property
    def _statement(self) -> str:
        return "RESTORE LOG" if self.order.what == "LOG" else "RESTORE DATABASE"

    def _terminated(self, why: Message) -> Wrong:
        what = self.order.what if self.order.what in QUESTIONS else self._statement.partition(" ")[2]
        return Wrong(why, Message(3013, f"RESTORE {what} is terminating abnormally."))


def _files(facts: SetFacts) -> Selected:
    rows = [
        [file.logical_name, file.physical_path, "L" if file.kind == "log" else "D", file.size_bytes, file.file_id]
        for file in facts.database_files
    ]
    return Selected(list(FILE_LIST), rows)
