from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from backups.events import By
from console.openapi import keys
from console.openapi.keys import Limits, NewSecret
from tests.backups import world as worlds
from tests.console.fleet import Fleet
from tests.openapi import signing

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def fleet(db: None) -> Fleet:
    return Fleet()


@pytest.fixture
def key(fleet: Fleet) -> NewSecret:
    """The key of an operator."""
    return key_of(fleet.user)


def key_of(user: User, *, accepts_rules: bool = False, **limits: Any) -> NewSecret:
    return keys.create(user, Limits(label="pipeline", **limits), By(user, "192.0.2.7"), accepts_rules=accepts_rules)


@pytest.fixture
def ask(client: Client, key: NewSecret) -> Ask:
    """Call an operation in the operator's name; returns what is answered, error or not."""

    def call(action: str, parameters: dict[str, Any] | None = None, *, by: NewSecret = key) -> dict[str, Any]:
        return signing.said(signing.acs3(by, action, parameters).send(client))

    return call


@pytest.fixture
def desk(client: Client, fleet: Fleet) -> Client:
    """A browser at which the operator has signed in."""
    client.force_login(fleet.user)
    return client


@pytest.fixture
def world(tmp_path: Path, db: None) -> worlds.World:
    return worlds.make(tmp_path)
