"""What monitors ask: is the web there, can it work, and how do things stand."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache
from django.db import OperationalError
from django.test import Client

from console import health
from tests.console.fleet import Fleet

BEARER = {"authorization": "Bearer a long token"}


@pytest.fixture
def token(settings: Any) -> None:
    settings.METRICS_TOKEN = "a long token"
    cache.clear()


def test_alive_asks_nothing_of_the_database(client: Client) -> None:
    for where in ("/health", "/healthz"):
        assert client.get(where).content == b"ok\n"


@pytest.mark.django_db
def test_ready_means_the_database_answers_and_has_its_tables(client: Client, monkeypatch: Any) -> None:
    assert client.get("/readyz").content == b"ready\n"

    def away(*_: Any) -> Any:
        raise OperationalError("connection refused")

    monkeypatch.setattr(health, "MigrationExecutor", away)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.content) == (503, b"the database does not answer\n")


@pytest.mark.django_db
def test_not_ready_while_migrations_wait(client: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr(health.MigrationExecutor, "migration_plan", lambda *_: ["one"])
    assert client.get("/readyz").status_code == 503


def test_without_a_token_there_are_no_metrics(client: Client, settings: Any) -> None:
    settings.METRICS_TOKEN = ""
    assert client.get("/metrics", headers=BEARER).status_code == 404


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic a long token", "Bearer \xff"])
def test_metrics_are_for_who_brings_the_token(client: Client, token: None, header: str) -> None:
    answer = client.get("/metrics", headers={"authorization": header})
    assert answer.status_code == 401 and b"farshore" not in answer.content


@pytest.mark.django_db
def test_metrics_count_what_status_counts_and_name_nobody(client: Client, fleet: Fleet, token: None) -> None:
    fleet.everything()
    page = client.get("/metrics", headers=BEARER).content.decode()
    lines = page.splitlines()
    assert any(line.startswith('farshore_instances{state="failed"}') for line in lines)
    assert 'farshore_store_up{region="cn-shanghai"} 1' in lines
    assert 'farshore_copies{state="failed"} 1' in lines
    assert 'farshore_open_alerts{code="copy_failed"} 1' in lines
    assert "farshore_status 2" in lines
    assert "orders-primary" not in page
    for line in lines:
        assert line.startswith("# ") or float(line.rpartition(" ")[2]) >= 0


@pytest.fixture
def fleet(db: None) -> Fleet:
    return Fleet()
