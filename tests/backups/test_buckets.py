"""Which servers write into their region's own store, under which address, and how an attempt is told by its key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import LazySettings

from backups import default_backups, layout
from backups.default_backups import buckets
from backups.layout import Written
from backups.models import BackupJob, Instance
from regions import clock
from regions.models import Store
from regions.refusals import Refusal
from tests.backups.world import SOURCE, World

KEY = {"access_key_id": "AKIA", "secret_access_key": "a secret of the store"}


def attached(url: str = "s3://place/backups", credentials: dict[str, str] | None = None, **options: str) -> Store:
    """A store that nobody has looked at; nothing here reaches it."""
    store = Store(region_id=SOURCE, url=url, options=options, attached_at=clock.now())
    store.keep_credentials(KEY if credentials is None else credentials)
    store.save()
    return store


def server(world: World, **more: Any) -> Instance:
    given = {"name": "sql", "region_id": SOURCE, "group": world.group, "engine": "sqlserver", "arrival": "taken"}
    return Instance.objects.create(**given | {"host": "192.0.2.9", "engine_version": "16.0.1000.6"} | more)


def test_a_server_of_2022_with_a_host_and_no_share_writes_to_s3(world: World) -> None:
    attached()
    instance = server(world)
    assert default_backups.can_take(instance) and default_backups.is_in_turn(instance)
    assert set(default_backups.kinds_of(instance)) == {"full", "differential", "log"}


@pytest.mark.parametrize(
    "more",
    [
        {"engine_version": "15.0.4430.1"},
        {"engine_version": ""},
        {"host": ""},
        {"share_called": "\\\\files\\sql"},
        {"engine": "postgresql", "arrival": "found"},
    ],
)
def test_no_other_does(world: World, more: dict[str, Any]) -> None:
    attached()
    instance = server(world, **more)
    assert not buckets.is_known(instance) and not default_backups.can_take(instance)


def test_a_folder_is_no_bucket(world: World) -> None:
    world.store(SOURCE)
    assert not default_backups.can_take(server(world))


def test_beside_somebody_elses_job_only_fulls_are_asked_for(world: World) -> None:
    """R-6.2b."""
    attached()
    instance = server(world, arrival="found")
    assert default_backups.kinds_of(instance) == ["full"]
    assert default_backups.ask(instance, world.by, database="Orders").is_copy_only


@pytest.mark.parametrize(
    ("store", "code"),
    [
        ({"endpoint": "http://store.example:9000"}, "StoreNotHttps"),
        ({"url": "s3://place/with a space"}, "BadAddressForServer"),
    ],
)
def test_a_store_that_no_server_writes_to_is_refused_with_a_remedy(
    world: World, settings: LazySettings, store: dict[str, str], code: str
) -> None:
    settings.FARSHORE_ALLOW_LOOPBACK = False
    attached(**store)
    instance = server(world)
    assert not default_backups.can_take(instance)
    with pytest.raises(Refusal) as refused:
        default_backups.ask(instance, world.by, database="Orders")
    assert refused.value.code == code and refused.value.remedy


@pytest.mark.parametrize(
    ("options", "device"),
    [
        ({}, "s3://s3.us-east-1.amazonaws.com/place/backups/k"),
        ({"region": "cn-north-1"}, "s3://s3.cn-north-1.amazonaws.com/place/backups/k"),
        ({"endpoint": "https://minio:9000"}, "s3://minio:9000/place/backups/k"),
        ({"endpoint": "https://oss.example", "addressing": "virtual"}, "s3://place.oss.example/backups/k"),
    ],
)
def test_the_address_is_that_of_the_store(world: World, options: dict[str, str], device: str) -> None:
    bucket = buckets.bucket_of(attached(**options))
    assert bucket.device("k") == device
    assert bucket.region == options.get("region", "")
    assert KEY["secret_access_key"] not in repr(bucket)


@pytest.mark.parametrize("odd", [{"session_token": "for an hour"}, {"access_key_id": "with:colon"}])
def test_a_key_that_no_server_can_use_is_refused(world: World, odd: dict[str, str]) -> None:
    with pytest.raises(Refusal) as refused:
        buckets.bucket_of(attached(credentials=KEY | odd))
    assert refused.value.code == "BadKeyForServer" and KEY["secret_access_key"] not in str(refused.value)


@pytest.mark.parametrize("kind", ["full", "differential", "log"])
@pytest.mark.parametrize("stripes", [1, 64])
def test_a_key_tells_its_attempt_and_the_other_files(world: World, kind: str, stripes: int) -> None:
    began_at = datetime(2026, 11, 27, 13, 0, 1, 999_999, tzinfo=UTC)
    job = BackupJob(pk=17, instance=server(world), kind=kind, fence=3, started_at=began_at)
    keys = layout.written_keys(job, stripes)
    found = Written.of(keys[0])
    assert found.keys == keys and len(set(keys)) == stripes
    attempt = found.attempt
    assert (attempt.owner, attempt.job, attempt.number) == (job.instance.code, 17, 3)
    assert attempt.began_at == began_at.replace(microsecond=0)
    assert buckets._kind_of(job, found) == kind
    assert all(layout.journaled(key) == keys[0] for key in keys)


def test_another_key_is_none_of_a_server(world: World) -> None:
    job = BackupJob(pk=17, instance=server(world), kind="log", fence=3)
    for key in ("", layout.default_backup_key(job), "farshore/v1/a/b/written/1/1.1of1.trn", "x/written/1/1-1.1of1.trn"):
        assert Written.of(key) is None and layout.journaled(key) == key
