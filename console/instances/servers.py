"""What the server of an instance says, and what it would take to restore it elsewhere, in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils.translation import gettext

from backups.chains import certificates
from backups.models import CopyPolicy, Instance, ServerLook
from backups.servers import standings
from console.widgets import words
from console.widgets.labels import translated

A_WHILE = timedelta(days=14)


@dataclass(frozen=True)
class Trouble:
    """A sentence worth showing at the head of the page; `icon` is its sign."""

    sentence: str
    icon: str


def troubles(instance: Instance, policy: CopyPolicy | None, at: datetime) -> list[Trouble]:
    """Return what keeps an instance's server from being asked, or its copies from being opened; [] for most."""
    if not standings.are_told(instance) and not instance.certificate_thumbprint:
        return []
    said = [Trouble(_failing(look, at), "unplug") for look in instance.server_looks.filter(failures__gt=0)]
    if policy is None or not policy.enabled:
        return said
    missing = certificates.wanted_by(instance, at - A_WHILE)
    if missing:
        missing -= certificates.are_there(policy.destination_id)
    return said + [Trouble(_needs(one, policy), "key-round") for one in sorted(missing)]


def _failing(look: ServerLook, at: datetime) -> str:
    named = {"length": words.lasting(at - look.failing_since), "error": look.error}
    if look.side == ServerLook.Side.SECONDARY:
        return gettext("Its secondary has not answered for %(length)s: %(error)s") % named
    return gettext("Its server has not answered for %(length)s: %(error)s") % named


def _needs(thumbprint: str, policy: CopyPolicy) -> str:
    named = {"print": thumbprint, "region": translated(policy.destination.name)}
    said = gettext(
        "It needs certificate %(print)s at the destination. None is registered in %(region)s: what is encrypted with it"
        " cannot be restored there."
    )
    return said % named
