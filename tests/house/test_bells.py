"""Ringing never hangs and never fails the caller, whatever state the broker is in."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.celery import app
from console.management.commands.beat import schedule, timetable
from console.runtime.leader import LeaderScheduler
from console.runtime.places import CLONE
from tests.house.running import plain_environment, soon

LONGEST_SECONDS = 12
RING = """
import time
import django
django.setup()
from backups.bell import _send
began = time.monotonic()
_send("sweep", "control", ())
print(f"rang for {time.monotonic() - began:.1f} s")
"""


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Somebody listens and never says a word: worse than nobody."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield server.getsockname()[1]


def ring(broker_url: str, data: Path) -> float:
    environment = plain_environment(
        BROKER_URL=broker_url, FARSHORE_DATA=str(data), DJANGO_SETTINGS_MODULE="console.settings", PYTHONPATH=str(CLONE)
    )
    asked = subprocess.run([sys.executable, "-c", RING], env=environment, capture_output=True, text=True, timeout=90)
    assert "rang for" in asked.stdout, asked.stderr
    assert "bell not rung" in asked.stderr
    return float(asked.stdout.split()[-2])


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_gone_costs_the_caller_seconds_at_most(scheme: str, tmp_path: Path) -> None:
    assert ring(f"{scheme}://127.0.0.1:1//", tmp_path) < LONGEST_SECONDS


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_keeps_silent_costs_the_caller_seconds_at_most(
    scheme: str, silent_port: int, tmp_path: Path
) -> None:
    assert ring(f"{scheme}://127.0.0.1:{silent_port}//", tmp_path) < LONGEST_SECONDS


def test_the_timetable_rings_real_tasks_which_expire_when_nobody_answers() -> None:
    app.loader.import_default_modules()
    rings = schedule(timetable())
    assert rings
    for name, entry in rings.items():
        assert entry["task"] in app.tasks, name
        assert entry["options"]["queue"] == "control"
        assert entry["options"]["expires"] >= entry["schedule"]


def test_of_two_beats_one_leads_and_the_other_takes_over(db: None) -> None:
    first, second = LeaderScheduler(app, lazy=True), LeaderScheduler(app, lazy=True)
    try:
        assert first.leads()
        assert not second.leads()
        first._connection.close()
        assert soon(second.leads, 5)
        assert not first.leads()
    finally:
        for beat in (first, second):
            beat._connection.close()
