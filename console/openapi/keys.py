"""Access keys: created, rotated, narrowed, disabled. A secret is returned once and kept sealed (I18)."""

from __future__ import annotations

import ipaddress
import secrets as randomness
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404

from backups import access, events
from backups.events import By
from backups.models import ResourceGroup
from console.openapi.models import AccessKey, Reach
from regions import clock, secrets
from regions.refusals import Refusal

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
PREFIX, ID_LETTERS, SECRET_LETTERS = "FAKA", 20, 40  # 40 of 57 letters: 233 bits
MOST_KEYS = 50  # of one person, disabled ones included
MOST_NETWORKS = 50


@dataclass(frozen=True)
class Limits:
    """What a key may of all that its owner may. `groups` None: every group, also those that are still to come."""

    label: str = ""
    reach: str = Reach.OPERATES
    groups: Sequence[ResourceGroup] | None = None
    networks: Sequence[str] = ()


@dataclass(frozen=True)
class NewSecret:
    """A key and the only time its secret is told."""

    key: AccessKey
    secret: str


def keys_for(user: Any) -> QuerySet[AccessKey]:
    """Return a person's own keys; who runs the installation sees everybody's."""
    rows = AccessKey.objects.select_related("user").prefetch_related("groups").order_by("-pk")
    return rows if access.may_run_installation(user) else rows.filter(user=user)


def key_for(user: Any, pk: int) -> AccessKey:
    found = keys_for(user).filter(pk=pk).first()
    if found is None:
        raise Http404("No such access key.")
    return found


def create(owner: Any, limits: Limits, by: By, *, accepts_rules: bool = False) -> NewSecret:
    """Make a key for `owner`; raises Refusal."""
    networks = _checked(owner, limits)
    with transaction.atomic():
        at, secret = clock.now(), _random(SECRET_LETTERS)
        key = AccessKey(user=owner, key_id=PREFIX + _random(ID_LETTERS), created_at=at)
        key.sealed_secret = secrets.seal(secret.encode(), key.identity)
        key.rules_accepted_at = at if accepts_rules else None
        key.label, key.reach, key.networks = limits.label.strip(), limits.reach, networks
        key.is_limited = limits.groups is not None
        key.save()
        key.groups.set(limits.groups or [])
        _record("created", f"{by.name} created the access key {key} of {owner}{_rules(accepts_rules)}.", key, by)
    return NewSecret(key, secret)


def rotate(key: AccessKey, by: By) -> NewSecret:
    """Give the key a new secret; the old one is refused from now on. Only its owner: whoever has it acts as them."""
    _require_owner(key, by)
    with transaction.atomic():
        locked = _locked(key)
        secret = _random(SECRET_LETTERS)
        locked.sealed_secret, locked.rotated_at = secrets.seal(secret.encode(), locked.identity), clock.now()
        locked.save(update_fields=["sealed_secret", "rotated_at"])
        _record("rotated", f"{by.name} gave the access key {key} a new secret.", locked, by)
    return NewSecret(locked, secret)


def change(key: AccessKey, limits: Limits, by: By) -> None:
    """Narrow or widen a key; raises Refusal."""
    _require_owner(key, by)
    networks = _checked(key.user, limits, known=True)
    with transaction.atomic():
        locked = _locked(key)
        locked.label, locked.reach, locked.networks = limits.label.strip(), limits.reach, networks
        locked.is_limited = limits.groups is not None
        locked.save(update_fields=["label", "reach", "networks", "is_limited"])
        locked.groups.set(limits.groups or [])
        _record("changed", f"{by.name} changed what the access key {locked} may do.", locked, by)


def accept_rules(key: AccessKey, by: By) -> None:
    """Remember that the key's owner knows what downloads cost; only they can say so. Safe to repeat (R-16.3)."""
    _require_owner(key, by)
    with transaction.atomic():
        won = AccessKey.objects.filter(pk=key.pk, rules_accepted_at=None).update(rules_accepted_at=clock.now())
        if won:
            said = f"{by.name} accepted the billing rules for backup file download for the access key {key}."
            _record("rules_accepted", said, key, by)


def disable(key: AccessKey, by: By) -> bool:
    """Refuse every call of the key from now on; False when it was disabled already."""
    with transaction.atomic():
        active = AccessKey.objects.filter(pk=key.pk, disabled_at=None)
        won = active.update(disabled_at=clock.now(), disabled_by=by.user)
        if won:
            _record("disabled", f"{by.name} disabled the access key {key}.", key, by)
    return bool(won)


def why_not_enable(key: AccessKey, user: Any) -> Refusal | None:
    """Return why this person may not enable a key again: what somebody else disabled had a reason."""
    if key.disabled_by_id in (None, user.pk) or access.may_run_installation(user):
        return None
    return Refusal("DisabledByAnother", f"{key.disabled_by} disabled this access key.", "Ask them to enable it again.")


def enable(key: AccessKey, by: By) -> bool:
    """Let the key in again; raises Refusal. False when it was not disabled."""
    with transaction.atomic():
        locked = _locked(key)
        if refusal := why_not_enable(locked, by.user):
            raise refusal
        if locked.is_active:
            return False
        locked.disabled_at, locked.disabled_by = None, None
        locked.save(update_fields=["disabled_at", "disabled_by"])
        _record("enabled", f"{by.name} enabled the access key {key} again.", key, by)
    return True


def _require_owner(key: AccessKey, by: By) -> None:
    if by.user != key.user:
        raise Refusal("NotTheOwner", f"Only {key.user} can do this with their access key.", "Ask them to.")


def _locked(key: AccessKey) -> AccessKey:
    return AccessKey.objects.select_for_update(no_key=True, of=("self",)).select_related("user").get(pk=key.pk)


def _checked(owner: Any, limits: Limits, *, known: bool = False) -> list[str]:
    """Return the networks as they are kept; raises Refusal with what speaks against the limits."""
    if limits.reach not in Reach.values:
        raise Refusal("InvalidRole", f"{limits.reach} is not among {', '.join(Reach.values)}.", "Choose one.", "reach")
    if not known and AccessKey.objects.filter(user=owner).count() >= MOST_KEYS:
        raise Refusal("TooManyKeys", f"One person has at most {MOST_KEYS} access keys.", "Rotate one of them.")
    mine = set(access.groups_for(owner).values_list("pk", flat=True))
    if limits.groups is not None and any(group.pk not in mine for group in limits.groups):
        raise Refusal("NotTheirGroup", f"{owner} does not belong to that resource group.", "Choose another.", "groups")
    return networks_of(limits.networks)


def networks_of(said: Iterable[str]) -> list[str]:
    """Return addresses and networks in one spelling; raises Refusal."""
    found = []
    for word in said:
        try:
            found.append(str(ipaddress.ip_network(word.strip(), strict=False)))
        except ValueError:
            raise Refusal(
                "InvalidNetwork",
                f"{word[:60]} is no address and no network.",
                "Write 192.0.2.7 or 192.0.2.0/24.",
                "networks",
            ) from None
    if len(found) > MOST_NETWORKS:
        raise Refusal("TooManyNetworks", f"At most {MOST_NETWORKS} networks.", "Write wider ones.", "networks")
    return list(dict.fromkeys(found))


def _random(letters: int) -> str:
    return "".join(randomness.choice(LETTERS) for _ in range(letters))


def _rules(accepts: bool) -> str:
    return ", whose owner accepts the billing rules for backup file download" if accepts else ""


def _record(what: str, sentence: str, key: AccessKey, by: By) -> None:
    events.record(f"access_key.{what}", sentence, by=by, access_key=key.key_id)
