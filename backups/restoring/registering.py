"""A restored server as an instance of its own, which is backed up, copied and restored like any other (R-2.1)."""

from __future__ import annotations

import ipaddress
from contextlib import suppress

from django.conf import settings
from django.db.models import Exists, OuterRef

from backups import policies
from backups.engines import engine_of
from backups.engines.facts import Connection
from backups.events import FARSHORE
from backups.models import Arrival, Edition, Instance, Restore
from backups.servers import reaching
from regions import network
from regions.refusals import Refusal


def why_not_here(source: Instance) -> str:
    """Return why restored servers of this kind cannot become instances, "" where they can."""
    engine = engine_of(source.engine)
    if not engine.capabilities.takes_backups or engine.probe is None:
        return f"Farshore takes no backups of {engine.capabilities.label}."
    if engine.capabilities.writes_to_a_share:
        return "its server writes its backups to a share, which nobody has named; add it by hand, with its share."
    if why := network.why_not(ipaddress.ip_address(settings.RESTORE_ADDRESS)):
        return f"it listens at {settings.RESTORE_ADDRESS}, where Farshore does not connect ({why})."
    return ""


def described(restore: Restore, reached: Connection) -> tuple[Instance | None, str]:
    """Return the new instance, not saved yet, after its server has answered; or None and why it is none.

    Its default backup is on and its cross-region backup off; one server without a secondary is a Basic Edition.
    """
    source = restore.instance
    if said := why_not_here(source):
        return None, said
    row = Instance(
        name=restore.name,
        group=source.group,
        region=restore.region,
        engine=source.engine,
        engine_version=source.engine_version,
        edition=Edition.BASIC,
        family=source.family,
        billing_method=source.billing_method,
        arrival=Arrival.TAKEN,
        host=reached.host,
        port=reached.port,
        username=reached.username,
        dbname=reached.dbname,
        tls=reached.tls,
    )
    reaching.keep_password(row, reached.password)
    try:
        found = engine_of(row.engine).probe(reaching.connection_of(row))
    except Refusal as refusal:
        return None, str(refusal)
    row.engine_version, row.data_bytes = found.version, found.data_bytes
    return row, ""


def release_result(restore: Restore) -> None:
    """The server of a restore is gone, and with it the instance it was, unless another one has taken its place."""
    others = Restore.objects.filter(state=Restore.State.READY, result=OuterRef("pk")).exclude(pk=restore.pk)
    gone = Instance.objects.living().filter(~Exists(others), restored_from=restore).first()
    if gone:
        with suppress(Refusal):  # somebody has released it in this moment
            policies.release(gone, FARSHORE)
