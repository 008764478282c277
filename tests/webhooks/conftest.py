from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from backups import seals
from backups.events import By
from console.webhooks import delivering, deriving, endpoints
from console.webhooks.endpoints import NewSecret, Wish
from console.webhooks.models import CHOSEN
from tests.webhooks.receiver import Receiver, receiving

Make = Callable[..., NewSecret]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def make(db: None, receiver: Receiver) -> Make:
    """Make an endpoint of somebody's that hears of everything, unless it is said otherwise."""

    def made(owner: User, **wish: Any) -> NewSecret:
        usual = {"name": "pager", "url": receiver.url, "kinds": CHOSEN}
        return endpoints.create(owner, Wish(**usual | wish), By(owner, "192.0.2.7"))

    return made


def sweep() -> int:
    """Do what the timetable would: seal, find, send. Returns how many attempts were made."""
    seals.seal_events()
    deriving.derive()
    return delivering.deliver_due()
