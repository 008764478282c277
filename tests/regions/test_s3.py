from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from regions.storage import Gone, Storage, StorageError, StoreOptions, open_storage
from tests.regions import fault_proxy as faults
from tests.regions.conftest import ask_bucket, bucket_store, make_bucket
from tests.regions.storage_stories import StorageStories, read
from tests.servers import S3Region

VERSIONED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"


class TestS3(StorageStories):
    @pytest.fixture
    def url(self, ceph_regions: tuple[S3Region, S3Region]) -> str:
        return make_bucket(ceph_regions[0])

    @pytest.fixture
    def storage(self, ceph_regions: tuple[S3Region, S3Region], url: str) -> Storage:
        return open_storage(bucket_store(ceph_regions[0], f"{url}/team/one"))

    @pytest.fixture
    def neighbour(self, ceph_regions: tuple[S3Region, S3Region], url: str) -> Storage:
        return open_storage(bucket_store(ceph_regions[0], f"{url}/team/two"))


def test_a_missing_bucket_is_an_error_and_not_an_empty_store(ceph_regions: tuple[S3Region, S3Region]) -> None:
    storage = open_storage(bucket_store(ceph_regions[0], "s3://farshore-nowhere"))
    for ask in (lambda: storage.head("key"), lambda: list(storage.list()), lambda: storage.delete("key")):
        with pytest.raises(StorageError) as refused:
            ask()
        assert not isinstance(refused.value, Gone)
        assert refused.value.code == "NoSuchBucket"


def test_a_wrong_secret_is_refused_in_words_and_not_retried(ceph_regions: tuple[S3Region, S3Region]) -> None:
    region = replace(ceph_regions[0], secret_key="wrong")
    with pytest.raises(StorageError) as refused:
        list(open_storage(bucket_store(region, "s3://any")).list())
    assert (refused.value.code, refused.value.retry) == ("SignatureDoesNotMatch", False)
    assert "wrong" not in str(refused.value)


def test_listings_and_parts_go_on_over_many_pages(bucket: Callable[..., Storage]) -> None:
    storage = bucket()
    keys = [f"page/{number:05}" for number in range(1005)]
    for key in keys:
        storage.put(key, b"")
    assert [entry.key for entry in storage.list("page/")] == keys


@pytest.mark.parametrize(
    "answer",
    [
        faults.says(500),
        faults.loses_the_answer,
        faults.says(200, b"<ListBucketResult><Contents>"),
        faults.says(200, b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"),
        faults.says(200, b"<html>Welcome</html>"),
    ],
)
def test_a_listing_that_fails_on_a_later_page_never_looks_like_a_short_one(
    ceph_regions: tuple[S3Region, S3Region], proxy: faults.FaultProxy, answer: faults.Fault
) -> None:
    def one_a_page(request: faults.Request, forward: faults.Forward) -> faults.Response:
        """Ceph's answer with one key, told as the first page of several."""
        response = forward(request)
        more = b"<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"
        body = response.body.replace(b"<IsTruncated>false</IsTruncated>", more)
        return faults.replace(response, body=body, headers={**response.headers, "Content-Length": str(len(body))})

    place = bucket_store(ceph_regions[0], make_bucket(ceph_regions[0]))
    open_storage(place).put("first", b"1")
    place.options["endpoint"] = proxy.endpoint
    proxy.on("GET", "list-type", one_a_page)
    proxy.on("GET", "continuation-token", answer)
    listing = open_storage(place).list()
    assert next(listing).key == "first"
    with pytest.raises(StorageError):
        next(listing)


def test_a_versioned_store_names_and_deletes_the_very_version(ceph_regions: tuple[S3Region, S3Region]) -> None:
    storage = open_storage(bucket_store(ceph_regions[0], make_bucket(ceph_regions[0], {"versioning": ""}, VERSIONED)))
    first, second = storage.put("key", b"first"), storage.put("key", b"second")
    assert first.version and second.version and first.version != second.version
    assert storage.features() == {"versioning": True, "object_lock": False, "locks_all": False}
    assert read(storage, "key", 0, 5, first) == b"first"
    storage.delete("key", second)
    assert storage.head("key").etag == first.etag
    storage.delete("key")
    with pytest.raises(StorageError):
        read(storage, "key", 0, 5, first)


def test_only_lifecycle_rules_that_would_delete_our_objects_are_named(ceph_regions: tuple[S3Region, S3Region]) -> None:
    url = make_bucket(ceph_regions[0])
    ask_bucket(ceph_regions[0], url, {"lifecycle": ""}, lifecycle(("ours", "farshore/"), ("theirs", "logs/")))
    [quoted] = open_storage(bucket_store(ceph_regions[0], url)).expiring_rules("farshore/")
    assert "ours" in quoted and "<Days>30</Days>" in quoted.replace("ns0:", "")
    assert open_storage(bucket_store(ceph_regions[0], f"{url}/elsewhere")).expiring_rules("farshore/") == []


def lifecycle(*rules: tuple[str, str]) -> bytes:
    listed = "".join(
        f"<Rule><ID>{name}</ID><Filter><Prefix>{prefix}</Prefix></Filter><Status>Enabled</Status>"
        "<Expiration><Days>30</Days></Expiration></Rule>"
        for name, prefix in rules
    )
    return f"<LifecycleConfiguration>{listed}</LifecycleConfiguration>".encode()


def test_a_store_without_an_access_key_is_not_opened() -> None:
    with pytest.raises(StorageError) as refused:
        open_storage(StoreOptions(url="s3://bucket", options={"endpoint": "http://127.0.0.1:1"}))
    assert refused.value.code == "NoCredentials"
