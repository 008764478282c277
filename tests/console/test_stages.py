"""The stages of a restore: what is done, where it is, what rate and what time that leaves. No database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backups.models import Restore
from console.restores.stages import stages_of

NOW = datetime(2027, 3, 10, 14, 0, tzinfo=UTC)
MB = 2**20


def told(**facts: Any) -> list[tuple[str, str, float | None]]:
    return [(one.name, one.state, one.seconds) for one in stages_of(Restore(**facts), NOW)]


def test_nothing_is_done_while_it_waits() -> None:
    assert {state for _, state, _ in told(state="queued")} == {"waits"}
    assert {state for _, state, _ in told(state="running")} == {"waits"}


def test_what_lies_before_its_stage_is_done_and_what_follows_waits() -> None:
    began = NOW - timedelta(seconds=20)
    found = told(state="running", stage="replay", stage_began_at=began, seconds={"unpack": 41.5})
    assert found[:3] == [("unpack", "done", 41.5), ("replay", "now", 20.0), ("start", "waits", None)]


def test_rate_and_time_left_are_those_of_the_stage() -> None:
    began = NOW - timedelta(seconds=10)
    restore = Restore(state="running", stage="unpack", stage_began_at=began, done=30 * MB, total=90 * MB)
    progress = stages_of(restore, NOW)[0].progress
    assert (progress.percent, progress.rate, progress.seconds_left) == (33, 3 * MB, 20)
    assert stages_of(restore, NOW)[0].sentence == "30.0 MB of 90.0 MB · 3.00 MB/s · 20 s left"


@pytest.mark.parametrize(
    ("done", "total", "said"),
    [(0, None, ""), (5 * MB, None, "5.00 MB so far"), (0, 5 * MB, "0 bytes of 5.00 MB")],
)
def test_what_is_not_known_is_not_said(done: int, total: int | None, said: str) -> None:
    restore = Restore(state="running", stage="start", stage_began_at=NOW, done=done, total=total)
    assert stages_of(restore, NOW)[2].sentence == said


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_where_it_stopped_is_told(state: str) -> None:
    assert [one for _, one, _ in told(state=state, stage="replay")][:3] == ["done", "stopped", "waits"]


def test_a_ready_one_has_done_them_all() -> None:
    found = told(state="ready", stage="", seconds={"unpack": 1.0, "count": 0.5})
    assert {state for _, state, _ in found} == {"done"}
    assert found[-1] == ("count", "done", 0.5)


def test_a_stage_that_only_this_engine_has_is_shown_by_its_name() -> None:
    restore = Restore(state="running", stage="roll_forward", stage_began_at=NOW)
    assert [one.word for one in stages_of(restore, NOW)][-1] == "Roll forward"
