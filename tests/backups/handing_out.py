"""Copies with bytes of their own, to be downloaded: random bodies, one file or several stripes."""

from __future__ import annotations

import random
from datetime import timedelta

from backups import downloads, policies
from backups.copying import planning
from backups.downloads import Handout
from backups.models import BackupFile, BackupSet, Copy, CopyState, Instance, SetFile
from regions import clock
from tests.backups.world import World


def body_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def completed(world: World, instance: Instance, *bodies: bytes, names: tuple[str, ...] = (), **facts: object) -> Copy:
    """Lay a finished backup of these files at the source and bring its copy all the way."""
    at = clock.now()
    guid = f"guid-{BackupSet.objects.count()}"
    found = BackupSet.objects.create(
        instance=instance,
        finished_at=at,
        discovered_at=at,
        set_guid=guid,
        size_bytes=sum(map(len, bodies)),
        **{"kind": "full", "database": "Sales", **facts},
    )
    for n, body in enumerate(bodies, 1):
        name = names[n - 1] if names else f"{guid}-{n}.bak"
        file = _file(world, instance, name, body)
        SetFile.objects.create(set=found, file=file, family_sequence=n)
    planning.weigh(found.pk)
    world.carry(policies.enabled_policy(instance).destination_id)
    return found.copies.get(state=CopyState.COMPLETED)


def _file(world: World, instance: Instance, name: str, body: bytes) -> BackupFile:
    store, at = world.store(instance.region_id), clock.now()
    stored = store.open().put(instance.prefixes[0] + name, body)
    return BackupFile.objects.create(
        instance=instance,
        store=store,
        key=stored.key,
        size=stored.size,
        etag=stored.etag,
        modified_at=stored.modified_at,
        state=BackupFile.State.SETTLED,
        first_seen_at=at,
        settled_at=at,
    )


def link(world: World, copy: Copy, address: str = "internet") -> Handout:
    return downloads.ask(copy, world.by, address, learnt=True)[0]


HOUR = timedelta(hours=1)
