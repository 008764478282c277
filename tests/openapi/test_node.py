"""The vendor's Node SDK, unchanged, against our web server. It is not installed by itself (tests/openapi/node)."""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backups import restoring
from backups.terms import agreements
from console.openapi.keys import NewSecret
from tests.backups.landings import Place, chain, place_in
from tests.backups.world import SOURCE, TARGET, World
from tests.openapi.conftest import key_of
from tests.programs import needs, needs_in

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

NODE = Path(__file__).parent / "node"


@pytest.fixture(autouse=True)
def _sdk() -> None:
    needs("node")
    needs_in(NODE / "node_modules", "the vendor's Node SDK (npm install --prefix tests/openapi/node)")


def call(address: str, key: NewSecret, action: str, **parameters: Any) -> dict[str, Any]:
    said = {
        "endpoint": address,
        "id": key.key.key_id,
        "secret": key.secret,
        "action": action,
        "parameters": parameters,
    }
    done = subprocess.run(["node", "call.js", json.dumps(said)], cwd=NODE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_pipeline_in_node(address: str, world: World) -> None:
    orders, key = world.instance("orders"), key_of(world.user, accepts_rules=True)
    world.store(TARGET)
    agreements.accept_standing(world.group, "mainland", "mainland", world.by)
    where = {"regionId": SOURCE, "DBInstanceId": orders.code}
    wish = where | {"backupEnabled": "1", "crossBackupRegion": TARGET, "retention": 14}
    assert call(address, key, "ModifyInstanceCrossBackupPolicy", **wish)["backupEnabled"] == "Enable"
    assert call(address, key, "DescribeInstanceCrossBackupPolicy", **where)["retention"] == 14
    path = world.drop(orders, "sales.bak", *chain(logs=0))
    world.find(orders)
    world.carry(TARGET)
    [item] = call(address, key, "DescribeCrossRegionBackups", **where)["items"]["item"]
    assert (item["backupSetStatus"], item["crossBackupRegion"]) == (0, TARGET)
    with urllib.request.urlopen(item["crossBackupDownloadLink"]) as fetched:
        assert fetched.read() == path.read_bytes()
    with place_in(world) as place:
        _restored(address, key, place, item["crossBackupId"])
    off = call(address, key, "ModifyInstanceCrossBackupPolicy", **where, backupEnabled="0")
    assert off["backupEnabled"] == "Disable"


def _restored(address: str, key: NewSecret, place: Place, copy_id: int) -> None:
    place.register()
    wish = {
        "regionId": TARGET,
        "backupSetId": str(copy_id),
        "restoreType": "BackupSet",
        "engine": "SQLServer",
        "engineVersion": "2022",
        "DBInstanceNetType": "Intranet",
        "payType": "Postpaid",
        "securityIPList": "127.0.0.1",
    }
    made = call(address, key, "CreateDdrInstance", **wish)
    restoring.run(restoring.claim(TARGET), threading.Event())
    found = call(address, key, "DescribeDBInstanceAttribute", DBInstanceId=made["DBInstanceId"])
    assert found["items"]["DBInstanceAttribute"][0]["DBInstanceStatus"] == "Running"
    assert place.machine.database("Sales-restored").state == "ONLINE"


def test_refusals_in_node(address: str, world: World) -> None:
    key = key_of(world.user)
    assert call(address, replace(key, secret="wrong"), "DescribeRegions")["code"] == "SignatureDoesNotMatch"
    nothing = {"DBInstanceId": "rm-nothing"}
    assert call(address, key, "DescribeBackups", **nothing)["code"] == "InvalidDBInstance.NotFound"
    assert call(address, key, "DeleteDBInstance", **nothing)["code"] == "InvalidAction.NotFound"
