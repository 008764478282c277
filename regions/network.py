"""The one door to the network: a name is resolved once, its address is judged, and that very address is connected to.

`ipaddress.is_global` is not the judge: it passes NAT64, 6to4 and the 6to4 relay anycast (invariants.md), all of which
carry a packet to an address that was never looked at. Private networks are where a team's own stores live, so they
are open until FARSHORE_ALLOWED_NETWORKS narrows them.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from itertools import islice

from django.conf import settings

from regions.refusals import Refusal

Address = IPv4Address | IPv6Address

NEVER = tuple(
    (ipaddress.ip_network(network), why)
    for network, why in (
        ("0.0.0.0/8", "unspecified"),
        ("169.254.0.0/16", "link-local (cloud metadata lives there)"),
        ("100.100.100.200/32", "a cloud metadata service"),
        ("168.63.129.16/32", "a cloud metadata service"),
        ("192.0.0.192/32", "a cloud metadata service"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/96", "unspecified"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("fd00:ec2::/32", "a cloud metadata service"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("2002::/16", "6to4"),
        ("2001::/32", "Teredo"),
        ("ff00::/8", "multicast"),
    )
)


def why_not(address: Address) -> str | None:
    """Return why Farshore does not talk to this address, None when it does."""
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return None if getattr(settings, "FARSHORE_ALLOW_LOOPBACK", False) else "loopback"
    for network, why in NEVER:
        if address in network:
            return why
    narrowed_to = getattr(settings, "FARSHORE_ALLOWED_NETWORKS", None) or ()
    allowed = [ipaddress.ip_network(network, strict=False) for network in narrowed_to]
    if allowed and not any(address in network for network in allowed):
        return "outside FARSHORE_ALLOWED_NETWORKS"
    return None


def address_of(host: str, port: int) -> str:
    """Resolve once and return the address to give to a client that cannot use `connect` (libpq's hostaddr, say).

    Raises Refusal for an address Farshore does not talk to, OSError when the name is not known.
    """
    return str(next(_allowed(host, port)))


def connect(host: str, port: int, timeout: float, *, tries: int | None = None) -> socket.socket:
    """Open a TCP connection to the first allowed address that answers; raises Refusal or OSError.

    `timeout` is for each address; `tries`: for how many of them, all unless it is said.
    """
    problem: OSError | None = None
    for address in islice(_allowed(host, port), tries):
        try:
            connection = socket.create_connection((str(address), port), timeout)
        except OSError as error:
            problem = error
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    raise problem or OSError(f"{host} has no address.")


def _allowed(host: str, port: int) -> Iterator[Address]:
    addresses = list(_resolve(host, port))
    allowed = [address for address in addresses if why_not(address) is None]
    if addresses and not allowed:
        raise Refusal(
            "AddressRefused",
            f"{host} is at {addresses[0]}, which is {why_not(addresses[0])}; Farshore does not connect there.",
            "Use an address your team's network allows.",
            field="endpoint",
        )
    return iter(allowed)


def _resolve(host: str, port: int) -> Iterable[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return dict.fromkeys(ipaddress.ip_address(entry[4][0].partition("%")[0]) for entry in found)
