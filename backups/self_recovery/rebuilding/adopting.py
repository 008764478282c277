"""Whose store it is: an empty Farshore becomes the installation that its marker names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from backups import fleet, layout
from backups.copying import manifest
from backups.events import By
from backups.models import BackupSet, Copy, Instance, Recovery, ResourceGroup
from backups.self_recovery import state_objects
from backups.self_recovery.rebuilding.report import WRONG
from regions import marker
from regions.locations import clean_options, clean_url
from regions.models import Installation, Region, Store
from regions.refusals import Refusal
from regions.storage import Storage, StorageError, StoreOptions, open_storage
from regions.storage.reading import whole


def is_empty() -> bool:
    """Whether this Farshore knows nothing that another catalogue would have to be told apart from."""
    return not any(noun.objects.exists() for noun in (Store, Instance, BackupSet, Copy, ResourceGroup))


def adopt(url: str, options: Mapping[str, Any], credentials: Mapping[str, str], region_id: str, by: By) -> Store:
    """Attach the store of a lost Farshore to this one, which, being empty, is that installation from now on.

    One that it knows already, by its marker, is reached at this address from now on. Raises Refusal where this one has
    a catalogue of its own. Without `region_id` the manifests say where the store is.
    """
    try:
        url = clean_url(url)
        place = StoreOptions(url, clean_options(url, options), dict(credentials))
        storage = open_storage(place)
        found = marker.read(storage)
        if found is None:
            raise Refusal("MarkerMissing", f"{marker.KEY} is not in this store: no Farshore wrote it.", "", "url")
        known = Store.objects.attached().filter(uuid=found.store).first()
        region = known.region if known else _region_of(storage, found, region_id)
    except StorageError as error:
        raise Refusal("StoreUnreachable", error.sentence, "Check the address and the credentials.", "url") from error
    if known is None:
        return _attach_as(found, region, url, options, credentials, by)
    if _is_reached_so(known, place):
        return known
    require_lost()
    return fleet.move(known, place, by)


def _is_reached_so(known: Store, place: StoreOptions) -> bool:
    """Whether this is how a store is reached already; sealed credentials that no key opens are not how."""
    try:
        return known.storage_options() == place
    except Refusal:
        return False


def require_lost() -> None:
    """Raise Refusal where this Farshore has the catalogue that it wrote."""
    if Copy.objects.exists() and not Recovery.objects.exists():
        raise Refusal(
            "CatalogueNotEmpty",
            "This Farshore has its catalogue; rebuilding is for one that was lost.",
            "Begin with an empty one: another FARSHORE_DATA, or another DATABASE_URL.",
        )


def _attach_as(
    found: marker.Marker,
    region: Region,
    url: str,
    options: Mapping[str, Any],
    credentials: Mapping[str, str],
    by: By,
) -> Store:
    mine = Installation.current().uuid
    if found.installation != mine and not is_empty():
        raise Refusal(
            "CatalogueNotEmpty",
            "This Farshore has a catalogue of its own, and the store belongs to another one.",
            "Begin with an empty one: another FARSHORE_DATA, or another DATABASE_URL.",
        )
    Installation.objects.update(uuid=found.installation)
    try:
        return fleet.attach(region, url, options, credentials, by)
    except BaseException:
        Installation.objects.update(uuid=mine)
        raise


def _region_of(storage: Storage, found: marker.Marker, region_id: str) -> Region:
    """Return the region a store is in: the one named, else the one its first readable manifest names."""
    for info in storage.list(f"{layout.ROOT}v1/{found.installation}/"):
        if region_id and (known := Region.objects.filter(pk=region_id).first()):
            return known
        try:
            if info.key.endswith("/manifest.json"):
                said = manifest.read(whole(storage, info))
                region_id = region_id or str(said["copy"]["destination_region"])
            elif f"/{layout.STATE}/" in info.key and region_id:
                facts = manifest.read(whole(storage, info), state_objects.FORMAT)["regions"]
                return next(know_region(region) for region in facts if region["id"] == region_id)
        except (*WRONG, StopIteration):
            continue
    if not region_id:
        raise Refusal("RegionUnknown", "Nothing in this store says in which region it is.", "Name it with --region.")
    return know_region({"id": region_id})


def know_region(facts: Mapping[str, Any]) -> Region:
    """Return a region by its facts; one of a team's own is added again."""
    known = Region.objects.filter(pk=facts["id"]).first()
    if known:
        return known
    if not facts.get("scope"):
        said = f"There is no region {facts['id']} here."
        raise Refusal("RegionUnknown", said, "Add it in the support admin, then repeat.")
    row = Region(**{name: facts[name] for name in state_objects.REGION_FIELDS} | {"is_custom": True})
    row.full_clean()
    with transaction.atomic():
        row.save(force_insert=True)
    return row
