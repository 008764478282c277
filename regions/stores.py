"""Attach, probe and detach the stores of regions, and find the one a region has.

Nothing here holds a transaction while the network is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, transaction

from regions import clock, marker, probing
from regions.locations import clean_options, clean_url, location_of
from regions.models import Installation, Region, Store
from regions.refusals import Refusal
from regions.storage import Storage, StorageError, StoreOptions, open_storage

OWN = "farshore/"
ATTACHING = 0x66617273686F7265  # the advisory lock under which two attachments are compared with each other

REMEDIES = {
    "AccessDenied": "Grant the key reading, writing, listing and deleting there.",
    "AddressRefused": "",
    "Certificate": "Give the authority's certificate under Verify, or mend the server's.",
    "ConnectionRefused": "Check the endpoint and that the server runs.",
    "InvalidAccessKeyId": "Check the access key.",
    "NameUnknown": "Check the endpoint.",
    "NoCredentials": "Enter an access key and its secret.",
    "NoSuchBucket": "Create the bucket, or correct its name.",
    "NoSuchFolder": "Mount it there again, or correct the address.",
    "NoSpace": "Make room first.",
    "ReadOnly": "Mount it writable.",
    "SignatureDoesNotMatch": "Check the secret key and the region.",
    "TimedOut": "Check the endpoint, and that a firewall lets this machine through.",
}
FIELDS = {
    "AddressRefused": "endpoint",
    "Certificate": "verify",
    "ConnectionRefused": "endpoint",
    "NameUnknown": "endpoint",
    "TimedOut": "endpoint",
    "InvalidAccessKeyId": "access_key_id",
    "NoCredentials": "access_key_id",
    "SignatureDoesNotMatch": "secret_access_key",
}


def store_of(region_id: str, role: str = Store.Role.PRIMARY) -> Store:
    """Return the attached store of a region; raises Refusal when there is none."""
    store = Store.objects.attached().select_related("region").filter(region_id=region_id, role=role).first()
    if store is None:
        raise Refusal("StoreMissing", f"No store is attached to {region_id}.", "Attach one on the Stores page.")
    return store


def attach(
    region: Region,
    url: str,
    options: Mapping[str, Any] | None = None,
    credentials: Mapping[str, str] | None = None,
    *,
    role: str = Store.Role.PRIMARY,
    user: AbstractBaseUser | None = None,
) -> Store:
    """Attach a store to a region after a whole round trip with it; raises Refusal, and then nothing is kept.

    A place that was attached to this region before is recognised by its marker and comes back as the same Store.
    """
    url = clean_url(url)
    place = StoreOptions(url, clean_options(url, options or {}), dict(credentials or {}))
    _require_free(region, role, place)
    with _in_words():
        storage = open_storage(place)
        store = _own_or_new(region, role, _whose(storage))
        capabilities = _examined(storage)
        _require_ours(marker.claim(storage, _marker_of(store)), store)
    return _save(store, place, capabilities, user)


def test(
    url: str, options: Mapping[str, Any] | None = None, credentials: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Do the round trip of `attach` for a form's connection test: return the capabilities, keep nothing."""
    url = clean_url(url)
    with _in_words():
        storage = open_storage(StoreOptions(url, clean_options(url, options or {}), dict(credentials or {})))
        _whose(storage)
        return _examined(storage)


def reconnect(store: Store, options: Mapping[str, Any], credentials: Mapping[str, str], url: str = "") -> Store:
    """Change how an attached store is reached, after a round trip that way; raises Refusal and keeps the old one.

    `url`: where it lies now, when it is another address; the marker there says that it is the same store.
    """
    url = clean_url(url or store.url)
    place = StoreOptions(url, clean_options(url, options), dict(credentials))
    _require_free(store.region, store.role, place, but=store)
    with _in_words():
        storage = open_storage(place)
        _require_ours(marker.read(storage), store)
        capabilities = _examined(storage)
    return _save(store, place, capabilities, None)


def probe(store: Store) -> Store:
    """Do the whole round trip again and record capabilities and state; what is wrong stands in `last_error`."""
    return _recorded(store, _examined)


def look(store: Store) -> Store:
    """Read the marker and record the state: cheap enough for every minute."""
    return _recorded(store, lambda storage: store.capabilities)


def detach(store: Store) -> bool:
    """Let go of a store: its row, its objects and its marker stay. False when it was let go of before.

    Whether something still needs it (instances, policies, copies on their way) is for the rooms above to ask first.
    """
    return Store.objects.attached().filter(pk=store.pk).update(detached_at=clock.now()) == 1


def _recorded(store: Store, examine: Callable[[Storage], dict[str, Any]]) -> Store:
    try:
        with _in_words():
            storage = store.open()
            _require_ours(marker.read(storage), store)
            store.capabilities = {**examine(storage), "space_left": storage.space_left()}
        store.state, store.last_error = Store.State.OK, ""
    except Refusal as refusal:
        unreachable = refusal.code == "StoreUnreachable"
        store.state = Store.State.UNREACHABLE if unreachable else Store.State.REFUSED
        store.last_error = str(refusal)
    store.probed_at = clock.now()
    store.save(update_fields=["state", "last_error", "capabilities", "probed_at"])
    return store


def _examined(storage: Storage) -> dict[str, Any]:
    for rule in storage.expiring_rules(OWN):
        raise Refusal(
            "StoreExpires",
            f"A lifecycle rule of the bucket would delete Farshore's objects: {rule}",
            f"Remove it, or let it leave out {OWN}; retention is Farshore's.",
            "url",
        )
    return {**probing.examine(storage, at=clock.now()), "space_left": storage.space_left()}


def _whose(storage: Storage) -> UUID | None:
    """Return the uuid of our store that a place was before, None for a place that is nobody's."""
    found = marker.read(storage)
    if found and found.installation != Installation.current().uuid:
        raise Refusal(
            "StoreTaken",
            f"This place belongs to another Farshore ({found.installation}).",
            "Choose another prefix.",
            "url",
        )
    return found.store if found else None


def _own_or_new(region: Region, role: str, uuid: UUID | None) -> Store:
    store = Store.objects.select_related("region").filter(uuid=uuid).first() if uuid else None
    if store is None:
        return Store(uuid=uuid or uuid4(), region=region, role=role)
    if store.is_attached or (store.region_id, store.role) != (region.pk, role):
        what = "is" if store.is_attached else "was"
        raise Refusal(
            "StoreTaken",
            f"This place {what} the {store.get_role_display().lower()} store of {store.region.name}.",
            "Choose another prefix.",
            "url",
        )
    return store


def _marker_of(store: Store) -> marker.Marker:
    return marker.Marker(Installation.current().uuid, store.uuid)


def _require_ours(found: marker.Marker | None, store: Store) -> None:
    if found is None:
        raise Refusal(
            "MarkerMissing",
            f"{marker.KEY} is gone from the store: it was emptied, or another one is mounted there.",
            "Look at what happened before anything is written.",
            "url",
        )
    if found != _marker_of(store):
        raise Refusal("StoreTaken", "The store's marker is another's.", "Choose another prefix.", "url")


def _require_free(region: Region, role: str, place: StoreOptions, *, but: Store | None = None) -> None:
    wanted = location_of(place.url, place.options)
    for other in Store.objects.attached().exclude(pk=but and but.pk).select_related("region"):
        if (other.region_id, other.role) == (region.pk, role):
            raise Refusal("RegionHasStore", f"{region.name} has a store already: {other.url}.", "Detach it first.")
        if wanted.overlaps(location_of(other.url, other.options)):
            raise Refusal(
                "StoreOverlaps",
                f"This place lies in, or around, the store of {other.region.name} ({other.url}).",
                "Choose a folder or prefix beside it.",
                "url",
            )


@transaction.atomic
def _save(store: Store, place: StoreOptions, capabilities: dict[str, Any], user: AbstractBaseUser | None) -> Store:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ATTACHING])
    if not store.attached_at or store.detached_at:
        _require_free(store.region, store.role, place)
        store.attached_at, store.detached_at, store.attached_by = clock.now(), None, user
    store.url, store.options, store.capabilities = place.url, dict(place.options), capabilities
    store.keep_credentials(dict(place.credentials))
    store.state, store.last_error, store.probed_at = Store.State.OK, "", clock.now()
    store.save()
    return store


@contextmanager
def _in_words() -> Iterator[None]:
    """Turn what a store answers into the refusal a person reads beside the field it is about."""
    try:
        yield
    except StorageError as error:
        remedy = REMEDIES.get(error.code, "Try again later.")
        raise Refusal("StoreUnreachable", error.sentence, remedy, FIELDS.get(error.code, "url")) from error
