"""Two addresses of one file: over the Internet, which costs, and inside the network, which is free (R-4.3)."""

from __future__ import annotations

import ipaddress
import re

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from backups.downloads import Handout
from backups.models import Download

PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7", "fe80::/10")
)
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def has_inside() -> bool:
    """Whether there is an address inside: INTERNAL_URL, or our only one where no PUBLIC_URL is set."""
    return bool(settings.INTERNAL_URL or not settings.PUBLIC_URL)


def is_inside(request: HttpRequest) -> bool:
    """Whether a request came by the internal address; without INTERNAL_URL, from a private network."""
    if settings.INTERNAL:
        return request.get_host().lower() == settings.INTERNAL.netloc.lower()
    return not settings.PUBLIC_URL and _is_private(request.META.get("REMOTE_ADDR", ""))


def _is_private(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return True  # a socket of this machine has no address
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in network for network in PRIVATE if network.version == found.version)


def address_of(request: HttpRequest, handout: Handout) -> str:
    """Return the whole address of a link; its last word is for programs that name the file after it."""
    name = UNSAFE.sub("_", handout.download.name).strip("._") or "backup"
    path = reverse("links:file", args=[handout.token, name])
    inside = handout.download.address == Download.Address.INTERNAL
    base = settings.INTERNAL_URL if inside else settings.PUBLIC_URL
    return f"{base}{path}" if base else request.build_absolute_uri(path)
