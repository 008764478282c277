"""BACKUP DATABASE and BACKUP LOG of the simulation: synthetic files that say what its msdb says.

    BACKUP {DATABASE | LOG} name TO {DISK | URL} = {'path' | @path} [, {DISK | URL} = …]
    [WITH option [, option]…]

Options: CHECKSUM, NO_CHECKSUM, COMPRESSION, NO_COMPRESSION, COPY_ONLY, DIFFERENTIAL, FORMAT, NOFORMAT, INIT, NOINIT,
SKIP, NOSKIP, METADATA_ONLY, STATS [= n], MAXTRANSFERSIZE = n, NAME = 'text', DESCRIPTION = 'text',
ENCRYPTION (ALGORITHM = name, SERVER CERTIFICATE = name), BACKUP_OPTIONS = '{"s3": {"region": "…"}}'. A path 'NUL'
writes nothing, as on a real server; addresses are `to_url`'s.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from backups.engines.facts import Kind
from demo import mtf
from demo.mtf import Backup
from demo.mtf_compressed import compressed_file, encrypted_file
from demo.tape import Media
from demo.tds import snapshotting, to_url
from demo.tds.machine import DISK, SIMPLE, URL, VIRTUAL, Database, Family, Request, Session, SimulatedMachine
from demo.tds.tokens import Message
from demo.tds.words import Sentence, Wrong

FLAGS = (
    *("CHECKSUM", "NO_CHECKSUM", "COMPRESSION", "NO_COMPRESSION", "COPY_ONLY", "DIFFERENTIAL"),
    *("FORMAT", "NOFORMAT", "INIT", "NOINIT", "SKIP", "NOSKIP", "METADATA_ONLY"),
)
PIECE = 256 << 10
Say = Callable[[Message], None]


@dataclass
class Order:
    """What a BACKUP statement asks for."""

    database: str
    kind: Kind
    devices: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    stats: int = 10
    name: str = ""
    is_to_url: bool = False
    part_bytes: int = to_url.USUAL_PART
    certificate: str = ""
    region: str = ""

    @property
    def statement(self) -> str:
        return "BACKUP LOG" if self.kind is Kind.LOG else "BACKUP DATABASE"

    @property
    def of_snapshot(self) -> bool:
        return "METADATA_ONLY" in self.flags

    @property
    def overwrites(self) -> bool:
        return bool(self.flags & {"FORMAT", "INIT"})


def order_from(sentence: Sentence, parameters: Mapping[str, Any]) -> Order:
    """Read the statement behind the word BACKUP."""
    is_log = sentence.skips("LOG")
    if not is_log:
        sentence.must("DATABASE")
    order = Order(_named(sentence, parameters), Kind.LOG if is_log else Kind.FULL)
    sentence.must("TO")
    while not order.devices or sentence.skips(","):
        order.is_to_url = sentence.skips("URL", "=")
        if not order.is_to_url:
            sentence.must("DISK", "=")
        order.devices.append(read_text(sentence, parameters))
    if sentence.skips("WITH"):
        _read_option(order, sentence, parameters)
        while sentence.skips(","):
            _read_option(order, sentence, parameters)
    if "DIFFERENTIAL" in order.flags:
        order.kind = Kind.DIFFERENTIAL
    return order


def _named(sentence: Sentence, parameters: Mapping[str, Any]) -> str:
    return read_text(sentence, parameters) if sentence.next.plain.startswith("@") else sentence.name()


def read_text(sentence: Sentence, parameters: Mapping[str, Any]) -> str:
    word = sentence.take()
    if word.kind == "text":
        return word.value
    if word.value.lower() in parameters:
        return str(parameters[word.value.lower()])
    sentence.at -= 1
    raise sentence.wrong()


def _read_option(order: Order, sentence: Sentence, parameters: Mapping[str, Any]) -> None:
    if sentence.skips("STATS"):
        order.stats = sentence.number() if sentence.skips("=") else 10
    elif sentence.skips("MAXTRANSFERSIZE", "="):
        order.part_bytes = min(max(sentence.number(), to_url.SMALLEST_PART), to_url.LARGEST_PART)
    elif sentence.skips("NAME", "="):
        order.name = read_text(sentence, parameters)
    elif sentence.skips("DESCRIPTION", "="):
        read_text(sentence, parameters)
    elif sentence.skips("ENCRYPTION", "("):
        sentence.must("ALGORITHM", "=")
        sentence.name()
        sentence.must(",", "SERVER", "CERTIFICATE", "=")
        order.certificate = sentence.name()
        sentence.must(")")
    elif sentence.skips("BACKUP_OPTIONS", "="):
        order.region = to_url.region_in(read_text(sentence, parameters))
    elif sentence.next.plain in FLAGS:
        order.flags.add(sentence.take().plain)
    else:
        raise sentence.wrong()


class Interrupted(Exception):
    """Whoever asked for the backup is gone, or has sent an attention, or was killed."""


@dataclass
class Run:
    """One BACKUP statement being carried out. `interrupted()` is asked all the while."""

    machine: SimulatedMachine
    session: Session
    order: Order
    say: Say
    interrupted: Callable[[], bool]

    def run(self) -> None:
        database = self._checked()
        with self.machine.lock:
            if database.is_busy:
                raise self._terminated(_SERIALIZED)
            database.is_busy = True
        try:
            self._back_up(database)
        finally:
            database.is_busy = False

    # What is refused before a byte is written

    def _checked(self) -> Database:
        order, account = self.order, self.session.account
        if self.session.transaction:
            said = "Cannot perform a backup or restore operation within a transaction."
            raise self._terminated(Message(3021, said, state=0))
        database = self.machine.database(order.database)
        if not database:
            said = f"Database '{order.database}' does not exist. Make sure that the name is entered correctly."
            raise self._terminated(Message(911, said, state=11))
        if not account.may_back_up(database.name):
            said = f"{order.statement} permission denied in database '{database.name}'."
            raise self._terminated(Message(262, said, 14))
        if database.state != "ONLINE":
            said = f"Database '{database.name}' cannot be opened because it is {database.state.lower()}."
            raise self._terminated(Message(942, said, 14, 4))
        if why := self._why_not(database):
            raise self._terminated(why)
        if order.of_snapshot and (why := snapshotting.why_not_backup(database, self.session)):
            raise self._terminated(why)
        if order.certificate and order.certificate not in self.machine.certificates:
            said = f"Cannot find server certificate with name '{order.certificate}'."
            raise self._terminated(Message(15151, said))
        return database

    def _why_not(self, database: Database) -> Message | None:
        kind, copies = self.order.kind, "COPY_ONLY" in self.order.flags
        if database.is_secondary and (kind is Kind.DIFFERENTIAL or (kind is Kind.FULL and not copies)):
            said = "This BACKUP or RESTORE command is not supported on a database mirror or secondary replica."
            return Message(3059, said)
        if kind is Kind.LOG and database.recovery_model == SIMPLE:
            said = (
                "The statement BACKUP LOG is not allowed while the recovery model is SIMPLE. "
                "Use BACKUP DATABASE or change the recovery model using ALTER DATABASE."
            )
            return Message(4208, said)
        if kind is Kind.LOG and database.logged is None:
            return Message(4214, "BACKUP LOG cannot be performed because there is no current database backup.")
        if kind is Kind.DIFFERENTIAL and database.base is None:
            said = (
                f'Cannot perform a differential backup for database "{database.name}", because a current database '
                "backup does not exist. Perform a full database backup by reissuing BACKUP DATABASE, omitting the "
                "WITH DIFFERENTIAL option."
            )
            return Message(3035, said)
        return None

    def out_of_room(self) -> Wrong:
        said = f"Write on '{self.order.devices[0]}' failed: 112(There is not enough space on the disk.)"
        return self._terminated(Message(3202, said, state=2))

    def _terminated(self, why: Message) -> Wrong:
        return Wrong(why, Message(3013, f"{self.order.statement} is terminating abnormally."))

    # Writing

    def _back_up(self, database: Database) -> None:
        order, machine = self.order, self.machine
        backup = machine.describe(
            database,
            order.kind,
            copy_only="COPY_ONLY" in order.flags,
            checksum="NO_CHECKSUM" not in order.flags and bool({"CHECKSUM", "COMPRESSION"} & order.flags),
            name=order.name,
        )
        if order.of_snapshot:
            backup = snapshotting.described(database, backup)
        paths = [self._place(device) for device in order.devices]
        request = Request(order.statement, database)
        self.session.request, began = request, time.monotonic()
        try:
            media, position, sizes = self._write(backup, paths, request)
        except OSError as error:
            raise self._terminated(_cannot_open(order.devices[0], error.strerror or str(error))) from error
        finally:
            self.session.request = None
        self._remember(database, backup, media, position, sum(sizes))
        if order.of_snapshot:
            snapshotting.resume(machine, self.session, database, self.say)
        self._tell(database, backup, time.monotonic() - began)

    def _place(self, device: str) -> Path | str | None:
        """A path, or an address as it is; None for NUL, which takes everything and keeps nothing."""
        if self.order.is_to_url:
            if why := to_url.why_not(self.machine, device):
                raise self._terminated(_cannot_open(device, why))
            return device
        if device.upper() == "NUL":
            return None
        path = self.machine.path_of(device)
        if path is None or not path.parent.is_dir():
            raise self._terminated(_cannot_open(device, "3(The system cannot find the path specified.)"))
        return path

    def _write(self, backup: Backup, paths: list[Path | str | None], request: Request) -> tuple[Media, int, list[int]]:
        earlier, media = self._on_media(backup, len(paths))
        total = (mtf.size_of(backup) + 16 * 1024 * len(paths)) or 1
        meter = Meter(self, request, total)
        sizes = []
        for sequence, path in enumerate(paths, 1):
            stripe = replace(media, sequence=sequence)
            sizes.append(self._write_one(path, [*earlier, backup], stripe, meter))
        key = self.order.devices[0].casefold()
        self.machine.on_media[key], self.machine.media_of_device[key] = [*earlier, backup], (media,)
        return media, len(earlier) + 1, sizes

    def _on_media(self, backup: Backup, families: int) -> tuple[list[Backup], Media]:
        """Return what lies on the devices already and stays there (NOINIT), and the media set they belong to."""
        key = self.order.devices[0].casefold()
        earlier = [] if self.order.overwrites else self.machine.on_media.get(key, [])
        if earlier and "COMPRESSION" in self.order.flags:
            said = "The simulation appends no compressed backup to a file that has one; use FORMAT or INIT."
            raise self._terminated(Message(50000, said))
        return (
            (earlier, self.machine.media_of_device[key][0])
            if earlier
            else ([], mtf.media_of(backup, families=families))
        )

    def _write_one(self, path: Path | str | None, sets: list[Backup], media: Media, meter: Meter) -> int:
        if isinstance(path, str):
            return self._write_to_url(path, sets, media, meter)
        begun = path.stat().st_size if path and len(sets) > 1 else 0
        out: BinaryIO = open(os.devnull if path is None else path, "r+b" if begun else "wb")  # noqa: SIM115
        try:
            with out:
                if self.order.certificate:
                    size = mtf.size_of(sets[-1]) + (16 << 10)
                    meter.into(out).write(encrypted_file(size, seed=str(sets[-1].set_guid)))
                elif begun or "COMPRESSION" in self.order.flags:
                    out.seek(begun)
                    meter.into(out).write(_body(sets, media, "COMPRESSION" in self.order.flags)[begun:])
                else:
                    mtf.write(meter.into(out), *sets, media=media)
                return out.tell()
        except Interrupted:
            if path and not begun:
                path.unlink(missing_ok=True)
            elif path:
                os.truncate(path, begun)
            raise

    def _write_to_url(self, device: str, sets: list[Backup], media: Media, meter: Meter) -> int:
        with to_url.UrlFile(self.machine, device, self.order.part_bytes) as out:
            if "COMPRESSION" in self.order.flags:
                meter.into(out).write(_body(sets, media, compressed=True))
            else:
                mtf.write(meter.into(out), *sets, media=media)
            return out.tell()

    # What is known afterwards

    def _remember(self, database: Database, backup: Backup, media: Media, position: int, size: int) -> None:
        families = tuple(
            Family(device, self._type_of(device), sequence) for sequence, device in enumerate(self.order.devices, 1)
        )
        machine = self.machine
        with machine.lock:
            known = next((row.media_id for row in machine.history if row.media_guid == media.guid), 0)
            machine.taken(database, backup)
            machine.remember(
                backup,
                families,
                self.session.user,
                media_id=known,
                media_guid=media.guid,
                position=position,
                compressed="COMPRESSION" in self.order.flags,
                is_snapshot=self.order.of_snapshot,
                compressed_bytes=size,
                recovery_model=database.recovery_model,
                time_zone=backup.time_zone,
                encryptor=machine.certificates.get(self.order.certificate),
            )

    def _type_of(self, device: str) -> int:
        if self.order.is_to_url:
            return URL
        return VIRTUAL if device.upper() == "NUL" else DISK

    def _tell(self, database: Database, backup: Backup, seconds: float) -> None:
        pages = -(-mtf.size_of(backup) // 8192)
        if backup.kind is not Kind.LOG:
            self.say(_processed(backup.pages, database.name, database.name))
        self.say(_processed(-(-backup.log_bytes // 8192), database.name, f"{database.name}_log"))
        rate = pages / 128 / max(seconds, 0.001)
        said = (
            f"{self.order.statement}{' WITH DIFFERENTIAL' if backup.kind is Kind.DIFFERENTIAL else ''} successfully "
            f"processed {pages} pages in {seconds:.3f} seconds ({rate:.3f} MB/sec)."
        )
        self.say(Message(3014, said, 0))


@dataclass
class Meter:
    """Counts what is written over all devices, tells of it, keeps the pace, and stops when it is told to."""

    run: Run
    request: Request
    total: int
    written: int = 0
    told: int = 0
    began: float = field(default_factory=time.monotonic)
    out: BinaryIO = field(default_factory=io.BytesIO)

    def into(self, out: BinaryIO) -> Meter:
        self.out = out
        return self

    def write(self, data: bytes) -> int:
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            self.out.write(piece)
            self.written += len(piece)
            self._step()
        return len(data)

    def _step(self) -> None:
        if self.run.machine.room is not None and self.written > self.run.machine.room:
            raise self.run.out_of_room()
        self.request.percent = min(100.0, 100 * self.written / self.total)
        if self.run.order.stats and self.request.percent >= self.told + self.run.order.stats:
            self.told = int(self.request.percent) // self.run.order.stats * self.run.order.stats
            self.run.say(Message(3211, f"{self.told} percent processed.", 0))
        while True:
            if self.run.session.killed.is_set() or self.run.interrupted():
                raise Interrupted
            pace = self.run.machine.pace
            until = self.began + self.written / pace if pace else 0
            if (left := until - time.monotonic()) <= 0.005:
                return
            time.sleep(min(left, 0.02))


def _body(sets: list[Backup], media: Media, compressed: bool) -> bytes:
    return compressed_file(sets[-1], media=media) if compressed else mtf.file_of(*sets, media=media)


def _cannot_open(device: str, why: str) -> Message:
    return Message(3201, f"Cannot open backup device '{device}'. Operating system error {why}.")


def _processed(pages: int, database: str, file: str) -> Message:
    return Message(4035, f"Processed {pages} pages for database '{database}', file '{file}' on file 1.", 0)


_SERIALIZED = Message(
    3023,
    "Backup, file manipulation operations (such as ALTER DATABASE ADD FILE) and encryption changes on a database must "
    "be serialized. Reissue the statement after the current backup or file manipulation operation is completed.",
)
