"""One MariaDB for the quick tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engines.mariadb.servers import Server, running


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running("mariadb") as found:
        yield found
