"""PostgreSQL as the wheel brings it, and as this machine's packages do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.postgresql.clusters import Cluster, running
from tests.engines.postgresql.tls import use_tls

PACKAGED = Path("/usr/lib/postgresql")


@pytest.fixture(autouse=True)
def _embedded_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARSHORE_EMBEDDED_TOOLS", "1")


@pytest.fixture(scope="session")
def embedded() -> Iterator[Cluster]:
    with running("pg-embedded") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def packaged() -> Iterator[Cluster]:
    """An older server from the system's packages, with TLS."""
    found = sorted(PACKAGED.glob("*/bin/postgres"))
    if not found:
        reason = "needs a PostgreSQL of the system's packages"
        if os.environ.get("FARSHORE_REQUIRE") == "all":
            pytest.fail(f"{reason}, and FARSHORE_REQUIRE=all", pytrace=False)
        pytest.skip(reason)
    with running("pg-packaged", found[0].parent, use_tls) as cluster:
        yield cluster


@pytest.fixture(params=["embedded", "packaged"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return request.getfixturevalue(request.param)
