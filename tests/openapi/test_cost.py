"""What a call that reads costs in statements, and that what was spared tells the same as what it stands for."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from backups import access
from backups.models import BackupJob, Copy, Instance, Membership, ResourceGroup, Role
from console.openapi import callers
from console.openapi.callers import Claim, Rights
from console.openapi.keys import NewSecret
from console.openapi.operations import OPERATIONS
from console.openapi.operations.spelling import Epoch, Second, second
from tests.console.fleet import Fleet
from tests.openapi.conftest import key_of
from tests.openapi.signing import acs3, said
from tests.openapi.test_operations import wish_for

# Two for the door: who calls, and whether they may once more. Each costs a web process a tenth of what 500 calls a
# second leave it for a call.
PINS = {
    "CheckCreateDdrDBInstance": 6,  # whatever speaks against a restore is looked for
    "CheckServiceLinkedRole": 4,
    "DescribeAvailableCrossRegion": 4,
    "DescribeAvailableRecoveryTime": 4,
    "DescribeBackupPolicy": 4,
    "DescribeBackupTasks": 4,
    "DescribeBackups": 4,
    "DescribeBinlogFiles": 5,
    "DescribeCrossBackupMetaList": 4,
    "DescribeCrossRegionBackupDBInstance": 4,
    "DescribeCrossRegionBackups": 4,
    "DescribeCrossRegionLogBackupFiles": 4,
    "DescribeDBInstanceAttribute": 4,
    "DescribeDBInstances": 3,
    "DescribeDatabases": 4,
    "DescribeDetachedBackups": 3,
    "DescribeInstanceCrossBackupPolicy": 4,
    "DescribeLocalAvailableRecoveryTime": 4,
    "DescribeLogBackupFiles": 4,
    "DescribeRegions": 3,
    "DescribeTasks": 5,
}
RESTORED_HERE = {"engine": "postgresql", "engine_version": "16.4", "data_bytes": 10**7}

pytestmark = pytest.mark.django_db


def test_every_operation_that_reads_has_a_pin() -> None:
    assert set(PINS) == {one.name for one in OPERATIONS.values() if not one.changes}


@pytest.mark.parametrize("name", sorted(PINS))
def test_a_call_costs_the_same_however_much_there_is(client: Client, fleet: Fleet, key: NewSecret, name: str) -> None:
    instance = fleet.protected("orders", **RESTORED_HERE if name == "CheckCreateDdrDBInstance" else {})
    gone = fleet.protected("gone", copies=1)
    Instance.objects.filter(pk=gone.pk).update(released_at=fleet.now)
    copy = Copy.objects.filter(set__instance=instance).order_by("pk").last()
    call = wish_for(name, instance, copy)
    if name == "DescribeDBInstanceAttribute":  # not mandatory, by the vendor's word
        call["DBInstanceId"] = instance.code
    if name == "CheckCreateDdrDBInstance":
        call |= {"Engine": "PostgreSQL", "EngineVersion": RESTORED_HERE["engine_version"]}
    statements(client, key, name, call)
    assert statements(client, key, name, call) <= PINS[name]
    more(fleet, instance)
    assert statements(client, key, name, call) <= PINS[name]


def more(fleet: Fleet, instance: Instance) -> None:
    """More than a page of everything that is listed."""
    policy, now = instance.policies.get(), fleet.now
    for n in range(35):
        fleet.protected(f"more-{n:02}", copies=1)
        for kind in ("full", "log"):
            fleet.copy(fleet.backup(instance, age=timedelta(days=5 + n), kind=kind, database=f"d{n}"), policy)
        instance.databases.create(name=f"d{n}", state="ONLINE", first_seen_at=now, seen_at=now)
        BackupJob.objects.create(instance=instance, database=f"d{n}", reason="timetable", asked_at=now, due_at=now)


def statements(client: Client, key: NewSecret, name: str, wish: dict[str, Any]) -> int:
    with CaptureQueriesContext(connection) as seen:
        assert "Code" not in said(acs3(key, name, wish).send(client))
    return len(seen)


# ---- what a key may comes with it, in a statement of its own; `access` says the same for people


@pytest.mark.parametrize("reach", ["viewer", "operator"])
def test_a_key_sees_and_operates_what_access_gives_its_owner_and_no_more(fleet: Fleet, reach: str) -> None:
    groups = [ResourceGroup.objects.create(name=f"group {n}") for n in range(3)]
    people = [User.objects.create_user("nobody"), fleet.root()]
    for n, (role, other) in enumerate(product(Role.values, Role.values)):
        people.append(User.objects.create_user(f"person-{n}"))
        Membership.objects.create(user=people[-1], group=groups[0], role=role)
        Membership.objects.create(user=people[-1], group=groups[1], role=other)
    for person in people:
        for limit in (None, [], groups[1:], groups[:1]):
            key = key_of(person, reach=reach, **({} if limit is None else {"groups": []}))
            key.key.groups.set(limit or [])  # of which the owner may have left some since
            found = callers.known(Claim(key.key.key_id, "", "", "", "", "", "", "")).rights
            among = set(ResourceGroup.objects.values_list("pk", flat=True) if limit is None else [g.pk for g in limit])
            seen = set(access.groups_for(person).values_list("pk", flat=True)) & among
            operated = set(access.groups_for(person, Role.OPERATOR).values_list("pk", flat=True)) & among
            wanted = Rights(sorted(seen), sorted(operated) if reach == "operator" else [])
            assert Rights(sorted(found.sees), sorted(found.operates)) == wanted, (person, limit)


def test_what_is_taken_away_is_gone_at_the_next_call(client: Client, fleet: Fleet, key: NewSecret) -> None:
    fleet.protected("orders")
    wish = {"RegionId": "cn-hangzhou"}
    assert said(acs3(key, "DescribeDBInstances", wish).send(client))["TotalRecordCount"] == 1
    Membership.objects.all().delete()
    assert said(acs3(key, "DescribeDBInstances", wish).send(client))["TotalRecordCount"] == 0
    User.objects.update(is_active=False)
    assert said(acs3(key, "DescribeDBInstances", wish).send(client))["Code"] == "InvalidAccessKeyId.Inactive"


# ---- times


@pytest.mark.parametrize("said", ["2026-01-02T03:04:05.999999+00:00", "1999-12-31T23:59:59+00:00"])
def test_a_moment_is_spelled_by_postgresql_as_by_us(fleet: Fleet, said: str) -> None:
    at = datetime.fromisoformat(said)
    Instance.objects.filter(pk=fleet.instance("orders").pk).update(created_at=at)
    row = Instance.objects.values(second=Second("created_at"), epoch=Epoch("created_at"), none=Second("released_at"))
    assert row.get() == {"second": second(at), "epoch": int(at.timestamp()), "none": None}


# ---- the first statement is the connection's health check


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_the_server_closed_is_opened_again(client: Client, fleet: Fleet, key: NewSecret) -> None:
    said(acs3(key, "DescribeRegions").send(client))
    lost = connection.connection.info.backend_pid
    other = connections.create_connection("default")
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [lost])
    other.close()
    assert "Code" not in said(acs3(key, "DescribeRegions").send(client))
    assert connection.connection.info.backend_pid != lost
