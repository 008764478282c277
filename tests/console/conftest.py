from __future__ import annotations

import pytest
from django.test import Client

from tests.console.fleet import Fleet


@pytest.fixture
def fleet(db: None) -> Fleet:
    return Fleet()


@pytest.fixture
def desk(client: Client, fleet: Fleet) -> Client:
    """A browser at which an operator has signed in."""
    client.force_login(fleet.user)
    return client
