"""Chromium for the browser tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.programs import needs, program

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    needs("chromium")
    return {**browser_type_launch_args, "executable_path": program("chromium"), "args": QUIET}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, Any]) -> dict[str, Any]:
    return {
        **browser_context_args,
        "viewport": {"width": 1440, "height": 900},
        "reduced_motion": "reduce",
        "locale": "en-US",
    }


@pytest.fixture
def console(page: Any) -> Iterator[list[str]]:
    """Every console error, warning, page error and failed request of the test; it must end empty."""
    seen: list[str] = []
    page.on("console", lambda said: seen.append(f"{said.type}: {said.text}") if said.type in _LOUD else None)
    page.on("pageerror", lambda error: seen.append(f"pageerror: {error}"))
    page.on("response", lambda answer: seen.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    yield seen
    assert seen == []


_LOUD = ("error", "warning")
