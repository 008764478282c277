"""The hash chain over the event log: one sealer, so that writers never wait for each other (I16)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from django.db import connection, transaction

from backups import layout
from backups.models import Event, Seal
from regions.storage import Storage
from regions.storage.reading import whole

LOCK = 730_002
FIRST = "0" * 64
RECENT = 10_000


def content_of(event: Event) -> bytes:
    """Return the bytes a seal vouches for: every column, in a form that never depends on the reader."""
    fields = {
        "id": event.pk,
        "at": event.at.isoformat(),
        "kind": event.kind,
        "sentence": event.sentence,
        "actor": event.actor_id,
        "actor_name": event.actor_name,
        "address": event.address,
        "group": event.group_id,
        "instance": event.instance_id,
        "set": event.set_id,
        "data": event.data,
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def link(previous: str, event: Event) -> str:
    return hashlib.sha256(previous.encode() + content_of(event)).hexdigest()


def seal_events(limit: int = 5000, *, everything: bool = False) -> int:
    """Seal what is not sealed yet, in the order in which it became visible; return how many.

    Only the newest events are looked at, unless `everything` is asked for: a transaction that stayed open while
    RECENT other events were written is caught up hourly.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        if not cursor.fetchone()[0]:
            return 0
        head = Seal.objects.order_by("-sequence").first()
        sequence, previous = (head.sequence, head.hash) if head else (0, FIRST)
        seals = []
        newest = head.event_id if head and not everything else 0
        for event in Event.objects.filter(seal=None, pk__gt=newest - RECENT).order_by("pk")[:limit]:
            digest = link(previous, event)
            sequence += 1
            seals.append(Seal(sequence=sequence, event=event, previous=previous, hash=digest))
            previous = digest
        Seal.objects.bulk_create(seals)
    return len(seals)


def head() -> tuple[int, str]:
    newest = Seal.objects.order_by("-sequence").first()
    return (newest.sequence, newest.hash) if newest else (0, FIRST)


def kept_head(storage: Storage) -> tuple[int, str] | None:
    """Return the newest head of the log that a destination has kept, as (sequence, hash)."""
    heads = layout.heads()
    kept = (found for found in storage.list(heads) if "/" not in found.key.removeprefix(heads))
    newest = max(kept, key=lambda found: found.key, default=None)
    if newest is None:
        return None
    said = json.loads(whole(storage, newest))
    return said["sequence"], said["hash"]


def breaches(known_head: tuple[int, str] | None = None) -> Iterator[str]:
    """Yield what is wrong with the chain: a changed byte, a missing link, a tail cut behind a head seen elsewhere."""
    previous, sequence = FIRST, 0
    for seal in Seal.objects.select_related("event").order_by("sequence").iterator(2000):
        sequence += 1
        if seal.sequence != sequence:
            yield f"seal {sequence} is missing"
            sequence = seal.sequence
        if seal.previous != previous or seal.hash != link(seal.previous, seal.event):
            yield f"event {seal.event_id} is not what was sealed under number {seal.sequence}"
        previous = seal.hash
        if known_head and seal.sequence == known_head[0] and seal.hash != known_head[1]:
            yield f"seal {seal.sequence} differs from the head kept at a destination"
    if known_head and sequence < known_head[0]:
        yield f"the log ends at seal {sequence}; a destination has seen seal {known_head[0]}"
