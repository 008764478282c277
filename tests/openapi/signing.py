"""Signed calls through the outer door, signed by the vendor's own SDKs, which are the oracle."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from alibabacloud_tea_openapi.utils import Utils
from aliyunsdkcore.auth.algorithm import sha_hmac1
from aliyunsdkcore.auth.composer import rpc_signature_composer
from darabonba.request import DaraRequest
from django.http import HttpResponse
from django.test import Client

from console.openapi.keys import NewSecret

HOST = "rds.example.org"
VERSION = "2014-08-15"
FORM = "application/x-www-form-urlencoded"


def _hmac_sha256(string: str, secret: str) -> str:
    """The SDK's own of this name signs with RSA."""
    return base64.b64encode(hmac.new(secret.encode(), string.encode(), "sha256").digest()).decode()


SIGN = {"HMAC-SHA1": sha_hmac1.get_sign_string, "HMAC-SHA256": _hmac_sha256}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Signed:
    """A request ready to be sent, which a test may still tamper with."""

    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def send(self, client: Client) -> HttpResponse:
        kind = self.headers.get("content-type", FORM if self.body else "")
        others = {name: value for name, value in self.headers.items() if name not in ("content-type", "host")}
        sent = {"headers": others, "HTTP_HOST": self.headers.get("host", HOST)}
        if self.method == "GET":
            return client.get(self.path, **sent)
        return client.generic(self.method, self.path, self.body, content_type=kind, **sent)


def acs3(
    secret: NewSecret,
    action: str,
    parameters: dict[str, Any] | None = None,
    *,
    form: dict[str, Any] | None = None,
    at: str = "",
    nonce: str = "",
    **more: str,
) -> Signed:
    """As the Tea SDK does it: parameters in the query, a form in the body."""
    body = urlencode(form or {}).encode()
    headers = {
        "host": HOST,
        "accept": "application/json",
        "x-acs-action": action,
        "x-acs-version": VERSION,
        "x-acs-date": at or now(),
        "x-acs-signature-nonce": nonce or uuid.uuid4().hex,
        "x-acs-content-sha256": hashlib.sha256(body).hexdigest(),
    } | {name.replace("_", "-"): value for name, value in more.items()}
    if form:
        headers["content-type"] = FORM
    request = DaraRequest()
    request.method, request.pathname, request.headers = "POST", "/", dict(headers)
    request.query = {name: str(value) for name, value in (parameters or {}).items()}
    headers["authorization"] = Utils.get_authorization(
        request, "ACS3-HMAC-SHA256", headers["x-acs-content-sha256"], secret.key.key_id, secret.secret
    )
    query = urlencode(request.query)
    return Signed("POST", f"/?{query}" if query else "/", body, headers)


def rpc(
    secret: NewSecret,
    action: str,
    parameters: dict[str, Any] | None = None,
    *,
    form: dict[str, Any] | None = None,
    method: str = "GET",
    signer: str = "HMAC-SHA1",
    **more: Any,
) -> Signed:
    """As the old SDK does it: everything in the query, but for a form in the body; `more` replaces what it adds."""
    given = {"Action": action, "Version": VERSION, "Format": "JSON", **(parameters or {})}
    given = {name: str(value) for name, value in given.items()}
    if more or signer != "HMAC-SHA1":
        return _rpc_by_hand(secret, given | more, form or {}, method, signer)
    url, _ = rpc_signature_composer.get_signed_url(given, secret.key.key_id, secret.secret, "JSON", method, form or {})
    return Signed(method, url, urlencode(form or {}).encode(), {"x-acs-action": action})


def _rpc_by_hand(secret: NewSecret, given: dict[str, str], form: dict[str, Any], method: str, signer: str) -> Signed:
    """The same composition, with a time stamp, a nonce or a format that the SDK would not take from us."""
    usual = {
        "Timestamp": now(),
        "SignatureMethod": signer,
        "SignatureType": "",
        "SignatureVersion": "1.0",
        "SignatureNonce": uuid.uuid4().hex,
        "AccessKeyId": secret.key.key_id,
    }
    given = {name: value for name, value in (usual | given).items() if value is not None}
    compose = vars(rpc_signature_composer)["__compose_string_to_sign"]
    given["Signature"] = SIGN[signer](compose(method, given | form), f"{secret.secret}&")
    return Signed(method, f"/?{urlencode(given)}", urlencode(form).encode())


def said(answer: HttpResponse) -> dict[str, Any]:
    """Return what an answer says, and see to it that it is an envelope or a success as the SDKs want it."""
    assert answer.headers["Content-Type"].startswith("application/json"), (answer.status_code, answer.content[:300])
    found = json.loads(answer.content)
    assert found["RequestId"] == found["RequestId"].upper() == str(uuid.UUID(found["RequestId"])).upper()
    if answer.status_code == 200:
        assert "Code" not in found
    else:
        assert set(found) == {"RequestId", "HostId", "Code", "Message", "Recommend"}
    return found


def refused(answer: HttpResponse) -> tuple[int, str]:
    return answer.status_code, said(answer).get("Code", "")
