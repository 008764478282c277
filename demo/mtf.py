"""Writes valid synthetic SQL Server backup files (Microsoft Tape Format) with invented content.

For the demonstration fleet and the tests only: every header checksum, backup checksum and page checksum is right, every
byte of data is made up, and one seed always gives the same file. The format is that of `sqlserver.md` §1.
"""

from __future__ import annotations

import io
import random
import struct
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import BinaryIO
from uuid import UUID

from backups.engines.facts import Kind
from demo.tape import PAGE, SECTOR, Media, TapeWriter, data_pages, log_sectors, utf16

_NO_GUID = UUID(int=0)
_LETTERS = {Kind.FULL: b"D", Kind.DIFFERENTIAL: b"I", Kind.LOG: b"L"}
_MIDNIGHT = datetime(2026, 11, 2, 1, 0, tzinfo=UTC)


@dataclass(frozen=True)
class DataFile:
    """A database file named in the header; its share of the pages is what the backup holds of it."""

    logical: str
    physical: str
    pages: int
    file_id: int = 1


@dataclass(frozen=True)
class Backup:
    """What one backup set says of itself; LSNs as msdb prints them, times aware, time zone in quarter hours."""

    database: str
    kind: Kind
    server: str
    started_at: datetime
    finished_at: datetime
    first: int
    last: int
    checkpoint: int
    base: int
    set_guid: UUID
    family_guid: UUID
    fork_guid: UUID
    base_guid: UUID
    chain_start: int
    files: tuple[DataFile, ...]
    log_bytes: int
    copy_only: bool = False
    checksum: bool = True
    version: tuple[int, int, int] = (15, 0, 4430)
    time_zone: int = 0
    name: str = ""
    extra_flags: int = 0
    seed: str = "farshore"
    metadata_only: bool = False  # its data is a snapshot of the storage

    @property
    def pages(self) -> int:
        return sum(file.pages for file in self.files)


def lsn(vlf: int, block: int = 16, slot: int = 1) -> int:
    """Return a log sequence number in the form msdb prints."""
    return vlf * 10**15 + block * 10**5 + slot


def guid_of(*words: object) -> UUID:
    """Return the GUID that these words always give."""
    return UUID(int=random.Random("/".join(map(str, words))).getrandbits(128), version=4)


def full(
    database: str = "Sales",
    *,
    server: str = "SQLPROD01",
    first: int = lsn(40),
    started_at: datetime = _MIDNIGHT,
    seconds: int = 90,
    pages: int = 64,
    log_bytes: int = 4096,
    seed: str = "farshore",
    **more: object,
) -> Backup:
    """Describe a full backup; `more` sets any other field of `Backup`."""
    family = guid_of(seed, server, database, "family")
    return replace(
        Backup(
            database=database,
            kind=Kind.FULL,
            server=server,
            started_at=started_at,
            finished_at=started_at + timedelta(seconds=seconds),
            first=first,
            last=first + 24 * 10**5,
            checkpoint=first,
            base=0,
            set_guid=guid_of(seed, server, database, first, started_at, "set"),
            family_guid=family,
            fork_guid=family,
            base_guid=_NO_GUID,
            chain_start=lsn(12),
            files=_files_of(database, pages),
            log_bytes=log_bytes,
            seed=seed,
        ),
        **more,
    )


def differential(base: Backup, *, first: int, started_at: datetime, pages: int = 16, **more: object) -> Backup:
    """Describe a differential of `base`."""
    taken = _later(base, Kind.DIFFERENTIAL, first, first + 10**5, started_at)
    files = _files_of(base.database, pages)
    return replace(taken, base=base.checkpoint, base_guid=base.set_guid, files=files, log_bytes=2048, **more)


def log(base: Backup, *, first: int, last: int, started_at: datetime, log_bytes: int = 32768, **more: object) -> Backup:
    """Describe a log backup of the chain that `base` belongs to."""
    return replace(_later(base, Kind.LOG, first, last, started_at), base=base.checkpoint, log_bytes=log_bytes, **more)


def chain(
    database: str = "Sales", *, logs: int = 4, differentials: int = 1, every: timedelta = timedelta(hours=1), **more
) -> list[Backup]:
    """Describe a full with the logs and differentials that continue it, in order of time and without a gap."""
    anchor = full(database, **more)
    taken = [anchor]
    reached, at = anchor.last, anchor.started_at
    for _ in range(logs):
        at += every
        taken.append(log(anchor, first=reached, last=reached + 10**15, started_at=at))
        reached += 10**15
    for _ in range(differentials):
        at += every
        taken.append(differential(anchor, first=reached, started_at=at))
    return taken


def write(out: BinaryIO, *backups: Backup, media: Media | None = None) -> int:
    """Write one file holding these sets, each appended to the one before (NOINIT); return its size."""
    media = media or media_of(backups[0])
    tape = TapeWriter(out, media.block)
    tape.tape(media)
    for number, backup in enumerate(backups, 1):
        _write_set(tape, backup, media, number)
    return tape.position


def file_of(*backups: Backup, media: Media | None = None) -> bytes:
    """Return the file that `write` would write."""
    out = io.BytesIO()
    write(out, *backups, media=media)
    return out.getvalue()


def write_full(database: str = "Sales", *, block: int = 512, **more: object) -> bytes:
    """Return a file with one full backup; see `full` for what can be said of it."""
    taken = full(database, **more)
    return file_of(taken, media=media_of(taken, block=block))


def media_of(backup: Backup, *, families: int = 1, sequence: int = 1, block: int = 512) -> Media:
    return Media(guid_of(backup.set_guid, "media"), families, sequence, block)


def stripes_of(backup: Backup, count: int) -> list[bytes]:
    """Return the `count` files of a striped backup; pages and log are shared out among them."""
    return [file_of(backup, media=media_of(backup, families=count, sequence=n)) for n in range(1, count + 1)]


def flipped(file: bytes, bit: int) -> bytes:
    """Return the file with one bit turned over."""
    changed = bytearray(file)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def write_data(tape: TapeWriter, backup: Backup, media: Media) -> None:
    """Put the data and log blocks of one stripe."""
    if backup.metadata_only:
        return
    if backup.kind is not Kind.LOG:
        for file in backup.files:
            first, count = _share(file.pages, media)
            tape.block(b"MSDA", struct.pack("<I", file.file_id))
            chunks = data_pages(backup.seed, file.file_id, first, count)
            tape.sectors(b"MQDA", file.file_id, count * PAGE, chunks, checksum=backup.checksum)
            tape.stream(b"MQDA", 0, [])
            tape.end_block()
    first, count = _share(-(-backup.log_bytes // SECTOR), media)
    tape.block(b"MSTL", bytes(4))
    sectors = log_sectors(backup.seed, first, count)
    tape.sectors(b"MQTL", 0, count * SECTOR, sectors, checksum=backup.checksum)
    tape.end_block()


def write_start(tape: TapeWriter, backup: Backup, number: int) -> None:
    """Put the blocks in front of the data: the set's own, its volume and the first, not yet final, record."""
    fixed = bytearray(46)
    attributes = 8 if backup.kind is Kind.DIFFERENTIAL else 2 if backup.copy_only else 4
    struct.pack_into("<IHHHH", fixed, 0, attributes, 0, 0, 0x1200, number)
    fixed[36:41] = _mtf_date(_local(backup, backup.started_at))
    struct.pack_into("<BBb", fixed, 41, 1, 0, backup.time_zone)
    os_data = backup.set_guid.bytes_le + bytes(5)
    tape.block(b"SSET", bytes(fixed), parts={44: os_data, 64: utf16(backup.name), 76: utf16("NT SERVICE\\MSSQL")})
    tape.end_block(least=1024)
    tape.block(b"VOLB", bytes(44))
    tape.end_block(least=1024)
    _write_record(tape, b"MSCI", scin(backup, final=False) + _file_records(backup))


def write_end(tape: TapeWriter, backup: Backup) -> None:
    """Put the final record, on which the reader relies."""
    _write_record(tape, b"MSLS", scin(backup, final=True) + _file_records(backup))


def write_closing(tape: TapeWriter, backup: Backup, number: int) -> None:
    fixed = bytearray(33)
    struct.pack_into("<H", fixed, 26, number)
    fixed[28:33] = _mtf_date(_local(backup, backup.finished_at))
    tape.block(b"ESET", bytes(fixed))
    tape.stream(b"OTCP", 16, [bytes(16)])
    tape.stream(b"TSMP", 64, [bytes(64)])
    tape.end_block()
    tape.block(b"ESET", bytes(fixed))
    tape.end_block(tape.block_size)


def scin(backup: Backup, *, final: bool) -> bytes:
    """Return the record of the head (`final` False: no finish date, sizes and positions not yet known) or the tail."""
    major, minor, build = backup.version
    fixed = bytearray({9: 344, 10: 364}.get(major, 400))
    flags = backup.extra_flags | (16 if backup.checksum else 0) | (0x800 if backup.kind is Kind.DIFFERENTIAL else 0)
    struct.pack_into("<4sIH", fixed, 0, b"SCIN", 0, flags)
    struct.pack_into("<HBB", fixed, 0x18, build, minor, major)
    last = backup.last if final else backup.first
    for offset, position in ((0x20, backup.first), (0x2A, last), (0x34, backup.checkpoint), (0x3E, backup.base)):
        fixed[offset : offset + 10] = _lsn(position)
    fixed[0x48:0x4D] = _mtf_date(_local(backup, backup.started_at - timedelta(days=400)))
    fixed[0x4D:0x52] = _mtf_date(_local(backup, backup.started_at))
    fixed[0x52:0x57] = _mtf_date(_local(backup, backup.finished_at)) if final else bytes(5)
    fixed[0x57:0x58] = _LETTERS[backup.kind]
    struct.pack_into("<BHHQ", fixed, 0x5B, 150, 7, 904, size_of(backup) if final else backup.pages * PAGE)
    _guids(fixed, backup)
    if len(fixed) > 344:
        struct.pack_into("<Q", fixed, 0x158, size_of(backup) if final else 0)
    return _with_texts(fixed, {0x68: backup.database, 0x6C: backup.server})


def size_of(backup: Backup) -> int:
    """Return the bytes of data and log over all stripes, which is what the header calls its size."""
    data = 0 if backup.kind is Kind.LOG else backup.pages * PAGE
    return data + -(-backup.log_bytes // SECTOR) * SECTOR


def _guids(fixed: bytearray, backup: Backup) -> None:
    fixed[0x7C:0x8C] = guid_of(backup.family_guid, "binding").bytes_le
    fixed[0x90:0x9A] = _lsn(backup.chain_start)
    fixed[0x9C:0xAC] = backup.fork_guid.bytes_le
    fixed[0xC8:0xD8] = backup.base_guid.bytes_le
    fixed[0xE0:0xF0] = backup.family_guid.bytes_le
    fixed[0xF8:0x102] = _lsn(backup.chain_start)


def _file_records(backup: Backup) -> bytes:
    group = bytearray(48)
    struct.pack_into("<4sI", group, 0, b"SFGI", len(group))
    records = [bytes(group)]
    log_file = DataFile(f"{backup.database}_log", f"L:\\log\\{backup.database}_log.ldf", 0, 2)
    for file in (*backup.files, log_file):
        fixed = bytearray(80)
        is_log = file is log_file
        struct.pack_into("<4sI", fixed, 0, b"SFIN", 0)
        struct.pack_into("<IIIB", fixed, 0x10, PAGE, file.file_id, file.pages, 2 if is_log else 1)
        struct.pack_into("<Q", fixed, 0x28, 8 * 2**20 if is_log else file.pages * 2 * PAGE)
        records.append(_with_texts(fixed, {0x30: file.logical, 0x34: file.physical}))
    return b"".join(records)


def _with_texts(fixed: bytearray, texts: dict[int, str]) -> bytes:
    """Put the texts behind a record, pointers to them into it, and its whole length at 4."""
    record = bytearray(fixed)
    for pointer, text in texts.items():
        value = utf16(text)
        struct.pack_into("<HH", record, pointer, len(value), len(record))
        record += value
    record += bytes(-len(record) % 4)
    struct.pack_into("<I", record, 4, len(record))
    return bytes(record)


def _write_record(tape: TapeWriter, kind: bytes, record: bytes) -> None:
    tape.block(kind, bytes(12))
    tape.stream(b"MQCI", len(record), [record])
    tape.end_block(tape.block_size if kind == b"MSLS" else SECTOR)


def _write_set(tape: TapeWriter, backup: Backup, media: Media, number: int) -> None:
    write_start(tape, backup, number)
    write_data(tape, backup, media)
    write_end(tape, backup)
    tape.filemark()
    write_closing(tape, backup, number)
    tape.filemark()


def _later(base: Backup, kind: Kind, first: int, last: int, started_at: datetime) -> Backup:
    return replace(
        base,
        kind=kind,
        first=first,
        last=last,
        started_at=started_at,
        finished_at=started_at + timedelta(seconds=20),
        set_guid=guid_of(base.seed, base.family_guid, kind, first, last, started_at, "set"),
        base_guid=_NO_GUID,
        copy_only=False,
    )


def _files_of(database: str, pages: int) -> tuple[DataFile, ...]:
    return (DataFile(database, f"D:\\data\\{database}.mdf", pages),)


def _share(total: int, media: Media) -> tuple[int, int]:
    """Return where this stripe's share of `total` begins and how many it is."""
    begin = total * (media.sequence - 1) // media.families
    return begin, total * media.sequence // media.families - begin


def _local(backup: Backup, at: datetime) -> datetime:
    return at.astimezone(UTC) + timedelta(minutes=15 * backup.time_zone)


def _mtf_date(at: datetime) -> bytes:
    fields = ((at.year, 14), (at.month, 4), (at.day, 5), (at.hour, 5), (at.minute, 6), (at.second, 6))
    return reduce(lambda packed, field: packed << field[1] | field[0], fields, 0).to_bytes(5, "big")


def _lsn(position: int) -> bytes:
    return struct.pack("<IIH", position // 10**15, position // 10**5 % 10**10, position % 10**5)
