"""What was brought back deletes nothing until an administrator confirms it (design.md §3 "Manifest")."""

from __future__ import annotations

from django.db import transaction

from backups import alerts, events
from backups.events import By
from backups.models import Recovery
from regions import clock
from regions.models import Store
from regions.refusals import Refusal


def waiting_stores() -> set[int]:
    """Return the stores whose copies wait for a confirmation: none of them is expired or erased."""
    return set(Recovery.objects.filter(confirmed_at=None).values_list("store", flat=True))


def is_waiting(store_id: int) -> bool:
    return store_id in waiting_stores()


def begin(store: Store, kind: str, by: By, *, lost: tuple[int, str] | None) -> Recovery:
    """From here on nothing expires or is erased in this store, until somebody confirms. `lost`: the newest head of the
    event log it had kept; heads of the log as it goes on are kept beside those, not over them (layout.head_key)."""
    sequence, digest = lost or (0, "")
    facts = {"kind": kind, "recovered_at": clock.now(), "lost_sequence": sequence, "lost_hash": digest}
    with transaction.atomic():
        recovery, _ = Recovery.objects.update_or_create(
            store=store, defaults=facts | {"confirmed_at": None, "confirmed_by": None}
        )
        events.record(
            "recovery.began",
            f"What lies in the store of {store.region} is brought back: {recovery.get_kind_display().lower()}.",
            by=by,
            store=store.pk,
            lost_sequence=sequence,
            lost_hash=digest,
        )
    return recovery


def confirm(recovery: Recovery, by: By) -> None:
    """From here on copies in this store expire by their dates again; raises Refusal when that was said before."""
    if by.user is None:
        raise Refusal("PersonNeeded", "A person has to confirm what was brought back.", "Name one.", "user")
    with transaction.atomic():
        waiting = Recovery.objects.filter(pk=recovery.pk, confirmed_at=None)
        if not waiting.update(confirmed_at=clock.now(), confirmed_by=by.user):
            raise Refusal("RecoveryConfirmed", "That has been confirmed already.", "")
        events.record(
            "recovery.confirmed",
            f"{by.name} confirmed what was brought back of the store of {recovery.store.region}.",
            by=by,
            store=recovery.store_id,
        )
        alerts.close_alert("recovery_unconfirmed", f"store:{recovery.store_id}")


def unconfirmed() -> dict[str, dict]:
    """Return the alerts there should be, as `alerts.keep` takes them."""
    waiting = Recovery.objects.filter(confirmed_at=None).select_related("store__region")
    return {
        f"store:{recovery.store_id}": {
            "sentence": f"What lies in the store of {recovery.store.region} was brought back"
            f" on {recovery.recovered_at:%Y-%m-%d %H:%M} UTC; nothing of it expires or is erased.",
            "remedy": f"Look at what is there, then confirm it: manage.py rebuild_catalog {recovery.store.region_id}"
            " --confirm --user NAME, or under Recoveries in the support admin.",
        }
        for recovery in waiting
    }


def of_store(store: Store) -> Recovery | None:
    return Recovery.objects.filter(store=store).select_related("store__region").first()
