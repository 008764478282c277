"""Calls are let in by both signatures as the vendor's SDKs make them, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from backups.events import By
from console.openapi import keys
from console.openapi.keys import NewSecret
from console.openapi.models import AccessKey, CallCount, UsedNonce
from console.openapi.signatures import MUST_BE_SIGNED
from console.openapi.tasks import tidy_calls
from regions import clock, secrets
from tests.console.fleet import Fleet
from tests.openapi.conftest import key_of
from tests.openapi.signing import Signed, acs3, refused, rpc, said

pytestmark = pytest.mark.django_db


# The SDKs encode values; names they send as they are.
STRANGE = {"Plus": "c+d e", "Zz": "~-_.!*'()", "Hanzi": "上海", "Empty": "", "Amp": "&=%2F", "Tag.1.Key": "/"}


def test_the_new_sdks_signature_is_let_in(client: Client, key: NewSecret) -> None:
    assert said(acs3(key, "DescribeRegions").send(client))["Regions"]["RDSRegion"]
    assert said(acs3(key, "DescribeRegions", STRANGE).send(client))["Regions"]["RDSRegion"]


def test_parameters_in_the_form_count_too(client: Client, key: NewSecret) -> None:
    answer = acs3(key, "DescribeAvailableCrossRegion", {"x": 1}, form={"RegionId": "cn-hangzhou"} | STRANGE)
    assert said(answer.send(client))["Regions"]["Region"]


@pytest.mark.parametrize("signer", ["HMAC-SHA1", "HMAC-SHA256"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_old_sdks_signature_is_let_in(client: Client, key: NewSecret, signer: str, method: str) -> None:
    assert said(rpc(key, "DescribeRegions", STRANGE, method=method, signer=signer).send(client))["Regions"]
    if method == "POST":
        assert said(rpc(key, "DescribeRegions", form=STRANGE, method=method, signer=signer).send(client))["Regions"]


def test_a_call_that_was_tampered_with_is_refused(client: Client, key: NewSecret) -> None:
    call = acs3(key, "DescribeAvailableCrossRegion", {"RegionId": "cn-hangzhou"})
    call.path = call.path.replace("hangzhou", "shanghai")
    assert refused(call.send(client)) == (400, "SignatureDoesNotMatch")
    call = acs3(key, "DescribeAvailableCrossRegion", form={"RegionId": "cn-hangzhou"})
    call.body = call.body.replace(b"hangzhou", b"shanghai")
    assert refused(call.send(client)) == (400, "IncompleteSignature")
    call = acs3(key, "DescribeRegions")
    call.headers["x-acs-action"] = "CreateBackup"
    assert refused(call.send(client)) == (400, "SignatureDoesNotMatch")
    old = rpc(key, "DescribeRegions")
    old.path += "&RegionId=cn-shanghai"
    assert refused(old.send(client)) == (400, "SignatureDoesNotMatch")


def test_another_secret_is_refused_and_what_should_have_been_signed_is_told(client: Client, key: NewSecret) -> None:
    wrong = replace(key, secret="x" * 40)
    answer = acs3(wrong, "DescribeRegions").send(client)
    assert refused(answer) == (400, "SignatureDoesNotMatch")
    assert said(answer)["Message"].split(":")[1].startswith("ACS3-HMAC-SHA256\n")
    old = rpc(wrong, "DescribeRegions").send(client)
    assert refused(old) == (400, "SignatureDoesNotMatch")
    assert said(old)["Message"].split(":")[1].startswith("GET&%2F&AccessKeyId%3D")
    for text in (answer.content, old.content):
        assert key.secret.encode() not in text


@pytest.mark.parametrize("sign", [acs3, rpc])
def test_a_nonce_is_good_once_for_each_key(client: Client, key: NewSecret, fleet: Fleet, sign: Any) -> None:
    once = sign(key, "DescribeRegions")
    assert once.send(client).status_code == 200
    assert refused(once.send(client)) == (400, "SignatureNonceUsed")
    named = {"nonce": "n1"} if sign is acs3 else {"SignatureNonce": "n1"}
    assert sign(key, "DescribeRegions", **named).send(client).status_code == 200
    assert refused(sign(key, "DescribeRegions", **named).send(client)) == (400, "SignatureNonceUsed")
    assert sign(key_of(fleet.user), "DescribeRegions", **named).send(client).status_code == 200


def test_a_forged_call_does_not_spend_somebody_elses_nonce(client: Client, key: NewSecret) -> None:
    assert acs3(replace(key, secret="wrong"), "DescribeRegions", nonce="mine").send(client).status_code == 400
    assert acs3(key, "DescribeRegions", nonce="mine").send(client).status_code == 200


@pytest.mark.parametrize(("minutes", "code"), [(-14, ""), (14, ""), (-16, "Expired"), (16, "Expired")])
def test_the_clock_may_be_fifteen_minutes_off_either_way(
    client: Client, key: NewSecret, minutes: int, code: str
) -> None:
    at = f"{clock.now() + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}"
    for call in (acs3(key, "DescribeRegions", at=at), rpc(key, "DescribeRegions", Timestamp=at)):
        assert refused(call.send(client)) == ((400, f"InvalidTimeStamp.{code}") if code else (200, ""))


def test_a_time_that_is_none_is_said_to_be_malformed(client: Client, key: NewSecret) -> None:
    for at in ("yesterday", "2026-11-27 10:00:00", "2026-11-27T10:00:00+08:00"):
        expected = (400, "InvalidTimeStamp.Format")
        assert refused(acs3(key, "DescribeRegions", at=at).send(client)) == expected
        assert refused(rpc(key, "DescribeRegions", Timestamp=at).send(client)) == expected


@pytest.mark.parametrize("name", [name for name in MUST_BE_SIGNED if name != "x-acs-content-sha256"])
def test_what_must_be_signed_must_be(client: Client, key: NewSecret, name: str) -> None:
    call = acs3(key, "DescribeRegions")
    call.headers["authorization"] = call.headers["authorization"].replace(name, "").replace(";;", ";")
    assert refused(call.send(client)) == (400, "IncompleteSignature")


@pytest.mark.parametrize(
    "header",
    [
        "ACS3-HMAC-SHA256",
        "ACS3-HMAC-SHA256 Credential=a",
        "ACS3-HMAC-SM3 Credential=a,SignedHeaders=host,Signature=00",
        "ACS3-",
        "ACS3-HMAC-SHA256 Credential=a,SignedHeaders=,Signature=",
        "ACS3-HMAC-SHA256 ,,,===,",
    ],
)
def test_a_header_that_is_not_written_as_it_must_be_is_incomplete(client: Client, header: str) -> None:
    assert refused(Signed("POST", "/", b"", {"authorization": header, "accept": "application/json"}).send(client)) == (
        400,
        "IncompleteSignature",
    )


@pytest.mark.parametrize("name", ["AccessKeyId", "Timestamp", "SignatureMethod", "SignatureVersion", "SignatureNonce"])
def test_what_an_old_call_lacks_is_named(client: Client, key: NewSecret, name: str) -> None:
    assert refused(rpc(key, "DescribeRegions", **{name: None}).send(client)) == (400, f"Missing{name}")


def test_action_and_version_are_asked_for_and_known(client: Client, key: NewSecret) -> None:
    assert refused(rpc(key, "DescribeRegions", Action=None).send(client)) == (400, "MissingAction")
    assert refused(rpc(key, "DescribeRegions", Version=None).send(client)) == (400, "MissingVersion")
    assert refused(rpc(key, "DescribeRegions", Version="2015-01-01").send(client)) == (400, "InvalidVersion")
    assert refused(acs3(key, "DropEverything").send(client)) == (404, "InvalidAction.NotFound")
    assert refused(rpc(key, "DropEverything").send(client)) == (404, "InvalidAction.NotFound")


def test_keys_that_are_not_there_or_disabled_are_told_apart(client: Client, key: NewSecret) -> None:
    nobody = NewSecret(AccessKey(key_id="LTAI5tNobody"), "secret")
    strange = NewSecret(AccessKey(key_id="\0上'"), "secret")
    for one in (nobody, strange):
        assert refused(rpc(one, "DescribeRegions").send(client)) == (404, "InvalidAccessKeyId.NotFound")
    keys.disable(key.key, By(key.key.user))
    assert refused(acs3(key, "DescribeRegions").send(client)) == (403, "InvalidAccessKeyId.Inactive")
    keys.enable(key.key, By(key.key.user))
    assert acs3(key, "DescribeRegions").send(client).status_code == 200
    key.key.user.is_active = False
    key.key.user.save()
    assert refused(acs3(key, "DescribeRegions").send(client)) == (403, "InvalidAccessKeyId.Inactive")


def test_a_rotated_key_knows_its_new_secret_only(client: Client, key: NewSecret) -> None:
    new = keys.rotate(key.key, By(key.key.user))
    assert refused(acs3(key, "DescribeRegions").send(client)) == (400, "SignatureDoesNotMatch")
    assert acs3(new, "DescribeRegions").send(client).status_code == 200
    secrets.rotate()
    assert acs3(new, "DescribeRegions").send(client).status_code == 200


def test_a_key_may_be_used_from_its_networks_only(client: Client, fleet: Fleet) -> None:
    near, far = key_of(fleet.user, networks=["127.0.0.0/8"]), key_of(fleet.user, networks=["192.0.2.0/24", "::1"])
    assert acs3(near, "DescribeRegions").send(client).status_code == 200
    assert refused(acs3(far, "DescribeRegions").send(client)) == (403, "Forbidden.RAM")


def test_a_key_calls_so_often_a_minute_whichever_process_answers(client: Client, key: NewSecret, settings: Any) -> None:
    settings.API_CALLS_PER_MINUTE = 2
    codes = [acs3(key, "DescribeRegions").send(client).status_code for _ in range(5)]
    assert codes[:2] == [200, 200] and 429 in codes  # a minute may have begun among them
    answer = next(
        one for one in (acs3(key, "DescribeRegions").send(client) for _ in range(3)) if one.status_code == 429
    )
    assert said(answer)["Code"] == "Throttling.User"
    assert 0 < int(answer.headers["x-acs-retry-after"]) <= 60_000


def test_what_is_old_is_forgotten_and_nothing_else(client: Client, key: NewSecret) -> None:
    acs3(key, "DescribeRegions", nonce="new").send(client)
    old = clock.now() - timedelta(minutes=31)
    UsedNonce.objects.create(key=key.key, nonce="old", used_at=old)
    CallCount.objects.create(key=key.key, began_at=old - timedelta(hours=1), calls=3)
    CallCount.objects.create(key=key.key, what="DescribeRegions", began_at=old - timedelta(days=1), calls=3)
    tidy_calls()
    assert [row.nonce for row in UsedNonce.objects.all()] == ["new"]
    assert CallCount.objects.count() == 3
