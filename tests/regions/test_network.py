from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from regions import network
from regions.refusals import Refusal


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "fe80::1",
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:a9fe:a9fe::1",
        "2001:0:1::1",
        "192.88.99.1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "::1.2.3.4",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "fec0::1",
    ],
)
def test_some_addresses_are_never_talked_to(address: str, settings: Any) -> None:
    settings.FARSHORE_ALLOW_LOOPBACK = True
    assert network.why_not(ip_address(address))


@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.1.1", "8.8.8.8", "2600::1", "fd12::1"])
def test_a_teams_own_network_and_the_world_are_open(address: str) -> None:
    assert network.why_not(ip_address(address)) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_open_only_where_the_settings_say_so(address: str, settings: Any) -> None:
    assert network.why_not(ip_address(address)) is None
    settings.FARSHORE_ALLOW_LOOPBACK = False
    assert network.why_not(ip_address(address)) == "loopback"


def test_allowed_networks_narrow_the_rest(settings: Any) -> None:
    settings.FARSHORE_ALLOWED_NETWORKS = ["10.0.0.0/8"]
    assert network.why_not(ip_address("10.1.2.3")) is None
    assert network.why_not(ip_address("8.8.8.8"))
    assert network.why_not(ip_address("2600::1"))


def test_the_address_that_was_judged_is_the_one_that_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that changes its answer between the look and the connection gains nothing."""
    answers = [[(0, 0, 0, "", ("127.0.0.1", 9))], [(0, 0, 0, "", ("169.254.169.254", 9))]]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answers.pop(0))
    assert network.address_of("moving.example", 9) == "127.0.0.1"
    with pytest.raises(Refusal):
        network.address_of("moving.example", 9)
