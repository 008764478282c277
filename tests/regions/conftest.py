"""Stores for the stories: folders that vanish, and buckets of real Ceph regions."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from regions.storage import Storage, StoreOptions, open_storage
from regions.storage.s3_signing import Bucket
from regions.storage.wire import Wire
from tests.regions.fault_proxy import FaultProxy, running
from tests.servers import S3Region


def folder_store(path: Path) -> StoreOptions:
    path.mkdir(parents=True, exist_ok=True)
    return StoreOptions(url=f"file://{quote(str(path))}")


def bucket_store(region: S3Region, url: str, **options: Any) -> StoreOptions:
    return StoreOptions(
        url=url,
        options={"endpoint": region.endpoint, "addressing": "path", **options},
        credentials={"access_key_id": region.access_key, "secret_access_key": region.secret_key},
    )


def make_bucket(region: S3Region, query: dict[str, str] | None = None, body: bytes = b"") -> str:
    """Make a new bucket and return its URL; with `query`, set one of its configurations too."""
    url = f"s3://farshore-{uuid.uuid4().hex[:12]}"
    ask_bucket(region, url, {})
    if query:
        ask_bucket(region, url, query, body)
    return url


def bucket_versions(region: S3Region, url: str) -> list[str]:
    """Return the key of every version and delete marker in a bucket."""
    listed = ask_bucket(region, url, {"versions": ""}, method="GET")
    return re.findall("<Key>([^<]*)</Key>", listed.decode())


def ask_bucket(region: S3Region, url: str, query: dict[str, str], body: bytes = b"", method: str = "PUT") -> bytes:
    bucket = Bucket.of(bucket_store(region, url))
    answer = Wire.to(bucket.url).ask(method, bucket.signed(method, "", query, {}), {}, body)
    assert answer.status == 200, answer.body
    return answer.body


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], Storage]:
    return lambda name: open_storage(folder_store(tmp_path / name))


@pytest.fixture
def bucket(ceph_regions: tuple[S3Region, S3Region]) -> Callable[..., Storage]:
    """Open a new bucket in one of the two regions."""

    def opened(number: int = 0, prefix: str = "") -> Storage:
        region = ceph_regions[number]
        return open_storage(bucket_store(region, make_bucket(region) + prefix))

    return opened


@pytest.fixture
def proxy(ceph_regions: tuple[S3Region, S3Region]) -> Iterator[FaultProxy]:
    with running(ceph_regions[0].endpoint) as proxy:
        yield proxy
