"""`manage.py test` runs everything two at a time, and what is named by itself."""

from __future__ import annotations

import pytest

from console.runtime.testing import at_once

TWO = ["-n", "2", "--dist", "loadfile"]


@pytest.mark.parametrize("arguments", [[], ["-q"], ["--all", "-v", "--durations=9"], ["-k", "window"]])
def test_the_whole_suite_runs_two_at_a_time(arguments: list[str]) -> None:
    assert at_once(arguments) == TWO


@pytest.mark.parametrize(
    "arguments",
    [["tests/house"], ["-q", "tests/house/test_testing.py::test_the_whole_suite_runs_two_at_a_time"], ["-n", "4"]],
)
def test_what_is_named_or_said_is_left_as_it_is(arguments: list[str]) -> None:
    assert at_once(arguments) == []


def test_a_soak_has_the_machine_for_itself() -> None:
    assert at_once(["--soak"]) == []
