"""The vendor's SDKs, unchanged, against our web server: the same loop a pipeline runs, and every refusal's code."""

from __future__ import annotations

import json
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest
from alibabacloud_rds20140815 import models
from alibabacloud_rds20140815.client import Client as Rds
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException
from alibabacloud_tea_openapi.utils_models import Config
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.request import RpcRequest
from darabonba.runtime import RuntimeOptions

from backups import restoring
from backups.models import Copy, CopyState, Instance, Restore
from backups.terms import agreements
from console.openapi import keys
from console.openapi.contract import CONTRACT
from console.openapi.keys import NewSecret
from tests.backups.landings import Place, chain, place_in
from tests.backups.world import SOURCE, TARGET, World
from tests.openapi.conftest import key_of
from tests.openapi.signing import acs3
from tests.openapi.test_operations import by_set, wish_for

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]


# ---- both SDKs behind one face


@dataclass(frozen=True)
class Failed(Exception):
    code: str
    status: int


Call = Callable[..., dict[str, Any]]


def new_sdk(address: str, key: NewSecret) -> Call:
    config = Config(
        access_key_id=key.key.key_id, access_key_secret=key.secret, endpoint=address, protocol="http", region_id=SOURCE
    )
    client, runtime = Rds(config), RuntimeOptions(autoretry=False, max_attempts=1)

    def call(action: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        request = getattr(models, f"{action}Request")().from_map(parameters or {})
        try:
            answer = getattr(client, f"{_snake(action)}_with_options")(request, runtime)
        except AlibabaCloudException as error:
            raise Failed(error.code, error.status_code) from error
        return answer.body.to_map()

    return call


def _snake(action: str) -> str:
    """As the generator of the SDK spells its methods: DescribeDBInstances → describe_dbinstances."""
    words = ""
    for before, letter in zip(" " + action, action, strict=False):
        words += ("_" if letter.isupper() and before.islower() else "") + letter.lower()
    return words


def old_sdk(address: str, key: NewSecret) -> Call:
    client = AcsClient(key.key.key_id, key.secret, SOURCE, auto_retry=False)

    def call(action: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        module = __import__(f"aliyunsdkrds.request.v20140815.{action}Request", fromlist=["x"])
        request: RpcRequest = getattr(module, f"{action}Request")()
        request.set_endpoint(address)
        request.set_protocol_type("http")
        for name, value in (parameters or {}).items():
            request.add_query_param(name, value)
        try:
            return json.loads(client.do_action_with_exception(request))
        except ServerException as error:
            raise Failed(error.get_error_code(), error.get_http_status()) from error

    return call


SDKS = [new_sdk, old_sdk]


def code_of(call: Call, action: str, parameters: dict[str, Any] | None = None) -> str:
    with pytest.raises(Failed) as failed:
        call(action, parameters)
    return failed.value.code


@pytest.fixture
def key(world: World) -> NewSecret:
    return key_of(world.user, accepts_rules=True)


@pytest.fixture
def place(world: World) -> Iterator[Place]:
    """Where databases are restored (simulation)."""
    with place_in(world) as found:
        yield found


def ddr_of(copy_id: int) -> dict[str, Any]:
    """What a restore of a set in the destination is asked with."""
    return {
        "RegionId": TARGET,
        "BackupSetId": str(copy_id),
        "Engine": "SQLServer",
        "EngineVersion": "2022",
        "DBInstanceNetType": "Intranet",
        "PayType": "Postpaid",
        "SecurityIPList": "127.0.0.1",
        "DBInstanceClass": "any",
        "DBInstanceStorage": 20,
    }


@pytest.fixture
def orders(world: World) -> Instance:
    world.store(TARGET)
    return world.instance("orders", engine_version="2022")


# ---- the loop


@pytest.mark.parametrize("sdk", SDKS)
def test_a_pipeline_enables_watches_fetches_restores_and_disables(
    address: str, world: World, orders: Instance, place: Place, key: NewSecret, sdk: Any
) -> None:
    place.register()
    agreements.accept_standing(world.group, "mainland", "mainland", world.by)
    call, where = sdk(address, key), {"RegionId": SOURCE, "DBInstanceId": orders.code}
    assert TARGET in call("DescribeAvailableCrossRegion", {"RegionId": SOURCE})["Regions"]["Region"]
    wish = where | {"BackupEnabled": "1", "CrossBackupRegion": TARGET, "CrossBackupType": "1", "Retention": 14}
    done = call("ModifyInstanceCrossBackupPolicy", wish)
    assert (done["BackupEnabled"], done["Retention"]) == ("Enable", 14)
    read = call("DescribeInstanceCrossBackupPolicy", where)
    assert (read["BackupEnabled"], read["CrossBackupRegion"], read["Retention"]) == ("Enable", TARGET, 14)
    assert call("DescribeCrossRegionBackups", where)["Items"]["Item"] == []

    path = world.drop(orders, "sales.bak", *chain(logs=0))
    world.find(orders)
    assert call("DescribeCrossRegionBackups", where)["Items"]["Item"] == []
    world.carry(TARGET)
    [item] = call("DescribeCrossRegionBackups", where)["Items"]["Item"]
    assert item["CrossBackupId"] == Copy.objects.get(state=CopyState.COMPLETED).pk
    assert item["BackupSetStatus"] == 0 and item["RestoreRegions"]["RestoreRegion"] == [TARGET]
    with urllib.request.urlopen(item["CrossBackupDownloadLink"]) as fetched:
        assert fetched.read() == path.read_bytes()

    there = ddr_of(item["CrossBackupId"])
    assert call("CheckCreateDdrDBInstance", there | {"RestoreType": "0"})["IsValid"] == "true"
    made = call("CreateDdrInstance", there | {"RestoreType": "BackupSet"})["DBInstanceId"]
    restoring.run(restoring.claim(TARGET), threading.Event())
    [coming] = call("DescribeDBInstanceAttribute", {"DBInstanceId": made})["Items"]["DBInstanceAttribute"]
    assert (coming["DBInstanceStatus"], coming["Tips"]) == ("Running", "Sales: Sales-restored.")
    assert place.machine.database("Sales-restored").state == "ONLINE"

    ended = call("ModifyInstanceCrossBackupPolicy", where | {"BackupEnabled": "0"})
    assert ended["BackupEnabled"] == "Disable"
    assert call("DescribeCrossRegionBackupDBInstance", {"RegionId": SOURCE})["TotalRecords"] == 1


@pytest.mark.parametrize("sdk", SDKS)
def test_every_refusal_has_its_documented_code(
    address: str, world: World, orders: Instance, key: NewSecret, sdk: Any
) -> None:
    good, where = sdk(address, key), {"RegionId": SOURCE, "DBInstanceId": orders.code}
    wrong = code_of(sdk(address, replace(key, secret="wrong")), "DescribeRegions")
    assert wrong == ("SignatureDoesNotMatch" if sdk is new_sdk else "InvalidAccessKeySecret")  # the old one translates
    assert code_of(good, "DescribeInstanceCrossBackupPolicy", where | {"DBInstanceId": "rm-no"}) == (
        "InvalidDBInstance.NotFound"
    )
    assert code_of(good, "DeleteDBInstance", {"DBInstanceId": "a"}) == "InvalidAction.NotFound"
    assert code_of(good, "ModifyInstanceCrossBackupPolicy", where) == "ParameterLeastAssociate"
    modify = where | {"BackupEnabled": "1", "CrossBackupRegion": TARGET}
    assert code_of(good, "ModifyInstanceCrossBackupPolicy", modify) == "AgreementNotAccepted"
    keys.disable(key.key, world.by)
    assert code_of(good, "DescribeRegions") == "InvalidAccessKeyId.Inactive"


def test_a_replayed_tampered_or_stale_call_of_the_new_sdk(
    address: str, key: NewSecret, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alibabacloud_tea_openapi.utils import Utils

    call = new_sdk(address, key)
    monkeypatch.setattr(Utils, "get_nonce", staticmethod(lambda: "the same again"[:3]))
    call("DescribeRegions")
    for _ in range(4):  # whichever of the two processes answers
        assert code_of(call, "DescribeRegions") == "SignatureNonceUsed"
    monkeypatch.undo()
    monkeypatch.setattr(Utils, "get_timestamp", staticmethod(lambda: "2020-01-01T00:00:00Z"))
    assert code_of(call, "DescribeRegions") == "InvalidTimeStamp.Expired"
    monkeypatch.undo()
    sign = Utils.get_authorization
    monkeypatch.setattr(Utils, "get_authorization", staticmethod(lambda request, *rest: _tampered(sign, request, rest)))
    assert code_of(call, "DescribeAvailableCrossRegion", {"RegionId": SOURCE}) == "SignatureDoesNotMatch"


def _tampered(sign: Any, request: Any, rest: Any) -> str:
    header = sign(request, *rest)
    request.query["RegionId"] = TARGET
    return header


def test_a_replayed_tampered_or_stale_call_of_the_old_sdk(
    address: str, key: NewSecret, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aliyunsdkcore.auth.composer import rpc_signature_composer
    from aliyunsdkcore.utils import parameter_helper

    call = old_sdk(address, key)
    monkeypatch.setattr(parameter_helper, "get_uuid", lambda: "the-same-again")
    call("DescribeRegions")
    for _ in range(4):
        assert code_of(call, "DescribeRegions") == "SignatureNonceUsed"
    monkeypatch.undo()
    monkeypatch.setattr(parameter_helper, "get_iso_8061_date", lambda: "2020-01-01T00:00:00Z")
    assert code_of(call, "DescribeRegions") == "InvalidTimeStamp.Expired"
    monkeypatch.undo()
    signed = rpc_signature_composer.get_signed_url

    def tampered(*arguments: Any) -> tuple[str, str]:
        url, string = signed(*arguments)
        return f"{url}&Tampered=yes", string

    monkeypatch.setattr(rpc_signature_composer, "get_signed_url", tampered)
    assert code_of(call, "DescribeRegions") == "SignatureDoesNotMatch"


def at_once(send: Callable[[], str], times: int = 8) -> list[str]:
    with ThreadPoolExecutor(times) as threads:
        return list(threads.map(lambda _: send(), range(times)))


def test_of_calls_with_one_nonce_that_come_at_once_one_is_answered(address: str, key: NewSecret) -> None:
    signed = acs3(key, "DescribeRegions")

    def send() -> str:
        request = urllib.request.Request(f"http://{address}/", data=b"", method="POST", headers=signed.headers)
        request.add_header("Content-Type", "application/octet-stream")
        try:
            return str(urllib.request.urlopen(request, timeout=60).status)
        except urllib.error.HTTPError as error:
            return json.loads(error.read())["Code"]

    assert sorted(at_once(send)) == ["200", *["SignatureNonceUsed"] * 7]


def test_of_restores_with_one_token_that_are_asked_for_at_once_one_is_made(
    address: str, world: World, key: NewSecret
) -> None:
    shop = world.instance("shop", engine="postgresql")
    world.enable(shop)
    copy = world.arrived(shop, database="")
    wish = by_set(shop, BackupSetId=copy.pk, ClientToken="once")
    call = new_sdk(address, key)
    assert len(set(at_once(lambda: call("CreateDdrInstance", wish)["DBInstanceId"]))) == 1
    assert Restore.objects.count() == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"no HTTP at all\r\n\r\n", 400),
        (b"GET /?Signature=" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /?Signature=x HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 9_000 + b"\r\n\r\n", 431),
        (b"POST /?Signature=x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: none\r\n\r\n", 501),
        (b"POST /?Signature=x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /?Signature=%ff%00 HTTP/1.1\r\nHost: \xff\r\nConnection: close\r\n\r\n", 400),
        (b"PUT /?Signature=x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 405),
    ],
)
def test_what_never_gets_as_far_as_django_is_an_envelope_too(address: str, sent: bytes, status: int) -> None:
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        answered = b"".join(iter(lambda: client.recv(65_536), b""))
    head, _, body = answered.partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status, answered[:300]
    if b"application/json" in head:
        [length] = re.findall(rb"(?i)content-length: (\d+)", head)
        assert set(json.loads(body[: int(length)])) == {"RequestId", "HostId", "Code", "Message", "Recommend"}
    else:
        assert b"text/xml" in head and body.count(b"<Code>") == 1


# ---- every declared field, decoded in its declared type

READS = sorted(name for name in CONTRACT if name.startswith(("Describe", "Check")))


def test_every_declared_field_is_decoded_in_its_type_by_the_new_sdk(
    address: str, world: World, orders: Instance, key: NewSecret
) -> None:
    world.enable(orders)
    world.set(orders, logs_enabled=True)
    copy = world.arrived(orders)
    world.arrived(orders, kind="log")
    call = new_sdk(address, key)
    for name in READS:
        if name == "CheckCreateDdrDBInstance":
            continue  # nothing here restores this engine
        said = call(name, wish_for(name, orders, copy))
        assert _undecoded(CONTRACT[name]["resp"], said, name) == []


def _undecoded(fields: dict[str, Any], said: Any, where: str) -> list[str]:
    found = []
    for name, declared in fields.items():
        value, kind = said.get(name), declared["type"]
        plain = {"str": str, "int": int, "bool": bool, "float": float}.get(kind)
        if plain and type(value) is not plain:
            found.append(f"{where}.{name}: {value!r} is no {kind}")
        elif kind == "object":
            found += (
                _undecoded(declared["fields"], value or {}, f"{where}.{name}") if value is not None else [where + name]
            )
        elif kind == "array<object>":
            for one in value:
                found += _undecoded(declared["fields"], one, f"{where}.{name}")
        elif not plain and not isinstance(value, list):
            found.append(f"{where}.{name}: {value!r} is no list")
    return found
