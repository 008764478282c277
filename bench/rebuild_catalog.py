#!/usr/bin/env python3
"""A catalogue from the manifests of a folder store, beside the plain read of the same manifests, in the same run.

    python bench/rebuild_catalog.py [--copies 10000] [--instances 20] [--parts 3]

Makes a PostgreSQL of its own and a store with so many copies, of an object and a manifest each. The baseline lists the
store and reads every manifest as the rebuilding does, eight at once, and does nothing with them: what no rebuilding can
be faster than. Ours is `rebuilding.rebuild` into an empty catalogue, windows and dates included, and then once more,
when everything is known.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from catalogue import catalogue

SOURCE, TARGET = "cn-hangzhou", "cn-shanghai"
SOURCE_STORE = uuid.UUID(int=7)
SIZE = 300
HOUR = timedelta(hours=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=10_000)
    parser.add_argument("--instances", type=int, default=20)
    parser.add_argument("--parts", type=int, default=3)
    given = parser.parse_args()
    with catalogue({}) as room:
        report(room, given)


def report(room: Path, given: argparse.Namespace) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from backups.events import FARSHORE
    from backups.models import Copy
    from backups.self_recovery import rebuilding
    from backups.self_recovery.rebuilding import contents
    from regions import stores
    from regions.models import Region

    place = room / "store"
    place.mkdir()
    store = stores.attach(Region.objects.get(pk=TARGET), place.as_uri())
    took = seconds(lambda: fill(place, store, given))
    print(f"{given.copies:,} copies of {given.instances} instances, {given.parts} parts each; filled in {took:.0f} s")

    def read() -> None:
        storage = store.open()
        for _, body in contents.read_all(storage, contents.look(storage).manifests):
            assert isinstance(body, bytes), body

    def bring_back() -> None:
        told = rebuilding.rebuild(store, FARSHORE)
        assert len(told.troubles) <= given.instances, told.troubles[:3]  # that no state object tells of one

    baseline = seconds(read)
    show("plain read of the manifests", baseline, baseline)
    connection.queries_log = type(connection.queries_log)(maxlen=None)
    with CaptureQueriesContext(connection) as queries:
        ours = seconds(bring_back)
    assert Copy.objects.count() == given.copies
    show("rebuilt from nothing", ours, baseline)
    print(f"{'':32}{len(queries):>10,} statements, {len(queries) / given.copies:.2f} a copy")
    show("once more, all is known", seconds(bring_back), baseline)


def fill(place: Path, store: Any, given: argparse.Namespace) -> None:
    """Lay objects and manifests there as copies of one database of each instance would have, an hour apart."""
    from backups import layout

    keys = {}
    for number in range(1, given.copies + 1):
        code = f"rm-bench{number % given.instances:04}"
        keys[f"{layout.base()}/{code}/{number}/{number}/1/{number}"] = (number, code)
    for key, (number, _) in keys.items():
        path = place / key
        path.parent.mkdir(parents=True)
        path.write_bytes(f"{number:0{SIZE}}".encode())
    for info in store.open().list(f"{layout.base()}/"):
        number, code = keys[info.key]
        said = document(number, code, info, store, given)
        (place / info.key).with_name("manifest.json").write_text(json.dumps(said, indent=1, sort_keys=True))


def document(number: int, code: str, info: Any, store: Any, given: argparse.Namespace) -> dict[str, Any]:
    """Return what `manifest.build` says of such a copy."""
    from backups.copying import manifest
    from regions.models import Installation

    at = (datetime.now(UTC) - HOUR * (number // given.instances)).isoformat()
    return {
        "format": manifest.FORMAT,
        "installation": str(Installation.current().uuid),
        "written_at": at,
        "instance": {"code": code, "name": code, "group": "Bench", "engine": "sqlserver", "region": SOURCE},
        "set": {
            "id": number,
            "database": "Sales",
            "kind": "full",
            "finished_at": at,
            "set_guid": f"set-{number}",
            "size_bytes": SIZE,
        },
        "copy": {
            "id": number,
            "attempt": 1,
            "policy": "cross_region",
            "source_region": SOURCE,
            "destination_region": TARGET,
            "destination_store": str(store.uuid),
            "route_version": 1,
            "retention_days": 1825,
        },
        "files": [file_of(number, info, at, given.parts)],
    }


def file_of(number: int, info: Any, at: str, count: int) -> dict[str, Any]:
    body, cut = f"{number:0{SIZE}}".encode(), -(-SIZE // count)
    pieces = [body[start : start + cut] for start in range(0, SIZE, cut)]
    hashes = [hashlib.sha256(piece) for piece in pieces]
    parts = [
        [order, len(piece), seen.hexdigest()] for order, (piece, seen) in enumerate(zip(pieces, hashes, strict=True), 1)
    ]
    return {
        "key": info.key,
        "etag": info.etag,
        "size": SIZE,
        "digest": hashlib.sha256(b"".join(seen.digest() for seen in hashes)).hexdigest(),
        "reference": "second_read",
        "uploaded_at": at,
        "verified_at": at,
        "source_key": f"backups/{number}.bak",
        "source": {"id": number, "store": str(SOURCE_STORE), "key": f"backups/{number}.bak", "modified_at": at},
        "parts": parts,
    }


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def show(name: str, took: float, baseline: float) -> None:
    print(f"{name:32}{took:>10.2f} s {took / baseline:>8.1f} ×", flush=True)


if __name__ == "__main__":
    main()
