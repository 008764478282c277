"""The two signatures, as pure functions: the string to sign, and whether a signature is the one it should be.

Source: openapi/README.md, "Signatures"; the vendor's SDKs are the tests' oracle.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from console.openapi.calls import Call, Pairs

ACS3_ALGORITHM = "ACS3-HMAC-SHA256"
RPC_DIGESTS = {"HMAC-SHA1": hashlib.sha1, "HMAC-SHA256": hashlib.sha256}
MUST_BE_SIGNED = (
    "host",
    "x-acs-action",
    "x-acs-version",
    "x-acs-date",
    "x-acs-signature-nonce",
    "x-acs-content-sha256",
)


class Malformed(Exception):
    """A signature that is not written as it must be; says what is wrong with it."""


@dataclass(frozen=True)
class Authorization:
    """What an `Authorization: ACS3-HMAC-SHA256 …` header says."""

    key_id: str
    signed: tuple[str, ...]
    signature: str


def encoded(text: str) -> str:
    """RFC 3986, unreserved A-Z a-z 0-9 - _ . ~"""
    return quote(text, safe="-_.~", errors="surrogateescape")


def canonical(pairs: Iterable[tuple[str, str]]) -> str:
    return "&".join(f"{encoded(name)}={encoded(value)}" for name, value in sorted(pairs))


# ---- ACS3-HMAC-SHA256


def authorization_of(header: str) -> Authorization:
    """Read the header; raises Malformed."""
    algorithm, _, rest = header.partition(" ")
    if algorithm != ACS3_ALGORITHM:
        raise Malformed(f"the algorithm must be {ACS3_ALGORITHM}")
    said = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if set(said) != {"Credential", "SignedHeaders", "Signature"}:
        raise Malformed("it names Credential, SignedHeaders and Signature")
    signed = tuple(said["SignedHeaders"].lower().split(";"))
    lacking = [name for name in MUST_BE_SIGNED if name not in signed]
    if lacking:
        raise Malformed(f"these headers must be signed too: {', '.join(lacking)}")
    return Authorization(said["Credential"], signed, said["Signature"])


def acs3_request(call: Call, signed: Iterable[str]) -> str:
    """Return the canonical request."""
    names = sorted(set(signed))
    headers = "".join(f"{name}:{call.headers.get(name, '').strip()}\n" for name in names)
    body_hash = call.headers.get("x-acs-content-sha256", "")
    return "\n".join([call.method, call.path, canonical(call.query), headers, ";".join(names), body_hash])


def acs3_string(call: Call, signed: Iterable[str]) -> str:
    request = acs3_request(call, signed).encode("utf-8", "surrogateescape")
    return f"{ACS3_ALGORITHM}\n{hashlib.sha256(request).hexdigest()}"


def acs3_signature(string: str, secret: str) -> str:
    return hmac.new(secret.encode(), string.encode(), hashlib.sha256).hexdigest()


def is_body_hash(said: str, body: bytes) -> bool:
    return is_same(said, hashlib.sha256(body).hexdigest())


# ---- RPC, HMAC-SHA1 and HMAC-SHA256


def rpc_string(method: str, pairs: Pairs) -> str:
    unsigned = [(name, value) for name, value in pairs if name != "Signature"]
    return f"{method}&%2F&{encoded(canonical(unsigned))}"


def rpc_signature(string: str, secret: str, digest: str) -> str:
    mac = hmac.new(f"{secret}&".encode(), string.encode(), RPC_DIGESTS[digest])
    return base64.b64encode(mac.digest()).decode()


# ---- comparing


def is_same(said: str, own: str) -> bool:
    """In constant time."""
    return hmac.compare_digest(said.encode("utf-8", "surrogateescape"), own.encode())


def nothing_like(parameters: Mapping[str, str], *names: str) -> str:
    """Return the first of the names that is not given, "" when all are."""
    return next((name for name in names if not parameters.get(name)), "")
