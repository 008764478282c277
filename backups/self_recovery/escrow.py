"""Is a copy of the key ring kept elsewhere? Without one, a lost machine takes every dump and credential with it."""

from __future__ import annotations

from django.db import transaction

from backups import alerts, events
from backups.events import By
from backups.models import Event
from regions import secrets
from regions.refusals import Refusal

CODE, SUBJECT, KIND = "keys_not_escrowed", "installation", "keys.escrowed"


def is_escrowed() -> bool:
    """Whether somebody has said so of the ring as it is now: a new key asks again."""
    newest = Event.objects.filter(kind=KIND).order_by("-pk").first()
    return newest is not None and set(newest.data.get("keys", ())) >= set(secrets.key_ids())


def confirm(by: By) -> None:
    """Record that this person keeps a copy of the ring elsewhere; the alert closes."""
    if by.user is None:
        raise Refusal("PersonNeeded", "A person has to say so.", "Name one.", "user")
    keys = secrets.key_ids()
    if not keys:
        raise Refusal("KeyRingMissing", "There is no key ring yet.", "Start Farshore once.")
    with transaction.atomic():
        events.record(KIND, f"{by.name} keeps a copy of the key ring elsewhere.", by=by, keys=keys)
        alerts.close_alert(CODE, SUBJECT)


def missing() -> dict[str, dict]:
    """Return the alert there should be, as `alerts.keep` takes it."""
    if not secrets.exists() or is_escrowed():
        return {}
    return {
        SUBJECT: {
            "sentence": "Nobody has said that a copy of the key ring is kept elsewhere: with this machine every stored"
            " credential and every dump of Farshore's database would be lost.",
            "remedy": "Keep what `manage.py keys export` prints elsewhere, then say so on the Stores page.",
        }
    }
