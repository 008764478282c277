"""Of a machine that vanished, PostgreSQL learns within a minute, not after two hours: its locks are for others then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.db.backends.postgresql.base import DatabaseWrapper

from console.runtime import leader
from tests.engines.postgresql.clusters import Cluster

SHOWN = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")


@pytest.fixture
def place(cluster: Cluster) -> dict[str, Any]:
    where = cluster.connection
    said = {"HOST": "127.0.0.1", "PORT": str(where.port), "USER": where.username, "PASSWORD": where.password}
    return said | {"NAME": where.dbname or "postgres", "OPTIONS": {}}


def longest(session: Any) -> int:
    """Return for how many seconds PostgreSQL believes in a machine that says nothing any more."""
    idle, interval, count = (int(session.execute(f"SHOW {name}").fetchone()[0]) for name in SHOWN)
    return idle + interval * count


def test_a_beat_that_vanished_leads_no_longer_than_a_minute(
    place: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader, "settings", SimpleNamespace(DATABASES={"default": place}))
    with leader.connect() as session:
        assert 0 < longest(session) <= 60


@pytest.mark.django_db
def test_nor_does_any_other_session_of_ours_hold_its_locks(place: dict[str, Any]) -> None:
    usual = {
        "TIME_ZONE": None,
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": False,
        "AUTOCOMMIT": True,
        "ATOMIC_REQUESTS": False,
    }
    ours = DatabaseWrapper(usual | place, alias="vanishing")
    try:
        with ours.cursor() as cursor:
            assert 0 < longest(cursor.connection) <= 60
    finally:
        ours.close()
