from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regions import marker, stores
from regions.locations import clean_url
from regions.models import Installation, Region, Store
from regions.refusals import Refusal
from tests.regions.conftest import ask_bucket, bucket_store, bucket_versions, make_bucket
from tests.regions.test_s3 import VERSIONED, lifecycle
from tests.servers import S3Region

pytestmark = pytest.mark.django_db


@pytest.fixture
def beijing() -> Region:
    return Region.objects.get(pk="cn-beijing")


@pytest.fixture
def shanghai() -> Region:
    return Region.objects.get(pk="cn-shanghai")


def made(path: Path) -> str:
    path.mkdir(parents=True, exist_ok=True)
    return str(path)


def refusal(*args: Any, **kwargs: Any) -> Refusal:
    before = Store.objects.count()
    with pytest.raises(Refusal) as refused:
        stores.attach(*args, **kwargs)
    assert Store.objects.count() == before, "a refused store leaves no row"
    return refused.value


def test_a_folder_becomes_the_store_of_its_region_after_a_round_trip(beijing: Region, tmp_path: Path) -> None:
    store = stores.attach(beijing, made(tmp_path / "beijing"))
    assert stores.store_of("cn-beijing") == store
    assert (store.state, store.last_error) == ("ok", "")
    assert store.capabilities["if_match"] and store.capabilities["if_none_match"] and store.capabilities["list_uploads"]
    assert abs(store.capabilities["clock_skew_seconds"]) < 5
    left = [str(path.relative_to(tmp_path / "beijing")) for path in (tmp_path / "beijing").rglob("*") if path.is_file()]
    assert left == [marker.KEY]


def test_a_bucket_is_probed_and_its_key_is_sealed(beijing: Region, ceph_regions: tuple[S3Region, S3Region]) -> None:
    place = bucket_store(ceph_regions[0], make_bucket(ceph_regions[0]) + "/backups")
    store = stores.attach(beijing, place.url, place.options, place.credentials)
    assert store.capabilities["etag_is_md5"] and store.capabilities["if_match"] and store.capabilities["list_uploads"]
    again = Store.objects.get(pk=store.pk)
    assert b"region-secret" not in bytes(again.sealed_credentials)
    assert again.credentials()["secret_access_key"] == "region-secret"
    assert [entry.key for entry in again.open().list()] == [marker.KEY]


def test_a_probe_of_a_versioned_bucket_leaves_no_version_behind(
    beijing: Region, ceph_regions: tuple[S3Region, S3Region]
) -> None:
    place = bucket_store(ceph_regions[0], make_bucket(ceph_regions[0], {"versioning": ""}, VERSIONED))
    store = stores.attach(beijing, place.url, place.options, place.credentials)
    assert store.capabilities["versioning"]
    assert bucket_versions(ceph_regions[0], place.url) == [marker.KEY]


def test_two_stores_share_a_bucket_but_never_ground(
    beijing: Region, shanghai: Region, ceph_regions: tuple[S3Region, S3Region]
) -> None:
    bucket = make_bucket(ceph_regions[0])
    place = bucket_store(ceph_regions[0], f"{bucket}/one")
    stores.attach(beijing, place.url, place.options, place.credentials)
    for nested in (bucket, f"{bucket}/one", f"{bucket}/one/deeper"):
        assert refusal(shanghai, nested, place.options, place.credentials).code == "StoreOverlaps"
    stores.attach(shanghai, f"{bucket}/one-more", place.options, place.credentials)


def test_a_folder_inside_another_store_is_refused_also_through_a_link(
    beijing: Region, shanghai: Region, tmp_path: Path
) -> None:
    stores.attach(beijing, made(tmp_path / "a"))
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for nested in (made(tmp_path / "a" / "b"), str(tmp_path), str(tmp_path / "link")):
        assert refusal(shanghai, nested).code == "StoreOverlaps"


def test_a_region_has_one_store_of_each_role(beijing: Region, tmp_path: Path) -> None:
    stores.attach(beijing, made(tmp_path / "a"))
    assert refusal(beijing, made(tmp_path / "b")).code == "RegionHasStore"
    second = stores.attach(beijing, made(tmp_path / "b"), role="second")
    assert stores.store_of("cn-beijing", "second") == second


def test_a_place_of_another_farshore_is_refused(beijing: Region, tmp_path: Path) -> None:
    there = Path(made(tmp_path / "theirs"))
    (there / "farshore").mkdir()
    (there / marker.KEY).write_text(
        json.dumps(
            {
                "installation": "11111111-1111-1111-1111-111111111111",
                "store": "22222222-2222-2222-2222-222222222222",
            }
        )
    )
    assert refusal(beijing, str(there)).code == "StoreTaken"
    (there / marker.KEY).write_text("something else")
    assert refusal(beijing, str(there)).code == "StoreTaken"


def test_a_store_that_comes_back_is_the_same_store(beijing: Region, shanghai: Region, tmp_path: Path) -> None:
    store = stores.attach(beijing, made(tmp_path / "a"))
    assert stores.detach(store) and not stores.detach(store)
    with pytest.raises(Refusal):
        stores.store_of("cn-beijing")
    assert refusal(shanghai, str(tmp_path / "a")).code == "StoreTaken"
    again = stores.attach(beijing, str(tmp_path / "a"))
    assert (again.pk, again.uuid, again.is_attached) == (store.pk, store.uuid, True)


def test_a_marker_outlives_a_lost_database_row(beijing: Region, tmp_path: Path) -> None:
    store = stores.attach(beijing, made(tmp_path / "a"))
    Store.objects.all().delete()
    assert stores.attach(beijing, str(tmp_path / "a")).uuid == store.uuid


def test_a_lifecycle_rule_that_would_delete_our_objects_is_quoted(
    beijing: Region, ceph_regions: tuple[S3Region, S3Region]
) -> None:
    place = bucket_store(ceph_regions[0], make_bucket(ceph_regions[0]))
    ask_bucket(ceph_regions[0], place.url, {"lifecycle": ""}, lifecycle(("clean up", "")))
    refused = refusal(beijing, place.url, place.options, place.credentials)
    assert refused.code == "StoreExpires" and "clean up" in refused.sentence


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"secret_access_key": "wrong"}, "secret_access_key", "Check the secret key"),
        ({"access_key_id": "NOBODY"}, "access_key_id", "Check the access key"),
        ({"access_key_id": ""}, "access_key_id", "Enter an access key"),
    ],
)
def test_wrong_keys_are_told_beside_their_field(
    beijing: Region, ceph_regions: tuple[S3Region, S3Region], change: dict[str, str], field: str, words: str
) -> None:
    place = bucket_store(ceph_regions[0], make_bucket(ceph_regions[0]))
    refused = refusal(beijing, place.url, place.options, {**place.credentials, **change})
    assert (refused.code, refused.field) == ("StoreUnreachable", field)
    assert words in refused.remedy


@pytest.mark.parametrize(
    ("endpoint", "code", "words"),
    [
        ("http://127.0.0.1:9", "StoreUnreachable", "Nothing answers"),
        ("http://169.254.169.254", "StoreUnreachable", "link-local"),
        ("http://[::ffff:169.254.169.254]", "StoreUnreachable", "link-local"),
        ("http://user:word@127.0.0.1", "InvalidEndpoint", "address only"),
        ("ftp://127.0.0.1", "InvalidEndpoint", "no http"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused_in_words(beijing: Region, endpoint: str, code: str, words: str) -> None:
    keys = {"access_key_id": "a", "secret_access_key": "b"}
    refused = refusal(beijing, "s3://bucket", {"endpoint": endpoint}, keys)
    assert (refused.code, refused.field) == (code, "endpoint")
    assert words in refused.sentence


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:secret@bucket",
        "s3://bucket?versionId=1",
        "s3://B",
        "s3://bucket/a//b",
        "s3://bucket/../x",
        "http://bucket",
        "relative/folder",
        "file://host/folder",
        "file:///no/such/folder",
        "",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Refusal) as refused:
        clean_url(url)
    assert refused.value.field == "url"


def test_a_folder_with_our_key_ring_or_outside_the_allowed_roots_is_refused(tmp_path: Path, settings: Any) -> None:
    settings.FARSHORE_KEYS = tmp_path / "data" / "keys"
    made(tmp_path / "data")
    with pytest.raises(Refusal, match="key ring"):
        clean_url(str(tmp_path / "data"))
    settings.FARSHORE_FOLDER_ROOTS = [made(tmp_path / "allowed")]
    with pytest.raises(Refusal, match="FARSHORE_FOLDER_ROOTS"):
        clean_url(made(tmp_path / "beside"))
    assert clean_url(made(tmp_path / "allowed" / "one store")).endswith("/allowed/one%20store")


def test_a_probe_tells_a_store_that_went_away_from_one_that_was_exchanged(beijing: Region, tmp_path: Path) -> None:
    store = stores.attach(beijing, made(tmp_path / "a"))
    (tmp_path / "a").rename(tmp_path / "away")
    assert stores.look(store).state == "unreachable"
    made(tmp_path / "a")
    assert stores.look(store).state == "refused"
    assert "emptied" in store.last_error
    (tmp_path / "a").rmdir()
    (tmp_path / "away").rename(tmp_path / "a")
    assert (stores.probe(store).state, store.last_error) == ("ok", "")


def test_new_keys_are_tried_before_the_old_ones_are_given_up(
    beijing: Region, ceph_regions: tuple[S3Region, S3Region]
) -> None:
    place = bucket_store(ceph_regions[0], make_bucket(ceph_regions[0]))
    store = stores.attach(beijing, place.url, place.options, place.credentials)
    with pytest.raises(Refusal):
        stores.reconnect(store, place.options, {"access_key_id": "AKIAREGION", "secret_access_key": "no"})
    assert Store.objects.get(pk=store.pk).credentials() == place.credentials
    stores.reconnect(store, {**place.options, "region": "us-east-1"}, place.credentials)
    assert Store.objects.get(pk=store.pk).options["region"] == "us-east-1"


def test_there_is_one_installation() -> None:
    assert Installation.current() == Installation.current()
