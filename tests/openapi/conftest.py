from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
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
from tests.house.running import soon
from tests.openapi import signing
from tests.servers import free_port

Ask = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[2]


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


# ---- the real web server


@pytest.fixture(scope="module")
def address(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """gunicorn, as `manage.py web` starts it, with two processes: what must hold over several holds here."""
    port, log = free_port(), tmp_path_factory.mktemp("web") / "web.log"
    command = [sys.executable, "manage.py", "web", "--port", str(port), "--processes", "2", "--threads", "2"]
    with open(log, "wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=os.environ.copy())
    try:
        assert soon(lambda: _answers(port), 60), log.read_text()
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _answers(port: int) -> bool:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).status == 200
    except OSError:
        return False
