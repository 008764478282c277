"""Who calls: the key, its secret, the clock, the nonce, the rate; and what that key may see and touch.

Everything that must hold over several web processes is a row in PostgreSQL; the clock is the database's.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import InterfaceError, OperationalError, connection
from django.db.models import QuerySet

from backups.events import By
from backups.models import Copy, Instance, Role
from console.openapi import faults, signatures
from console.openapi.calls import ACS3, Call
from console.openapi.faults import Fault
from console.openapi.models import AccessKey
from console.openapi.signatures import Authorization, Malformed
from regions import secrets
from regions.built_once import Given, among, built_once
from regions.models import Region

KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,40}")
NONCE = re.compile(r"[\x21-\x7e]{1,128}")
APART = timedelta(minutes=15)
USED_EVERY = timedelta(minutes=1)
RPC_NEEDS = ("Timestamp", "SignatureMethod", "SignatureVersion", "SignatureNonce")


# ---- what a call says of itself


@dataclass(frozen=True)
class Claim:
    """What a call says of its caller, before anything of it is proven."""

    key_id: str
    at: str
    nonce: str
    action: str
    version: str
    string: str  # to sign
    signature: str
    method: str  # ACS3-HMAC-SHA256, HMAC-SHA1 or HMAC-SHA256

    def is_signed_with(self, secret: str) -> bool:
        if self.method == signatures.ACS3_ALGORITHM:
            own = signatures.acs3_signature(self.string, secret)
        else:
            own = signatures.rpc_signature(self.string, secret, self.method)
        return signatures.is_same(self.signature, own)


def claim_of(call: Call) -> Claim:
    """Read the signature, wherever it stands; raises Fault."""
    header = call.headers.get("authorization", "")
    return _acs3_claim(call, header) if header.startswith(ACS3) else _rpc_claim(call)


def _acs3_claim(call: Call, header: str) -> Claim:
    try:
        said = signatures.authorization_of(header)
    except Malformed as why:
        raise _incomplete("", str(why)) from None
    string = signatures.acs3_string(call, said.signed)
    if not signatures.is_body_hash(call.headers.get("x-acs-content-sha256", ""), call.body):
        raise _incomplete(string, "x-acs-content-sha256 is not the hash of the body")
    return _claim_by_headers(call, said, string)


def _claim_by_headers(call: Call, said: Authorization, string: str) -> Claim:
    return Claim(
        key_id=said.key_id,
        at=call.headers.get("x-acs-date", ""),
        nonce=call.headers.get("x-acs-signature-nonce", ""),
        action=call.headers.get("x-acs-action", ""),
        version=call.headers.get("x-acs-version", ""),
        string=string,
        signature=said.signature,
        method=signatures.ACS3_ALGORITHM,
    )


def _rpc_claim(call: Call) -> Claim:
    given = call.parameters
    if not given.get("AccessKeyId"):
        raise faults.missing("AccessKeyId")
    if lacking := signatures.nothing_like(given, *RPC_NEEDS):
        raise faults.missing(lacking)
    string = signatures.rpc_string(call.method, [*call.query, *call.form])
    if given["SignatureMethod"] not in signatures.RPC_DIGESTS or given["SignatureVersion"] != "1.0":
        raise _incomplete(string, "SignatureMethod is HMAC-SHA1 or HMAC-SHA256, SignatureVersion 1.0")
    return Claim(
        key_id=given["AccessKeyId"],
        at=given["Timestamp"],
        nonce=given["SignatureNonce"],
        action=given.get("Action", ""),
        version=given.get("Version", ""),
        string=string,
        signature=given.get("Signature", ""),
        method=given["SignatureMethod"],
    )


def _incomplete(string: str, why: str) -> Fault:
    sentence = "The request signature does not conform to Aliyun standards."
    return Fault("IncompleteSignature", 400, f"{sentence} server string to sign is:{string}", f"In it, {why}.")


# ---- proving it


# Written out: with the query built anew for every call, finding the key took half the time of a call that reads.
# What its owner may see and operate, cut down to what the key may, comes with it: as `access.groups_for` has it.
KNOWN = """
SELECT key.id, key.user_id, key.key_id, key.sealed_secret, key.label, key.reach, key.is_limited, key.networks,
       key.rules_accepted_at, key.last_used_at, key.last_used_from, key.disabled_at,
       person.username, person.is_active, person.is_superuser, clock_timestamp(),
       ARRAY(SELECT whole.id FROM backups_resourcegroup whole
              WHERE (person.is_superuser OR whole.id IN (
                        SELECT group_id FROM backups_membership WHERE user_id = person.id))
                AND (NOT key.is_limited OR whole.id IN (
                        SELECT resourcegroup_id FROM console_openapi_accesskey_groups WHERE accesskey_id = key.id))),
       ARRAY(SELECT whole.id FROM backups_resourcegroup whole
              WHERE (person.is_superuser OR whole.id IN (
                        SELECT group_id FROM backups_membership WHERE user_id = person.id AND role = 'operator'))
                AND (NOT key.is_limited OR whole.id IN (
                        SELECT resourcegroup_id FROM console_openapi_accesskey_groups WHERE accesskey_id = key.id))
                AND key.reach = 'operator')
  FROM console_openapi_accesskey key JOIN auth_user person ON person.id = key.user_id
 WHERE key.key_id = %s
"""
OF_KEY = (
    *("id", "user_id", "key_id", "sealed_secret", "label", "reach", "is_limited", "networks"),
    *("rules_accepted_at", "last_used_at", "last_used_from", "disabled_at"),
)


class Rights(NamedTuple):
    """The resource groups a key sees, and those it operates in; read anew with every call."""

    sees: list[int]
    operates: list[int]


class Owner(NamedTuple):
    pk: int
    username: str
    is_active: bool
    is_superuser: bool


class Known(NamedTuple):
    key: AccessKey
    owner: Owner
    at: datetime  # the database's time
    rights: Rights


def known(claim: Claim) -> Known:
    """Return the key that is named; raises Fault for none, and for one that is disabled."""
    row = _asked_first(KNOWN, claim.key_id) if KEY_ID.fullmatch(claim.key_id) else None
    if row is None:
        raise Fault("InvalidAccessKeyId.NotFound", 404, "Specified access key is not found.")
    of_key, (username, is_active, is_superuser, at, *rights) = row[: len(OF_KEY)], row[len(OF_KEY) :]
    key: AccessKey = AccessKey.from_db(connection.alias, OF_KEY, of_key)
    if not key.is_active or not is_active:
        raise Fault("InvalidAccessKeyId.Inactive", 403, "Specified access key is disabled.")
    return Known(key, Owner(key.user_id, username, is_active, is_superuser), at, Rights(*rights))


def _asked_first(statement: str, *values: Any) -> tuple[Any, ...] | None:
    """Ask a call's first statement, which only reads. It stands for the connection's health check, a round trip of its
    own: where the server closed the connection meanwhile, it is asked again on a new one."""
    was_open = connection.connection is not None and not connection.in_atomic_block
    connection.health_check_done = True
    try:
        return _one_row(statement, values)
    except (OperationalError, InterfaceError):
        if not was_open or connection.is_usable():
            raise
        connection.close()
        return _one_row(statement, values)


def _one_row(statement: str, values: Any) -> tuple[Any, ...] | None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()


def prove(claim: Claim, key: AccessKey, at: datetime, address: str) -> None:
    """Raise Fault unless the call is recent, signed with the key's secret, and comes from where it may."""
    _require_recent(claim.at, at)
    if not NONCE.fullmatch(claim.nonce):
        raise (
            faults.missing("SignatureNonce")
            if not claim.nonce
            else faults.bad_format("SignatureNonce", "it is 1 to 128 visible characters")
        )
    secret = secrets.open_sealed(key.sealed_secret, key.identity).decode()
    if not claim.is_signed_with(secret):
        said = "Specified signature is not matched with our calculation. server string to sign is:"
        raise Fault("SignatureDoesNotMatch", 400, said + claim.string)
    if not is_among(address, key.networks):
        raise faults.forbidden("This access key may not be used from this address.")


def _require_recent(said: str, at: datetime) -> None:
    try:
        moment = datetime.strptime(said, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        sentence = "Specified time stamp or date value is not well formatted."
        raise Fault("InvalidTimeStamp.Format", 400, sentence) from None
    if abs(at - moment) > APART:
        raise Fault("InvalidTimeStamp.Expired", 400, "Specified time stamp or date value is expired.")


def is_among(address: str, networks: list[str]) -> bool:
    if not networks:
        return True
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False  # a socket of this machine has no address
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in ipaddress.ip_network(network, strict=False) for network in networks)


ADMIT = """
WITH spent AS (
    INSERT INTO console_openapi_usednonce (key_id, nonce, used_at) VALUES (%(key)s, %(nonce)s, %(at)s)
    ON CONFLICT (key_id, nonce) DO NOTHING RETURNING 1
), counted AS (
    INSERT INTO console_openapi_callcount AS had (key_id, what, began_at, calls)
    VALUES (%(key)s, '', date_trunc('minute', %(at)s::timestamptz), 1),
           (%(key)s, %(what)s, date_trunc('hour', %(at)s::timestamptz), 1)
    ON CONFLICT (key_id, what, began_at) DO UPDATE SET calls = had.calls + 1
    RETURNING what, calls
)
SELECT (SELECT count(*) FROM spent),
       (SELECT calls FROM counted WHERE what = ''),
       (SELECT calls FROM counted WHERE what = %(what)s)
"""


def admit(claim: Claim, key: AccessKey, at: datetime, what: str) -> int:
    """Spend the nonce and count the call, in one statement; return its number among those of `what` in this hour.

    Raises Fault for a nonce that was used, and beyond API_CALLS_PER_MINUTE.
    """
    with connection.cursor() as cursor:
        cursor.execute(ADMIT, {"key": key.pk, "nonce": claim.nonce, "at": at, "what": what})
        is_new, in_minute, in_hour = cursor.fetchone()
    if in_minute > settings.API_CALLS_PER_MINUTE:
        raise _too_often(at)
    if not is_new:
        raise Fault("SignatureNonceUsed", 400, "Specified signature nonce was used already.")
    return in_hour


def _too_often(at: datetime) -> Fault:
    left = 60_000 - (at.second * 1000 + at.microsecond // 1000)
    sentence = "Request was denied due to user flow control."
    remedy = f"An access key makes {settings.API_CALLS_PER_MINUTE} calls a minute."
    return Fault("Throttling.User", 429, sentence, remedy, {"x-acs-retry-after": str(left)})


COUNT = """
INSERT INTO console_openapi_callcount AS had (key_id, what, began_at, calls)
VALUES (%s, %s, date_trunc('hour', %s::timestamptz), 1)
ON CONFLICT (key_id, what, began_at) DO UPDATE SET calls = had.calls + 1 RETURNING calls
"""


def count(key: AccessKey, what: str, at: datetime) -> int:
    """Count what happened with a key in this hour; return its number."""
    with connection.cursor() as cursor:
        cursor.execute(COUNT, [key.pk, what, at])
        return cursor.fetchone()[0]


def keep_used(key: AccessKey, at: datetime, address: str) -> None:
    """Remember when and from where a key was used last: once a minute, so that reads write nothing else to it."""
    if key.last_used_at is None or at - key.last_used_at >= USED_EVERY or key.last_used_from != address:
        AccessKey.objects.filter(pk=key.pk).update(last_used_at=at, last_used_from=address)


# ---- what a key may


@built_once
def _instance(**_: Given) -> QuerySet[Instance]:
    return Instance.objects.filter(among("group", "sees"), code=Given("code"))


@built_once
def _region(**_: Given) -> QuerySet[Region]:
    return Region.objects.shown().filter(pk=Given("named"))


@dataclass
class Caller:
    """A proven caller. Never more than the key's owner; fewer groups and roles where the key says so.

    `about`: the instance an operation turned out to be about, for the event of the call.
    """

    key: AccessKey
    owner: Owner
    at: datetime
    rights: Rights
    address: str = ""
    host: str = ""
    scheme: str = "http"
    request_id: str = ""
    about: Instance | None = None

    @cached_property
    def user(self) -> Any:
        """Return as much of the owner as rights and events ask for; never saved."""
        user = get_user_model()(**self.owner._asdict())
        user._state.adding = False
        return user

    @property
    def by(self) -> By:
        return By(self.user, self.address)

    @property
    def sees(self) -> list[int]:
        """Return the resource groups whose rows this caller may see."""
        return self.rights.sees

    @property
    def operates(self) -> bool:
        """Whether it operates in any group."""
        return bool(self.rights.operates)

    def instance(self, code: str) -> Instance:
        """Return the instance; raises Fault when it is not there for this caller."""
        found = _instance.first(code=code, sees=self.sees)
        if found is None:
            raise faults.no_such_instance()
        self.about = found
        return found

    def operated(self, code: str) -> Instance:
        """Return an instance that this caller may operate; raises Fault when it is not there, and when it may not."""
        found = self.instance(code)
        self.require_operating(found)
        return found

    def require_operating(self, instance: Instance) -> None:
        if not self.may_operate(instance):
            raise faults.forbidden(f"This needs the role {Role.OPERATOR} in its resource group.")

    def may_operate(self, instance: Any) -> bool:
        return instance.group_id in self.rights.operates

    def copies(self) -> QuerySet[Copy]:
        """Copies in other regions, of what this caller may see."""
        return Copy.objects.visible().cross_region().filter(set__instance__group__in=self.sees)

    @staticmethod
    def region(named: str, parameter: str = "RegionId") -> Region:
        """Return a region that is shown; raises Fault."""
        found = _region.first(named=named[:50])
        if found is None:
            raise faults.no_such_region(parameter)
        return found


def caller_of(known: Known, **facts: Any) -> Caller:
    return Caller(known.key, known.owner, known.at, known.rights, **facts)
