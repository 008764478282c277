"""CreateDdrInstance of a SQL Server: databases on a landing server of the destination (simulation), by set or time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from backups.chains import windows
from backups.models import Copy, Instance, Kind, ResourceGroup, Restore, ServerDatabase
from console.openapi.keys import NewSecret
from regions import clock
from tests.backups.landings import MINUTE, Place, chain, copied, place_in
from tests.backups.world import SOURCE, TARGET, World
from tests.openapi.conftest import key_of
from tests.openapi.signing import acs3, said

pytestmark = pytest.mark.django_db


@pytest.fixture
def place(world: World) -> Iterator[Place]:
    with place_in(world) as found:
        yield found


@pytest.fixture
def orders(place: Place) -> Instance:
    """Its databases Sales and Wages are copied, with logs."""
    found = place.world.instance("orders")
    copied(place.world, found, *(chain(name) for name in ("Sales", "Wages")))
    return found


@pytest.fixture
def key(world: World) -> NewSecret:
    return key_of(world.user)


def call(client: Client, key: NewSecret, action: str, wish: dict[str, Any]) -> dict[str, Any]:
    return said(acs3(key, action, wish).send(client))


def wish_of(instance: Instance, **more: Any) -> dict[str, Any]:
    return {
        "RegionId": TARGET,
        "SourceRegion": SOURCE,
        "SourceDBInstanceName": instance.code,
        "RestoreType": "BackupTime",
        "Engine": "SQLServer",
        "EngineVersion": "2019",
        "DBInstanceNetType": "Intranet",
        "PayType": "Postpaid",
        "SecurityIPList": "127.0.0.1",
        "DBInstanceClass": "any",
        "DBInstanceStorage": 20,
        **more,
    }


def moment_of(instance: Instance) -> str:
    """A moment that all of its databases reach."""
    [store] = windows.stores_with_copies(instance)
    ends = [windows.chain_of(instance, store, name).window()[-1].end for name in windows.databases_at(instance, store)]
    return f"{min(ends) - 5 * MINUTE:%Y-%m-%dT%H:%M:%SZ}"


def test_all_databases_of_a_moment_come_back_and_one_code_stands_for_them(
    client: Client, key: NewSecret, place: Place, orders: Instance
) -> None:
    row = place.register()
    wish = wish_of(orders, RestoreTime=moment_of(orders), ClientToken="t1")
    assert call(client, key, "CheckCreateDdrDBInstance", wish | {"RestoreType": "1"})["IsValid"] == "true"
    made = call(client, key, "CreateDdrInstance", wish)
    assert call(client, key, "CreateDdrInstance", wish)["DBInstanceId"] == made["DBInstanceId"]
    restores = list(Restore.objects.order_by("pk"))
    assert [(one.database, one.landed_as, one.landing) for one in restores] == [
        ("Sales", "Sales-restored", row),
        ("Wages", "Wages-restored", row),
    ]
    assert restores[0].code == made["DBInstanceId"]
    assert _attribute(client, key, made)["DBInstanceStatus"] == "Creating"
    Restore.objects.filter(pk=restores[0].pk).update(state=Restore.State.READY)
    assert _attribute(client, key, made)["DBInstanceStatus"] == "Creating", "the other one is not there yet"
    Restore.objects.filter(pk=restores[1].pk).update(state=Restore.State.READY)
    ready = _attribute(client, key, made)
    assert ready["DBInstanceStatus"] == "Running"
    assert ready["Tips"] == "Sales: Sales-restored. Wages: Wages-restored."
    Restore.objects.filter(pk=restores[1].pk).update(state=Restore.State.FAILED, error="The share is gone.")
    failed = _attribute(client, key, made)
    assert failed["DBInstanceStatus"] == "CreateFailed" and "Wages: The share is gone." in failed["Tips"]


def _attribute(client: Client, key: NewSecret, made: dict[str, Any]) -> dict[str, Any]:
    answer = call(client, key, "DescribeDBInstanceAttribute", {"DBInstanceId": made["DBInstanceId"]})
    return answer["Items"]["DBInstanceAttribute"][0]


def test_a_set_is_one_databases_and_is_called_as_was_said(
    client: Client, key: NewSecret, place: Place, orders: Instance
) -> None:
    place.register()
    copy = Copy.objects.get(set__instance=orders, set__database="Wages", set__kind=Kind.FULL)
    wish = wish_of(orders, RestoreType="BackupSet", BackupSetId=copy.pk, DBInstanceDescription="Wages at last")
    assert call(client, key, "CreateDdrInstance", wish)["DBInstanceId"] == Restore.objects.get().code
    assert (Restore.objects.get().landed_as, Restore.objects.get().database) == ("Wages at last", "Wages")


def test_a_database_that_was_not_there_yet_is_left_out_and_one_with_a_gap_is_refused(
    client: Client, key: NewSecret, place: Place, orders: Instance
) -> None:
    place.register()
    moment = moment_of(orders)
    copied(place.world, orders, chain("Young", ago=10 * MINUTE, logs=0))
    wish = wish_of(orders, RestoreTime=moment)
    at = clock.now()
    ServerDatabase.objects.create(instance=orders, name="Wages", first_seen_at=at, seen_at=at)
    assert call(client, key, "CheckCreateDdrDBInstance", wish | {"RestoreType": "1"})["IsValid"] == "true"
    logs = Copy.objects.filter(set__instance=orders, set__database="Wages", set__kind=Kind.LOG)
    logs.update(state="damaged")
    refused = call(client, key, "CreateDdrInstance", wish)
    assert "Wages" in refused["Message"] and not Restore.objects.exists()
    ServerDatabase.objects.update(gone_at=at)
    call(client, key, "CreateDdrInstance", wish)
    assert [one.database for one in Restore.objects.all()] == ["Sales"], "neither Young nor what was dropped"


def test_without_a_landing_server_that_may_be_used_it_says_what_to_do(
    client: Client, key: NewSecret, place: Place, orders: Instance
) -> None:
    wish = wish_of(orders, RestoreTime=moment_of(orders))
    assert "registered and granted" in call(client, key, "CreateDdrInstance", wish)["Recommend"]
    place.register(groups=[ResourceGroup.objects.create(name="Others")])
    assert call(client, key, "CreateDdrInstance", wish)["Code"] == "IncorrectDBInstanceEngine"
    assert not Restore.objects.exists()


def test_the_zone_names_the_landing_server_where_there_are_several(
    client: Client, key: NewSecret, place: Place, orders: Instance
) -> None:
    first, second = place.register(), place.register(name="landing-2")
    wish = wish_of(orders, RestoreTime=moment_of(orders), ZoneId=second.code)
    call(client, key, "CreateDdrInstance", wish)
    assert {one.landing for one in Restore.objects.all()} == {second}
    call(client, key, "CreateDdrInstance", wish | {"ZoneId": "cn-shanghai-b"})
    assert set(Restore.objects.values_list("landing", flat=True)) == {first.pk, second.pk}
