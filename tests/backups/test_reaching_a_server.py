"""How a server is reached: through the network door, and never by a socket of the machine Farshore runs on."""

from __future__ import annotations

import pytest

from backups.servers.reaching import connection_of
from regions.refusals import Refusal
from tests.backups.world import World


def test_a_socket_of_this_machine_is_refused_as_loopback_is(world: World, settings: object) -> None:
    instance = world.instance(engine="postgresql", host="/run/postgresql")
    assert connection_of(instance).hostaddr == ""

    settings.FARSHORE_ALLOW_LOOPBACK = False
    with pytest.raises(Refusal, match="socket of this machine"):
        connection_of(instance)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "@hidden", "", 70 * "x"])
def test_a_name_nobody_knows_is_refused_beside_its_field(world: World, host: str) -> None:
    with pytest.raises(Refusal) as refused:
        connection_of(world.instance(engine="postgresql", host=host))
    assert refused.value.field in ("host", "endpoint")
