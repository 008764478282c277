"""What changes after a manifest, kept beside the manifests at every destination (design.md §3 "Manifest").

The instance's own attributes, its policies, who agreed to them, what is held, what stands beside its databases. Written
after changes, never inside their transaction: an event rings, and a sweep compares what is with what was written last.
Never a secret that is not sealed (I18).
"""

from __future__ import annotations

import hashlib
import json
import logging
from base64 import b64encode
from collections.abc import Iterable, Iterator
from datetime import datetime, time
from itertools import islice
from typing import Any

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from backups import layout, presence, recoveries
from backups.models import (
    Acceptance,
    AcceptedInstance,
    Copy,
    CopyPolicy,
    Hold,
    Instance,
    ServerScript,
    StateObject,
)
from regions import clock
from regions.models import Installation, Region, Store
from regions.storage import Mismatch, Storage, StorageError

log = logging.getLogger(__name__)
FORMAT = "farshore-state/1"
KEPT_VERSIONS = 5
CHUNK = 500

INSTANCE_FIELDS = (
    "code",
    "name",
    "engine",
    "engine_version",
    "edition",
    "family",
    "billing_method",
    "backup_method",
    "arrival",
    "default_backup_enabled",
    "host",
    "port",
    "username",
    "dbname",
    "tls",
    "secondary_host",
    "secondary_port",
    "prefixes",
    "certificate_thumbprint",
    "share_called",
    "share_folder",
    "is_simulation",
    "timetable_days",
    "timetable_time",
    "full_every_days",
    "log_every_minutes",
    "drill_every_days",
    "default_retention_days",
    "released_at",
)
POLICY_FIELDS = (
    "kind",
    "enabled",
    "retention_days",
    "logs_enabled",
    "route_version",
    "terms_version",
    "enabled_at",
    "ended_at",
    "end_reason",
    "suspended_at",
)
ACCEPTANCE_FIELDS = (
    "at",
    "address",
    "text_version",
    "text_sha256",
    "language",
    "source_group",
    "destination_group",
    "crosses_border",
)
SCRIPT_FIELDS = ("sha256", "names", "notes", "first_seen_at")
REGION_FIELDS = ("id", "name", "scope", "country", "is_custom")


# ---- what there is to say


def documents(instances: Iterable[Instance], store: Store) -> Iterator[tuple[Instance, bytes]]:
    """Return the state of each instance for a store, the same bytes as long as nothing has changed."""
    instances = list(instances)
    keys = [instance.pk for instance in instances]
    policies = _by_instance(CopyPolicy.objects.filter(instance__in=keys).order_by("destination", "kind"))
    accepted = _acceptances(keys, policies)
    holds: dict[int, list[Hold]] = {}
    for hold in Hold.objects.filter(
        copy__set__instance__in=keys, copy__destination_store=store, released_at=None
    ).select_related("copy__set", "placed_by"):
        holds.setdefault(hold.copy.set.instance_id, []).append(hold)
    regions, scripts = Region.objects.in_bulk(), _scripts(keys)
    for instance in instances:
        own = policies.get(instance.pk, [])
        named = sorted({instance.region_id, *(policy.destination_id for policy in own)})
        document = {
            "format": FORMAT,
            "installation": str(Installation.current().uuid),
            "instance": _fields(instance, INSTANCE_FIELDS)
            | {"group": instance.group.name, "region": instance.region_id},
            "regions": [_fields(regions[name], REGION_FIELDS) for name in named],
            "policies": [
                _fields(policy, POLICY_FIELDS)
                | {"source_region": policy.source_region_id, "destination": policy.destination_id}
                for policy in own
            ],
            "acceptances": accepted.get(instance.pk, []),
            "holds": [_hold(hold) for hold in sorted(holds.get(instance.pk, []), key=lambda hold: hold.pk)],
        }
        if script := scripts.get(instance.pk):
            document["server_script"] = _script(script)
        yield instance, json.dumps(document, sort_keys=True, indent=1).encode()


def _by_instance(policies: Iterable[CopyPolicy]) -> dict[int, list[CopyPolicy]]:
    found: dict[int, list[CopyPolicy]] = {}
    for policy in policies:
        found.setdefault(policy.instance_id, []).append(policy)
    return found


def _acceptances(keys: list[int], policies: dict[int, list[CopyPolicy]]) -> dict[int, list[dict[str, Any]]]:
    """Return who agreed for each instance: for it alone, or for its whole group where a policy stands on that."""
    found: dict[int, dict[int, dict[str, Any]]] = {}
    for row in AcceptedInstance.objects.filter(instance__in=keys).select_related("acceptance__user"):
        said = _acceptance(row.acceptance) | {"route_version": row.route_version}
        found.setdefault(row.instance_id, {})[row.acceptance_id] = said
    standing = {policy.acceptance_id for own in policies.values() for policy in own}
    groups = Acceptance.objects.filter(resource_group__isnull=False).select_related("user").in_bulk(standing - {None})
    for instance, own in policies.items():
        for policy in own:
            if policy.acceptance_id in groups:
                said = _acceptance(groups[policy.acceptance_id]) | {"route_version": policy.route_version}
                found.setdefault(instance, {})[policy.acceptance_id] = said
    return {instance: [said[pk] for pk in sorted(said)] for instance, said in found.items()}


def _acceptance(row: Acceptance) -> dict[str, Any]:
    return _fields(row, ACCEPTANCE_FIELDS) | {
        "id": row.pk,
        "user": row.user.get_username(),
        "source_region": row.source_region_id,
        "destination_region": row.destination_region_id,
        "is_standing": row.is_standing,
    }


def _hold(hold: Hold) -> dict[str, Any]:
    return {
        "copy": hold.copy_id,
        "case_number": hold.case_number,
        "placed_by": hold.placed_by.get_username(),
        "placed_at": _plain(hold.placed_at),
    }


def _scripts(keys: list[int]) -> dict[int, ServerScript]:
    """Return the newest of each instance that has any."""
    newest = ServerScript.objects.filter(instance__in=keys).order_by("instance_id", "-first_seen_at", "-pk")
    return {row.instance_id: row for row in newest.distinct("instance_id")}


def _script(row: ServerScript) -> dict[str, Any]:
    """Sealed as it lies in the catalogue: only the key ring opens it."""
    return _fields(row, SCRIPT_FIELDS) | {"sealed": b64encode(bytes(row.sealed)).decode()}


def _fields(row: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: _plain(getattr(row, name)) for name in names}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, (datetime, time)) else value


# ---- writing it


def write_stale(store: Store) -> int:
    """Write the state of every instance whose copies lie, or will lie, in this store and that has changed since it was
    last written; return how many. Raises StorageError. Safe to repeat, from any worker."""
    if recoveries.is_waiting(store.pk):  # what was brought back does not overrule what lies there
        return 0
    storage = store.open()
    presence.require_ours(store, storage)
    count, rows = 0, _described(store).order_by("pk").iterator(CHUNK)
    while chunk := list(islice(rows, CHUNK)):
        count += _write(chunk, store, storage)
    _forget(store, storage)
    return count


def write_of(instance_pk: int) -> None:
    """Write the state of one instance at each of its destinations; a store that does not answer is left to the
    sweep."""
    for store in Store.objects.attached().filter(role=Store.Role.PRIMARY).exclude(pk__in=recoveries.waiting_stores()):
        chosen = list(_described(store).filter(pk=instance_pk))
        if not chosen:
            continue
        try:
            storage = store.open()
            presence.require_ours(store, storage)
            _write(chosen, store, storage)
        except StorageError as error:
            log.warning("state not written", extra={"store": store.pk, "reason": error.sentence})


def _described(store: Store) -> QuerySet[Instance]:
    """Return the instances that back up to the store's region, or of which something still lies there."""
    there = Copy.objects.live().filter(policy=OuterRef("pk"), destination_store=store)
    policies = CopyPolicy.objects.filter(destination=store.region_id).filter(Q(enabled=True) | Exists(there))
    return Instance.objects.filter(pk__in=policies.values("instance")).select_related("group")


def _write(instances: list[Instance], store: Store, storage: Storage) -> int:
    known = {
        row.instance_id: row
        for row in StateObject.objects.filter(store=store, instance__in=[instance.pk for instance in instances])
    }
    count = 0
    for instance, body in documents(instances, store):
        row = known.get(instance.pk)
        digest = hashlib.sha256(body).hexdigest()
        if row is None:
            row, _ = StateObject.objects.get_or_create(instance=instance, store=store)
        if row.sha256 != digest and _put(row, instance, body, digest, storage):
            count += 1
        _trim(row, instance, storage, row.sequence - KEPT_VERSIONS)
    return count


def _put(row: StateObject, instance: Instance, body: bytes, digest: str, storage: Storage) -> bool:
    """Journal the number, then write; of two who write at once one wins, and the other goes home."""
    mine = StateObject.objects.filter(pk=row.pk, sequence=row.sequence)
    if not mine.update(sequence=row.sequence + 1, sha256=""):
        return False
    row.sequence += 1
    try:
        storage.put(layout.state_key(instance, row.sequence), body, absent=True)
    except Mismatch:  # somebody else's memory of this installation wrote here: the next number is tried next time
        log.warning("state number taken", extra={"instance": instance.code, "sequence": row.sequence})
        return False
    won = StateObject.objects.filter(pk=row.pk, sequence=row.sequence)
    return bool(won.update(sha256=digest, written_at=clock.now()))


def _trim(row: StateObject, instance: Instance, storage: Storage, until: int) -> None:
    """Delete what is older than the newest few: by numbers that were ours, never by a listing (I19)."""
    for sequence in range(row.oldest, until + 1):
        storage.delete(layout.state_key(instance, sequence))
    if until >= row.oldest:
        StateObject.objects.filter(pk=row.pk).update(oldest=until + 1)
        row.oldest = until + 1


def _forget(store: Store, storage: Storage) -> None:
    """Nothing of the instance lies there any more, nor will: its state goes too."""
    over = StateObject.objects.filter(store=store, oldest__lte=F("sequence")).exclude(instance__in=_described(store))
    for row in over.select_related("instance"):
        StateObject.objects.filter(pk=row.pk).update(sha256="")
        _trim(row, row.instance, storage, row.sequence)
