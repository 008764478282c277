"""Stores attached and let go of, instances added, backed up, released: plain forms, and why when they fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from backups.models import Arrival, BackupJob, Event, Instance
from regions.models import Store
from tests.console.fleet import Fleet

HTMX = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "dialog-body"}
TEST = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "test"}


def words(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


@pytest.fixture
def root(client: Client, fleet: Fleet) -> Client:
    client.force_login(fleet.root())
    return client


def store(folder: Path | str, **changes: str) -> dict[str, str]:
    return {"place": "cn-beijing", "url": str(folder)} | changes


def found(fleet: Fleet, **changes: Any) -> dict[str, Any]:
    return {
        "name": "orders",
        "group": fleet.group.pk,
        "region": "cn-hangzhou",
        "engine": "sqlserver",
        "edition": "basic",
        "family": "dedicated",
        "billing_method": "subscription",
        "backup_method": "physical",
        "arrival": "found",
        "prefixes": "sql/orders/\n sql/more/ ",
        "timetable_days": [0, 2, 4],
        "timetable_time": "02:30",
        "default_retention_days": "7",
        "tls": "prefer",
    } | changes


# ---- stores


def test_a_store_is_attached_after_a_round_trip(root: Client, tmp_path: Path) -> None:
    folder = tmp_path / "beijing"
    folder.mkdir()
    assert "was deleted again" in words(root.post("/stores/attach/test/", store(folder), **TEST))
    assert not Store.objects.filter(region="cn-beijing").exists()
    answer = root.post("/stores/attach/", store(folder), follow=True)
    assert "is attached" in words(answer)
    assert Store.objects.get(region="cn-beijing").attached_by.username == "root"
    assert Event.objects.filter(kind="store.attached").exists()


def test_a_store_that_fails_says_why_and_is_not_kept(root: Client, tmp_path: Path) -> None:
    missing = store(tmp_path / "nothing-here")
    for address, more in (("/stores/attach/", {}), ("/stores/attach/test/", TEST)):
        shown = words(root.post(address, missing, **more))
        assert "nothing-here" in shown
        assert 'role="alert"' in shown
    assert not Store.objects.filter(region="cn-beijing").exists()
    assert not (tmp_path / "nothing-here").exists()


def test_a_key_is_never_shown_again(root: Client, tmp_path: Path) -> None:
    shown = words(
        root.post(
            "/stores/attach/",
            store("s3://b/p", access_key_id="AK", secret_access_key="hush", endpoint="http://127.0.0.1:1"),
        )
    )
    assert "hush" not in shown


def test_a_store_is_probed_again(root: Client, tmp_path: Path) -> None:
    folder = tmp_path / "beijing"
    folder.mkdir()
    root.post("/stores/attach/", store(folder))
    place = Store.objects.get(region="cn-beijing")
    answer = root.post(f"/stores/{place.pk}/probe/", **HTMX)
    assert "answers" in answer.headers["HX-Trigger"]
    folder.rename(tmp_path / "moved")
    answer = root.post(f"/stores/{place.pk}/probe/", **HTMX)
    assert '"tone": "bad"' in answer.headers["HX-Trigger"]
    place.refresh_from_db()
    assert place.state != Store.State.OK
    assert place.last_error in words(root.get("/stores/")).replace("&#x27;", "'")


def test_a_store_in_use_is_not_detached(root: Client, fleet: Fleet) -> None:
    fleet.instance("orders")
    source, idle = fleet.stores["cn-hangzhou"], fleet.stores["ap-southeast-1"]
    assert "Release them first" in words(root.get(f"/stores/{source.pk}/detach/", **HTMX))
    root.post(f"/stores/{source.pk}/detach/", **HTMX)
    assert Store.objects.attached().filter(pk=source.pk).exists()
    root.post(f"/stores/{idle.pk}/detach/", **HTMX)
    assert not Store.objects.attached().filter(pk=idle.pk).exists()


def test_stores_are_an_installation_level_right(desk: Client, fleet: Fleet, tmp_path: Path) -> None:
    place = fleet.stores["cn-shanghai"]
    assert "Attach a store" not in words(desk.get("/stores/"))
    assert desk.get("/stores/attach/").status_code == 403
    for address in (
        "/stores/attach/",
        "/stores/attach/test/",
        f"/stores/{place.pk}/probe/",
        f"/stores/{place.pk}/detach/",
    ):
        assert desk.post(address, store(tmp_path)).status_code == 403


# ---- instances


def test_an_instance_known_by_its_files_is_added(desk: Client, fleet: Fleet) -> None:
    answer = desk.post("/instances/add/", found(fleet), follow=True)
    instance = Instance.objects.get()
    assert answer.redirect_chain[-1][0] == f"/instances/{instance.code}/"
    assert instance.prefixes == ["sql/orders/", "sql/more/"]
    assert (instance.timetable_days, str(instance.timetable_time)) == ([0, 2, 4], "02:30:00")
    assert Event.objects.filter(kind="instance.added", instance=instance, actor=fleet.user).exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prefixes": ""}, "Say where its files lie"),
        ({"prefixes": "farshore/v1/"}, "where Farshore itself writes"),
        ({"arrival": "taken"}, "Say how to reach the server"),
        ({"share_called": "/var/backups"}, "Say where the server writes its backups"),
        ({"log_every_minutes": "5"}, "takes no log backups of this"),
        ({"engine": "postgresql", "arrival": "taken", "share_called": "/x"}, "leave the share empty"),
        ({"engine": "postgresql"}, "are not discovered"),
        ({"region": "cn-beijing"}, "valid choice"),
        ({"default_retention_days": "6"}, "default_retention_days"),
    ],
)
def test_an_instance_that_cannot_be_added_says_why(
    desk: Client, fleet: Fleet, changes: dict[str, str], reason: str
) -> None:
    answer = desk.post("/instances/add/", found(fleet, **changes))
    assert answer.status_code == 200
    assert reason in words(answer)
    assert not Instance.objects.exists()


def test_the_prefix_of_another_instance_is_refused(desk: Client, fleet: Fleet) -> None:
    fleet.instance("theirs", prefixes=["sql/"])
    assert "overlaps one of theirs" in words(desk.post("/instances/add/", found(fleet)))
    assert "overlaps one of theirs" in words(desk.post("/instances/add/test/", found(fleet), **TEST))


def test_a_server_that_does_not_answer_says_so_and_is_not_kept(desk: Client, fleet: Fleet) -> None:
    taken = found(
        fleet, engine="postgresql", arrival=Arrival.TAKEN, host="127.0.0.1", port="1", username="u", password="hush"
    )
    for address, more in (("/instances/add/", {}), ("/instances/add/test/", TEST)):
        shown = words(desk.post(address, taken, **more))
        assert 'role="alert"' in shown
        assert "hush" not in shown
    assert not Instance.objects.exists()


def test_an_instance_is_added_only_to_ones_own_group(desk: Client, fleet: Fleet) -> None:
    from backups.models import ResourceGroup

    theirs = ResourceGroup.objects.create(name="Elsewhere")
    desk.post("/instances/add/", found(fleet, group=theirs.pk))
    assert not Instance.objects.exists()


def test_a_backup_is_asked_for_once_however_often_it_is_clicked(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("telemetry", engine="postgresql", engine_version="16.4", arrival="taken", host="10.0.0.8")
    address = f"/instances/{instance.code}/backup/"
    assert "A full backup is taken now" in words(desk.get(address, **HTMX))
    for _ in range(3):
        assert desk.post(address, **HTMX).status_code == 204
    assert BackupJob.objects.count() == 1
    assert "A full backup is queued" in words(desk.get(f"/instances/{instance.code}/"))


def test_a_backup_that_farshore_does_not_take_is_refused(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    answer = desk.post(f"/instances/{instance.code}/backup/", **HTMX)
    assert "does not take backups of this instance" in answer.headers["HX-Trigger"]
    assert not BackupJob.objects.exists()


def test_releasing_says_what_stays_and_is_done_once(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders", days=30)
    address = f"/instances/{instance.code}/release/"
    assert "all copies stay their full 30 days" in words(desk.get(address, **HTMX))
    led = desk.post(address, **HTMX).headers["HX-Redirect"]
    assert Instance.objects.get().released
    shown = words(desk.get(led))
    assert "orders was released." in shown and address not in shown, "the page is as it is now: no second Release"
    assert "already" in desk.post(address, **HTMX).headers["HX-Trigger"]
    assert "Released" in words(desk.get("/backups/instances/"))
