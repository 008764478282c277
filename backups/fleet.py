"""Joining and leaving the fleet: instances are added, stores attached and let go of, each with its event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.db import transaction

from backups import bell, events
from backups.default_backups import buckets, discovery, shares
from backups.engines import engine_of
from backups.engines.facts import ServerFacts
from backups.events import By
from backups.models import PENDING, Arrival, BackupJob, Copy, CopyPolicy, Instance
from backups.servers import reaching, secondaries, standings
from regions import stores
from regions.models import Region, Store
from regions.refusals import Refusal
from regions.storage import StoreOptions


def probe(instance: Instance, password: str) -> ServerFacts | None:
    """Connect to the server an unsaved instance describes, and see that its share is here; None for one known only by
    its files. Raises Refusal."""
    stores.store_of(instance.region_id)
    reaching.keep_password(instance, password)
    if instance.arrival == Arrival.FOUND:
        refusal = discovery.check_prefixes(instance)
        if refusal:
            raise refusal
        if not shares.is_known(instance):
            return None
    return reach(instance)


def reach(instance: Instance) -> ServerFacts:
    """Connect to the server, and to its secondary where one is named, and look at its share.

    Raises Refusal beside the field it is about.
    """
    shares.check(instance)
    ask = engine_of(instance.engine).probe
    if ask is None:
        raise Refusal("EngineNotReached", "Farshore cannot connect to this engine yet.", "", "engine")
    found = ask(reaching.connection_of(instance))
    instance.engine_version = found.version
    _require_a_place(instance)
    if not instance.secondary_host:
        return found
    try:
        secondary = ask(reaching.connection_of(instance, BackupJob.On.SECONDARY))
    except Refusal as refusal:
        field = "secondary_port" if refusal.field == "port" else "secondary_host"
        raise Refusal(refusal.code, f"Its secondary: {refusal.sentence}", refusal.remedy, field) from refusal
    secondaries.require_own(secondary, found.identity)
    notes = (f"Its secondary answers: version {secondary.version}.", *secondary.notes)
    return replace(found, notes=tuple(dict.fromkeys((*found.notes, *notes))))


def _require_a_place(instance: Instance) -> None:
    """Raise Refusal where the server has nothing to write its backups to: no share, and no store that it can."""
    is_taken = instance.arrival == Arrival.TAKEN and shares.is_needed(instance)
    if is_taken and not shares.is_known(instance) and not buckets.is_known(instance):
        raise buckets.why_not(instance) or Refusal(
            "ShareMissing",
            f"{instance.name} has no share, and its server, version {instance.engine_version}, cannot write into the"
            f" store of {instance.region}.",
            "Say where the server writes its backups, and under which path that is seen here.",
            "share_called",
        )


def add(instance: Instance, password: str, by: By) -> Instance:
    """Add an instance after its connection has been tried; raises Refusal, and then nothing is kept."""
    found = probe(instance, password)
    if found is not None:
        instance.data_bytes = found.data_bytes
    said = standings.ask(instance) if found is not None and standings.are_told(instance) else None
    shares.mark(instance)
    with transaction.atomic():
        instance.save()
        if said is not None:
            standings.write(instance, said)
        events.record("instance.added", f"{instance.name} was added in {instance.region}.", by=by, instance=instance)
    return instance


def attach(
    region: Region,
    url: str,
    options: Mapping[str, Any],
    credentials: Mapping[str, str],
    by: By,
    role: str = Store.Role.PRIMARY,
) -> Store:
    """Attach a store to a region after a whole round trip with it; raises Refusal, and then nothing is kept.

    A second store, for level-2 backup, comes beside the region's own (R-18.2).
    """
    if role == Store.Role.SECOND and region not in Region.objects.with_store():
        raise Refusal(
            "StoreMissing", f"{region} has no store yet.", "Attach its own first, then the second one.", "place"
        )
    store = stores.attach(region, url, options, credentials, role=role, user=by.user)
    what = "A second store" if role == Store.Role.SECOND else "A store"
    events.record("store.attached", f"{what} was attached to {region}: {store.url}.", by=by, store=store.pk)
    bell.announce_region(region.pk)
    return store


def move(store: Store, place: StoreOptions, by: By) -> Store:
    """Reach an attached store another way from now on, after a whole round trip that way; raises Refusal."""
    before = store.url
    store = stores.reconnect(store, place.options, place.credentials, place.url)
    if store.url == before:
        said = f"How the store of {store.region} is reached was changed: another endpoint, or other credentials."
    else:
        said = f"The store of {store.region} is reached at {store.url}; before, at {before}."
    events.record("store.moved", said, by=by, store=store.pk, before=before)
    bell.announce_region(store.region_id)
    return store


def reprobe(store: Store, by: By) -> Store:
    """Do the round trip again; what is wrong stands in the store's `last_error`."""
    stores.probe(store)
    word = "answered" if store.state == Store.State.OK else f"failed its round trip: {store.last_error}"
    events.record("store.probed", f"The store of {store.region} {word}.", by=by, store=store.pk, state=store.state)
    return store


def why_not_detach(store: Store) -> Refusal | None:
    """Return what still needs the store, None when nothing does."""
    refusal = _needed_as_second(store) if store.role == Store.Role.SECOND else _needed_as_primary(store)
    if refusal:
        return refusal
    if Copy.objects.filter(destination_store=store, state__in=PENDING).exists():
        return _needed("Copies are on their way to it.", "Wait until they have arrived, or cancel them.")
    return None


def _needed_as_primary(store: Store) -> Refusal | None:
    living = Instance.objects.living().filter(region=store.region_id).count()
    if living:
        return _needed(f"{living} instances of {store.region} keep their default backups in it.", "Release them first.")
    coming = CopyPolicy.objects.cross_region().live().filter(destination=store.region_id)
    if coming.exists():
        return _needed(f"Instances back up to {store.region}.", "Disable them, or choose another backup region.")
    return None


def _needed_as_second(store: Store) -> Refusal | None:
    if CopyPolicy.objects.intra_region().live().filter(destination=store.region_id).exists():
        return _needed(f"Level-2 backup of instances of {store.region} goes to it.", "Disable it for them first.")
    return None


def detach(store: Store, by: By) -> None:
    """Let go of a store: its objects stay where they are, and attaching the place again brings them back."""
    refusal = why_not_detach(store)
    if refusal:
        raise refusal
    with transaction.atomic():
        if stores.detach(store):
            events.record("store.detached", f"The store of {store.region} was detached.", by=by, store=store.pk)


def _needed(sentence: str, remedy: str) -> Refusal:
    return Refusal("StoreInUse", sentence, remedy)
