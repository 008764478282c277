"""What every test has: a PostgreSQL of its own, real programs by name, and a browser.

`manage.py test` brings the packages. The database starts when the first test asks for it, so that tests without one
stay quick; TEST_DATABASE_URL names another server to use instead.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import hypothesis
import pytest
from django.db import connection, connections
from pytest_django import DjangoDbBlocker

from console.runtime.postgres import Postgres
from tests.flushing import tame_the_flush
from tests.room import ROOM

# The same examples at every run, so that a green run stays green; --soak looks for new ones.
hypothesis.settings.register_profile("steady", derandomize=True, database=None, deadline=None)
hypothesis.settings.register_profile("searching", deadline=None)
hypothesis.settings.load_profile("searching" if "--soak" in sys.argv else "steady")

pytest_plugins = ["tests.programs", "tests.browsing", "tests.servers"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all", action="store_true", help="kill windows, from-nothing starts and browser stories too, as CI"
    )
    parser.addoption("--soak", action="store_true", help="run the tests of thousands of examples, and only those")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = {item for item in items if _is_chosen(item, config)}
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = [item for item in items if item in chosen]


def _is_chosen(item: pytest.Item, config: pytest.Config) -> bool:
    soaks = item.get_closest_marker("soak") is not None
    if soaks or config.getoption("--soak"):
        return soaks and config.getoption("--soak")
    takes_long = item.get_closest_marker("long") or item.get_closest_marker("browser")
    return not takes_long or config.getoption("--all") or _is_named(item, config)


def _is_named(item: pytest.Item, config: pytest.Config) -> bool:
    """Whoever names a file or folder of long tests means them."""
    named = [Path(argument.split("::")[0]).resolve() for argument in config.args]
    return any(place in (item.path, *item.path.parents) and place != config.rootpath / "tests" for place in named)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The tests' own PostgreSQL; quick and forgetful, since nothing in it outlives the run."""
    server = Postgres(ROOM / "postgres", ROOM / "sockets", ROOM / "postgres.log", durable=False)
    server.prepare()
    server.start()
    yield server
    for open_connection in connections.all():
        open_connection.close()
    server.stop()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request: pytest.FixtureRequest) -> None:
    """pytest-django asks this before it makes the test database: point it at our server."""
    if "TEST_DATABASE_URL" in os.environ:
        return
    server: Postgres = request.getfixturevalue("postgres_server")
    for found in connections.all():
        found.settings_dict.update(HOST=str(server.sockets), USER=server.superuser, NAME="postgres")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """After the tables are made, tell child processes (workers that a test starts and kills) where they are."""
    with django_db_blocker.unblock():
        tame_the_flush()
    os.environ["DATABASE_URL"] = _url(connection.settings_dict)


def _url(place: dict[str, Any]) -> str:
    words = {"HOST": "host", "PORT": "port", "USER": "user", "PASSWORD": "password"}
    given = {word: place[name] for name, word in words.items() if place.get(name)}
    return f"postgresql:///{place['NAME']}?{urlencode(given)}"


@pytest.fixture(autouse=True)
def _quiet_storage(settings: object) -> None:
    """Static files by their plain names: no manifest has been collected here."""
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
