"""Which certificates are at hand where, and what lacks its own there (R-3.5).

A set needs the certificate that its backup, or its database, was encrypted with, and the one entered for its instance.
One that is encrypted with nobody knows what is sealed everywhere.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Func, OuterRef, Q, QuerySet

from backups.models import BackupSet, Copy, Instance, LandingServer, RegisteredCertificate

UNKNOWN = "?"  # encrypted, with a certificate that nobody has named
NOTHING, ENCRYPTED = frozenset[str](), frozenset([UNKNOWN])
ITS = ("is_encrypted", "certificate_thumbprint", "instance__certificate_thumbprint")  # what `needed` is asked with
OF_ITS_SET = tuple(f"set__{name}" for name in ITS)


def at_hand(region: Any) -> list[QuerySet]:
    """Return the sources of thumbprints (lower-case hex) that are at hand in a region, which may be an OuterRef.

    The one place that knows where they may be: everything else asks here, or `are_there`.
    """
    registered = RegisteredCertificate.objects.filter(region=region, withdrawn_at=None)
    seen = (
        LandingServer.objects.living()
        .filter(region=region)
        .annotate(thumbprint=Func("certificates", function="unnest"))
    )
    return [rows.order_by().values_list("thumbprint", flat=True) for rows in (registered, seen)]


def are_there(region_id: str) -> frozenset[str]:
    """Return the thumbprints of the certificates at hand in a region."""
    return frozenset(thumbprint for source in at_hand(region_id) for thumbprint in source)


def needed(is_encrypted: bool, *thumbprints: str) -> frozenset[str]:
    """Return the certificates that something is opened with: of its set, and of its instance. Pure."""
    if any(thumbprints):
        return frozenset(one.lower() for one in thumbprints if one)
    return ENCRYPTED if is_encrypted else NOTHING


def needed_by(found: BackupSet) -> frozenset[str]:
    return needed(found.is_encrypted, found.certificate_thumbprint, found.instance.certificate_thumbprint)


def missing_for(found: BackupSet, region_id: str) -> list[str]:
    """Return which certificates of a set are not at hand in a region; [] when it can be opened there."""
    wanted = needed_by(found)
    return sorted(wanted - are_there(region_id)) if wanted else []


class AtHand:
    """What is at hand where: asked once for each region, and only when something is encrypted at all."""

    def __init__(self) -> None:
        self._known: dict[str, frozenset[str]] = {}

    def misses(self, wanted: frozenset[str], region_id: str) -> frozenset[str]:
        if not wanted:
            return wanted
        if region_id not in self._known:
            self._known[region_id] = are_there(region_id)
        return wanted - self._known[region_id]


def sealed(region: Any, path: str = "set__") -> Q:
    """Return the condition of sets (of copies, by their `path`) that cannot be opened in a region."""
    own, whole = f"{path}certificate_thumbprint", f"{path}instance__certificate_thumbprint"
    unnamed = Q(**{f"{path}is_encrypted": True, own: "", whole: ""})
    return unnamed | _lacks(own, region) | _lacks(whole, region)


def _lacks(column: str, region: Any) -> Q:
    found = ~Q(**{column: ""})
    for source in at_hand(region):
        found &= ~Q(**{f"{column}__in": source})
    return found


def sealed_copies() -> Q:
    """Return the condition of copies that cannot be opened where they lie, wherever that is."""
    return sealed(OuterRef("destination_store__region"))


def wanted_by(instance: Instance, since: datetime) -> frozenset[str]:
    """Return what an instance's backups need: as its server, its form and its data sets finished since say."""
    told = instance.databases.present().exclude(certificate_thumbprint="")
    sets = instance.sets.data().filter(finished_at__gte=since).exclude(certificate_thumbprint="")
    named = [rows.order_by().values_list("certificate_thumbprint", flat=True).distinct() for rows in (told, sets)]
    return needed(False, instance.certificate_thumbprint, *named[0], *named[1])


def is_sealed(copy: Copy) -> bool:
    """Whether a copy cannot be opened where it lies; its set's instance and its store come along."""
    return bool(needed_by(copy.set)) and bool(missing_for(copy.set, copy.destination_store.region_id))
