#!/usr/bin/env python3
"""What it costs to verify SQL Server backup files, and to read their headers from a distance.

    python bench/verifying.py [--mib 1024] [--rounds 3]

Verifying stands beside hashing with SHA-256 and beside reading alone, of the same file, in the same pieces, by turns,
so that a busy minute falls on all. CPU seconds are the figure to trust; they are told per GiB of the file as it lies
there.
The goals: one CPU second per GiB of an uncompressed file, 20 ms a file for the reader.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from backups.engines.sqlserver import Verifier, inspect  # noqa: E402
from backups.engines.sqlserver.xca import expand  # noqa: E402
from demo import mtf  # noqa: E402
from demo.mtf_compressed import compress, compressed_file  # noqa: E402
from demo.tape import PAGE, data_pages  # noqa: E402

MIB, PIECE = 1 << 20, 1 << 20
GIB = 1 << 30
CHUNK_HEADER, SECOND_CHUNK = 28, 0x600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="farshore-verifying-") as room:
        print(f"CPU seconds per GiB, {given.mib} MiB files, pieces of {PIECE // MIB} MiB, median of {given.rounds}:")
        for name, path in _files(Path(room), given.mib):
            print(f"{name:34}" + compared(path, given.rounds), flush=True)
            path.unlink()
    reading()
    expanding()


def _files(room: Path, mib: int) -> Iterator[tuple[str, Path]]:
    path = room / "file.bak"
    for name, checksum in (("uncompressed, WITH CHECKSUM", True), ("uncompressed, page checksums only", False)):
        with path.open("wb") as out:
            mtf.write(out, mtf.full(pages=mib * MIB // PAGE, checksum=checksum))
        yield name, path
    with path.open("wb") as out:
        out.write(lengthened(compressed_file(mtf.full(pages=12)), mib * MIB))
    yield "compressed", path


def lengthened(file: bytes, size: int) -> bytes:
    """Repeat the chunk of pages of a compressed file until it is so long: writing each anew would take an hour."""
    position = SECOND_CHUNK
    for _ in range(2):
        position += CHUNK_HEADER + int.from_bytes(file[position + 2 : position + 4], "little")
    end = position + CHUNK_HEADER + int.from_bytes(file[position + 2 : position + 4], "little")
    times = size // (end - position) // 512 * 512  # so that filemarks stay on their sectors
    return file[:end] + file[position:end] * times + file[end:]


def compared(path: Path, rounds: int) -> str:
    ways: dict[str, Callable[[Iterator[memoryview]], Any]] = {"verify": verify, "sha256": digest, "read": only_read}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            spent[name].append(_cpu_seconds(lambda way=way: way(pieces(path))) / path.stat().st_size * GIB)
    return "".join(f"  {name} {statistics.median(figures):.2f}" for name, figures in spent.items())


def pieces(path: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(PIECE))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            yield buffer[:count]


def verify(found: Iterator[memoryview]) -> None:
    verifier = Verifier()
    for piece in found:
        verifier.feed(piece)
    assert verifier.verdict().level not in ("damaged", "not inspectable"), verifier.verdict()


def digest(found: Iterator[memoryview]) -> None:
    seen = hashlib.sha256()
    for piece in found:
        seen.update(piece)


def only_read(found: Iterator[memoryview]) -> None:
    for _ in found:
        pass


def reading() -> None:
    """Tell the reader's CPU time a file, and how many ranged reads it took."""
    files = {
        "full, 32 MiB": mtf.write_full(pages=4096),
        "full on 4K media": mtf.write_full(pages=400, block=4096),
        "15 appended sets": mtf.file_of(*mtf.chain(logs=12, differentials=2)),
        "673 appended sets (a week of logs)": mtf.file_of(*mtf.chain(logs=672, differentials=0, pages=300)),
        "compressed": compressed_file(mtf.full(pages=100)),
        "no backup at all": os.urandom(MIB),
    }
    print("\nReading the headers:")
    for name, file in files.items():
        reads: list[int] = []

        def read(offset: int, length: int, file: bytes = file, reads: list[int] = reads) -> bytes:
            reads.append(length)
            return file[offset : offset + length]

        spent = _cpu_seconds(lambda: [inspect(read, len(file)) for _ in range(20)]) / 20  # noqa: B023
        print(f"{name:34}  {spent * 1000:6.1f} ms CPU, {len(reads) // 20} reads of {sum(reads) // 20 >> 10} KiB in all")


def expanding() -> None:
    """Tell what expanding whole chunks would cost, which verifying does not do (docs/decisions/0073)."""
    pages = b"".join(data_pages("farshore", 1, 0, 8))
    body = compress(pages)
    spent = _cpu_seconds(lambda: [expand(body, len(pages)) for _ in range(10)]) / 10
    print(
        f"\nExpanding a chunk of {len(pages) >> 10} KiB: {spent / len(pages) * 100 * MIB:.0f} CPU seconds per 100 MiB"
    )


def _cpu_seconds(work: Callable[[], Any]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
