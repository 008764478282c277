from __future__ import annotations

import hashlib
import io
import random
import tarfile

import pytest

from backups.engines.postgresql import archive as reading
from backups.engines.postgresql.archive import ArchiveDamaged, ArchiveReader, Story, position_of

LABEL = """START WAL LOCATION: 1/2000028 (file 000000020000000100000002)
CHECKPOINT LOCATION: 1/2000060
BACKUP METHOD: streamed
BACKUP FROM: standby
START TIMELINE: 2
"""
RANGES = '{ "Timeline": 2, "Start-LSN": "1/2000028", "End-LSN": "1/2000100" }'


def manifest(ranges: str = RANGES, files: int = 3) -> bytes:
    named = ",\n".join(f'{{ "Path": "base/1/{n}", "Checksum": "{n:064x}" }}' for n in range(files))
    body = (
        f'{{ "PostgreSQL-Backup-Manifest-Version": 2,\n"Files": [\n{named}],\n"WAL-Ranges": [\n{ranges}\n],\n'.encode()
    )
    return body + b'"Manifest-Checksum": "%s"}\n' % hashlib.sha256(body).hexdigest().encode()


def archive(last: bytes | None = None, label: str = LABEL) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in (
            ("backup_label", label.encode()),
            ("base/1/16384", random.Random(1).randbytes(70_000)),
            ("base/1/empty", b""),
            ("backup_manifest", manifest() if last is None else last),
        ):
            if content or name.endswith("empty"):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return held.getvalue()


def told(content: bytes, step: int = 1 << 20) -> Story:
    reader = ArchiveReader()
    for begin in range(0, len(content), step):
        reader.feed(memoryview(content)[begin : begin + step])
    return reader.story()


WHOLE = Story(position_of("1/2000028"), position_of("1/2000100"), position_of("1/2000060"), 2, True)


@pytest.mark.parametrize("step", [1, 7, 511, 512, 513, 65_536, 1 << 20])
def test_the_story_does_not_depend_on_how_the_bytes_arrive(step: int) -> None:
    assert told(archive(), step) == WHOLE


def test_a_manifest_larger_than_what_is_kept_is_summed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MANIFEST_TAIL", 4096)
    large = manifest(files=5000)
    assert told(archive(large), 10_000) == WHOLE
    flipped = large.replace(b"base/1/17", b"base/1/71", 1)
    with pytest.raises(ArchiveDamaged, match="checksum"):
        told(archive(flipped))


@pytest.mark.parametrize("step", [1, 513, 65_536])
def test_the_outline_is_where_the_manifest_lies(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MANIFEST_TAIL", 4096)
    last = manifest(files=200)
    content, reader = archive(last), ArchiveReader()
    for begin in range(0, len(content), step):
        reader.feed(memoryview(content)[begin : begin + step])
    lies = reader.outline()
    assert content[lies.offset : lies.offset + lies.length] == last
    assert lies.sha256 == hashlib.sha256(last).hexdigest()


def test_an_incremental_says_where_its_base_began() -> None:
    assert told(archive()).base_position is None
    assert told(archive(label=f"{LABEL}INCREMENTAL FROM LSN: 1/1000028\n")).base_position == position_of("1/1000028")


def test_a_backup_that_crossed_a_timeline_ends_on_the_newer_one() -> None:
    older = '{ "Timeline": 2, "Start-LSN": "0/10", "End-LSN": "0/20" }'
    newer = '{ "Timeline": 3, "Start-LSN": "0/20", "End-LSN": "0/FF" }'
    story = told(archive(manifest(f"{newer},\n{older}")))
    assert (story.first_position, story.last_position, story.timeline) == (0x10, 0xFF, 3)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (archive()[: archive().rindex(b"}\n")], "ends in the middle"),
        (archive()[:512], "ends in the middle"),
        (b"", "ends in the middle"),
        (archive(b""), "no backup_manifest"),
        (archive(manifest()[:-95]), "has no end"),
        (archive(manifest(ranges="")), "names no WAL"),
        (archive(manifest().replace(b"1/2000100", b"1/2000101")), "checksum"),
        (archive().replace(b"base/1/empty", b"base/1/EMPTY"), "no tar header"),
        (b"<html>" + bytes(600), "no tar header"),
    ],
)
def test_what_is_not_a_whole_backup_is_never_taken_for_one(content: bytes, why: str) -> None:
    with pytest.raises(ArchiveDamaged, match=why):
        told(content)


def test_positions_order_as_integers() -> None:
    assert position_of("0/0") == 0
    assert position_of("16/B374D848") == 0x16B374D848
    assert position_of("1/0") > position_of("0/FFFFFFFF")
