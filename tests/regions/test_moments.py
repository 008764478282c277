"""Moments are read as Django reads them, to the microsecond, whatever PostgreSQL writes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import DataError, connection
from django.db.backends.postgresql.psycopg_any import BaseTzLoader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as any_of
from psycopg.postgres import types

from regions.moments import MomentLoader

pytestmark = pytest.mark.django_db

OID = types["timestamptz"].oid


class AsDjangoDoes(BaseTzLoader):
    timezone = UTC


def read(said: str) -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::timestamptz", [said])
        return cursor.fetchone()[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_of.datetimes(timezones=any_of.just(UTC)))
def test_a_moment_comes_back_as_it_was(at: datetime) -> None:
    found = read(at.isoformat())
    assert (found, found.tzinfo) == (at, UTC)


@pytest.mark.parametrize(
    "said",
    [
        "2026-01-02 03:04:05+00",
        "2026-01-02 03:04:05.6+00",
        "2026-01-02 03:04:05.678901+00",
        "0001-01-01 00:00:00+00",
        "2026-01-02 03:04:05+05:30",
    ],
)
def test_what_a_session_may_write_is_read_as_django_reads_it(said: str) -> None:
    ours, theirs = MomentLoader(OID, None), AsDjangoDoes(OID, None)
    assert ours.load(said.encode()) == theirs.load(said.encode())
    assert ours.load(said.encode()).tzinfo is UTC


@pytest.mark.parametrize("said", ["infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "20260-01-01 00:00:00+00"])
def test_what_is_no_moment_here_is_still_refused(said: str) -> None:
    with pytest.raises(DataError):
        read(said)
