"""The lag of a copy: never more than what can be restored, and "unknown" where logs are missing (I7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backups.oversight.lag import End, Heard, Lag, furthest_behind, holds, lag

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_nothing_copied_is_nothing_restorable() -> None:
    found = lag(None, at=NOON)
    assert (found.until, found.behind_seconds, found.gap) == (None, 0, None)


@pytest.mark.parametrize(
    ("heard", "waiting", "behind"),
    [
        (None, 0, 100),  # nobody listens: the age of the newest moment
        (90, 0, 10),  # the server was heard later and had nothing to say
        (90, 1, 100),  # a log waits: what was heard is not here yet
        (-50, 0, 100),  # what was heard before the window's end tells nothing
    ],
)
def test_a_quiet_server_is_not_behind(heard: float | None, waiting: int, behind: int) -> None:
    found = lag(NOON, at=at(100), heard_at=None if heard is None else at(heard), waiting=waiting)
    assert (found.until, found.behind_seconds) == (NOON, behind)


def test_a_gap_where_the_window_ends_makes_it_unknown() -> None:
    gap = (at(-60), at(30))
    found = lag(at(-60), at=at(100), heard_at=at(90), gaps=[gap, (at(40), at(50))])
    assert found.gap == gap, "the first of them"
    assert found.behind_seconds == 160, "what was heard behind a gap does not count"


def test_a_gap_that_the_window_has_passed_is_no_longer_told() -> None:
    assert lag(NOON, at=at(5), gaps=[(at(-60), at(-30))]).gap is None


def test_without_logs_no_log_is_missing() -> None:
    assert lag(NOON, at=at(5), gaps=[(at(-60), at(30))], has_logs=False).gap is None


@pytest.mark.parametrize(
    ("end", "heard", "holds_it"),
    [
        (End(NOON, "1", 500), Heard(NOON, "1", 500), True),
        (End(NOON, "1", 501), Heard(NOON, "1", 500), True),
        (End(NOON, "1", 499), Heard(NOON, "1", 500), False),  # delivered, and not at the destination
        (End(NOON, "2", 900), Heard(NOON, "1", 500), False),  # positions of two forks say nothing of each other
        (End(NOON, "1", None), Heard(NOON, "1", 500), False),  # a full alone
        (End(NOON, "1", 500), Heard(NOON, "1", None), False),  # nothing was delivered yet
    ],
)
def test_what_was_heard_counts_only_where_every_delivered_log_is(end: End, heard: Heard, holds_it: bool) -> None:
    assert holds(end, heard) is holds_it


@pytest.mark.parametrize(
    ("lags", "worst"),
    [
        ([], Lag()),
        ([Lag(NOON, 5), Lag(NOON, 50)], Lag(NOON, 50)),
        ([Lag(NOON, 5, gap=(NOON, at(1))), Lag(NOON, 50)], Lag(NOON, 5, gap=(NOON, at(1)))),
        ([Lag(NOON, 500), Lag(None), Lag(NOON, 5, gap=(NOON, at(1)))], Lag(None)),
    ],
)
def test_of_several_databases_the_one_furthest_behind_counts(lags: list[Lag], worst: Lag) -> None:
    assert furthest_behind(lags) == worst
