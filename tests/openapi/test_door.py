"""What is a signed call is answered in the vendor's envelope, whatever is in it; everything else is the console's."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest
from django.db import OperationalError
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as any_of

from backups.models import Copy, Event, Instance
from console.openapi import operations
from console.openapi.calls import MOST_BYTES
from console.openapi.keys import NewSecret
from console.openapi.operations import Operation
from tests.console.fleet import Fleet
from tests.openapi.signing import FORM, acs3, refused, rpc, said
from tests.openapi.test_operations import wish_for

pytestmark = pytest.mark.django_db


def envelope(answer: Any) -> str:
    """Return the code of an error, as JSON or XML; anything else is none of the vendor's answers."""
    kind = answer.headers["Content-Type"].partition(";")[0]
    assert kind in ("application/json", "text/xml"), answer.content[:200]
    if kind == "application/json":
        found = json.loads(answer.content)
    else:
        found = {one.tag: one.text for one in ElementTree.fromstring(answer.content)}
    assert 400 <= answer.status_code < 500, found
    return found["Code"]


# ---- what is not a call


def test_the_console_lives_at_the_same_address(desk: Client) -> None:
    page = desk.get("/")
    assert page.status_code == 200 and "<h1" in page.content.decode()


def test_what_bears_no_mark_passes_untouched(client: Client) -> None:
    assert client.get("/", {"Action": "DescribeRegions"}).status_code == 302
    assert client.get("/", headers={"x-acs-action": "DescribeRegions"}).status_code == 302
    assert client.get("/", headers={"authorization": "Bearer ACS3-HMAC"}).status_code == 302
    assert client.get("/instances/", {"Signature": "x"}).status_code == 302
    assert client.get("/instances/", headers={"authorization": "ACS3-HMAC-SHA256 x"}).status_code == 302


def test_a_form_sent_to_the_home_page_can_still_be_read(client: Client, rf: Any) -> None:
    from console.openapi.door import Door

    read = []
    door = Door(lambda request: read.append(request.POST.dict()))
    door(rf.post("/", "name=value&empty=", content_type=FORM))
    door(rf.post("/", {"name": "value"}))
    assert read == [{"name": "value", "empty": ""}, {"name": "value"}]


# ---- what is one


@pytest.mark.parametrize("host", ["rds.aliyuncs.com", "http://127.0.0.1:8000", "", "ü", "a b"])
def test_no_host_header_matters(client: Client, key: NewSecret, host: str) -> None:
    assert said(rpc(key, "DescribeRegions").send(client))
    call = rpc(key, "DescribeRegions")
    answer = client.get(call.path, HTTP_HOST=host)
    assert answer.status_code == 200


def test_a_call_carries_the_strict_headers_and_is_kept_nowhere(client: Client, key: NewSecret) -> None:
    answer = acs3(key, "DescribeRegions").send(client)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["x-acs-request-id"] == said(answer)["RequestId"]


def test_it_answers_at_its_own_path_too(client: Client, key: NewSecret) -> None:
    call = rpc(key, "DescribeRegions")
    assert client.get(f"/openapi{call.path}").status_code == 200


def test_without_a_wish_the_answer_is_xml(client: Client, key: NewSecret) -> None:
    answer = rpc(key, "DescribeAvailableCrossRegion", {"RegionId": "cn-hangzhou"}, Format=None).send(client)
    root = ElementTree.fromstring(answer.content)
    assert root.tag == "DescribeAvailableCrossRegionResponse"
    assert [one.text for one in root.findall("Regions/Region")] == ["cn-shanghai", "ap-southeast-1"]
    assert root.findtext("RequestId")
    refused_ = rpc(key, "DropEverything", Format="XML").send(client)
    root = ElementTree.fromstring(refused_.content)
    assert (root.tag, root.findtext("Code"), refused_.status_code) == ("Error", "InvalidAction.NotFound", 404)
    assert {one.tag for one in root} == {"RequestId", "HostId", "Code", "Message", "Recommend"}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(client: Client, key: NewSecret, method: str) -> None:
    call = rpc(key, "DescribeRegions")
    answer = client.generic(method, call.path)
    assert answer.status_code == 405 and answer.headers["Allow"] == "GET, POST"
    if method != "HEAD":
        assert envelope(answer) == "UnsupportedHTTPMethod"


def test_a_body_over_a_mebibyte_is_refused(client: Client, key: NewSecret) -> None:
    call = acs3(key, "DescribeRegions", form={"x": "y" * MOST_BYTES})
    assert refused(call.send(client)) == (413, "RequestEntityTooLarge")
    assert acs3(key, "DescribeRegions", form={"x": "y" * 900_000}).send(client).status_code == 200


def test_too_many_parameters_are_refused(client: Client, key: NewSecret) -> None:
    many = {f"Tag.{n}.Key": "x" for n in range(2_100)}
    assert refused(acs3(key, "DescribeRegions", form=many).send(client)) == (400, "InvalidParameters.Format")


def test_text_that_the_database_cannot_keep_is_refused(client: Client, key: NewSecret) -> None:
    for value in ("a\0b", "\udc80"):
        call = rpc(key, "DescribeDBInstanceAttribute", {"DBInstanceId": "a"}, DBInstanceId="a\0b")
        assert refused(call.send(client)) == (400, "InvalidParameters.Format"), value


def test_a_surprise_is_an_envelope_and_keeps_its_traceback_in_the_log(
    client: Client, key: NewSecret, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def stumble(*_: Any) -> Any:
        raise ZeroDivisionError("a surprise")

    monkeypatch.setitem(operations.OPERATIONS, "DescribeRegions", Operation("DescribeRegions", stumble))
    answer = acs3(key, "DescribeRegions").send(client)
    assert refused(answer) == (500, "InternalError")
    assert "surprise" not in answer.content.decode()
    assert any(record.exc_info and record.request == said(answer)["RequestId"] for record in caplog.records)


def test_a_database_that_is_away_is_an_envelope_too(client: Client, key: NewSecret, monkeypatch: Any) -> None:
    from console.openapi import callers

    def away(*_: Any) -> Any:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(callers, "known", away)
    assert refused(acs3(key, "DescribeRegions").send(client)) == (503, "ServiceUnavailable")


def test_an_answer_that_breaks_the_contract_never_leaves(client: Client, key: NewSecret, monkeypatch: Any) -> None:
    for broken in ({"Regionz": {}}, {"Regions": []}, {"Regions": {"RDSRegion": {}}}, {"RequestId": "", "Regions": 1}):
        perform = Operation("DescribeRegions", lambda *_, broken=broken: broken)
        monkeypatch.setitem(operations.OPERATIONS, "DescribeRegions", perform)
        assert refused(acs3(key, "DescribeRegions").send(client)) == (500, "InternalError")


# ---- any bytes

NOISE = any_of.binary(max_size=200)
MARKS = any_of.sampled_from(
    ["ACS3-", "ACS3-HMAC-SHA256 ", "ACS3-HMAC-SHA256 Credential=a,SignedHeaders=host,Signature="]
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=NOISE, body=NOISE, mark=MARKS, header=any_of.text(alphabet=any_of.characters(codec="latin-1"), max_size=80)
)
def test_any_bytes_with_a_mark_are_answered_with_an_envelope(
    client: Client, query: bytes, body: bytes, mark: str, header: str
) -> None:
    text = query.decode("latin-1")
    answer = client.generic("POST", "/", body, FORM, QUERY_STRING=text, HTTP_AUTHORIZATION=mark + header)
    assert envelope(answer)
    answer = client.generic("POST", "/", b"Signature=&" + body, FORM, QUERY_STRING=text)
    assert envelope(answer)
    answer = client.generic("GET", "/", QUERY_STRING=f"Signature={text}")
    assert envelope(answer)


WORDS = any_of.one_of(
    any_of.text(max_size=30), any_of.sampled_from(["-1", "0", "1", "9" * 30, "true", "2026-01-01T00:00Z"])
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=any_of.data())
def test_any_parameters_of_any_operation_give_no_server_error(
    client: Client, key: NewSecret, fleet: Fleet, data: Any
) -> None:
    from console.openapi.contract import request_of

    instance = Instance.objects.first() or fleet.protected("ledger")
    copy = Copy.objects.filter(set__instance=instance).last()
    name = data.draw(any_of.sampled_from(sorted(operations.OPERATIONS)))
    given_ = data.draw(any_of.fixed_dictionaries({}, optional=dict.fromkeys(request_of(name), WORDS)))
    known = {key: str(value) for key, value in wish_for(name, instance, copy).items()}
    given_ |= {key: value for key, value in known.items() if data.draw(any_of.integers(0, 4))}  # mostly what is there
    given_ |= {"RegionId": data.draw(any_of.sampled_from(["cn-hangzhou", "cn-shanghai", "nowhere"]))}
    answer = acs3(key, name, form={one: value.encode("utf-8", "replace") for one, value in given_.items()}).send(client)
    assert answer.status_code < 500, said(answer)


# ---- what is told


def test_a_change_is_an_event_each_time_and_a_read_once_an_hour(client: Client, key: NewSecret) -> None:
    for _ in range(3):
        acs3(key, "DescribeRegions").send(client)
        acs3(key, "CreateServiceLinkedRole", {"RegionId": "cn-hangzhou", "ServiceLinkedRole": "x"}).send(client)
    told = Event.objects.filter(kind__startswith="api.")
    assert told.filter(kind="api.read").count() == 1
    changes = told.filter(kind="api.called")
    assert changes.count() == 3
    assert {(one.actor_name, one.data["code"], one.data["access_key"]) for one in changes} == {
        ("mei", "InvalidParameters.Format", key.key.key_id)
    }
    assert not [one for one in Event.objects.all() if key.secret in one.sentence + json.dumps(one.data)]


def test_refused_calls_do_not_fill_the_record(client: Client, key: NewSecret) -> None:
    from dataclasses import replace

    for _ in range(5):
        acs3(replace(key, secret="wrong"), "DescribeRegions").send(client)
    assert Event.objects.filter(kind="api.refused").count() == 1
