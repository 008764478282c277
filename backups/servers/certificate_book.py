"""Writing down that a certificate is at hand in a region, or no longer: what can be restored there follows (R-3.5)."""

from __future__ import annotations

import re

from django.db import IntegrityError, transaction
from django.db.models import Q

from backups import events
from backups.chains import windows
from backups.events import By
from backups.models import Copy, Instance, RegisteredCertificate
from regions import clock
from regions.models import Region, Store
from regions.refusals import Refusal

HEX = re.compile(r"[0-9a-f]{8,64}")


def register(region: Region, thumbprint: str, note: str, by: By) -> RegisteredCertificate:
    """Write down that the certificate, with its private key, is at hand in a region; raises Refusal."""
    said = plain(thumbprint)
    try:
        with transaction.atomic():
            row = RegisteredCertificate.objects.create(
                region=region, thumbprint=said, note=note, registered_by=by.user, registered_at=clock.now()
            )
            sentence = f"Certificate {said} was registered in {region}."
            events.record("certificate.registered", sentence, by=by, certificate=row.pk)
    except IntegrityError:
        raise Refusal(
            "CertificateKnown", f"Certificate {said} is registered in {region} already.", "", "thumbprint"
        ) from None
    settle(region.pk, said)
    return row


def withdraw(row: RegisteredCertificate, by: By) -> bool:
    """Write down that it is no longer at hand; False when that was said already."""
    with transaction.atomic():
        rows = RegisteredCertificate.objects.filter(pk=row.pk, withdrawn_at=None)
        if not rows.update(withdrawn_at=clock.now()):
            return False
        sentence = f"Certificate {row.thumbprint} was withdrawn in {row.region}."
        events.record("certificate.withdrawn", sentence, by=by, certificate=row.pk)
    settle(row.region_id, row.thumbprint)
    return True


def plain(thumbprint: str) -> str:
    """Return a thumbprint as msdb and sys.certificates mean it: lower-case hex without 0x; raises Refusal."""
    said = re.sub(r"[\s:]", "", thumbprint).lower().removeprefix("0x")
    if not HEX.fullmatch(said) or len(said) % 2:
        raise Refusal(
            "InvalidThumbprint",
            f"{thumbprint[:80]} is no thumbprint.",
            "Enter what SELECT thumbprint FROM sys.certificates says: 40 hexadecimal digits.",
            "thumbprint",
        )
    return said


def settle_instance(instance: Instance) -> None:
    """The certificate entered for an instance has changed: work out anew what can be restored of it."""
    for store in windows.stores_with_copies(instance):
        windows.rebuild(instance, store)


def settle(region_id: str, *thumbprints: str) -> int:
    """Work out anew what can be restored in a region of what these certificates open; returns how many chains."""
    own, whole = "set__certificate_thumbprint__in", "set__instance__certificate_thumbprint__in"
    opened = Q(**{own: thumbprints}) | Q(**{whole: thumbprints})
    copies = Copy.objects.restorable().filter(opened, destination_store__region=region_id).order_by()
    chains = list(copies.values_list("set__instance", "destination_store", "set__database").distinct())
    for instance, store, database in chains:
        windows.rebuild(Instance.objects.get(pk=instance), Store.objects.get(pk=store), [database])
    return len(chains)
