"""Sizes, lengths of time and moments as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from console.widgets import words
from console.widgets.export import harmless


@pytest.mark.parametrize(
    ("size_bytes", "said"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1.00 KB"),
        (10 * 2**20, "10.0 MB"),
        (999 * 2**20, "999 MB"),
        (2**30, "1.00 GB"),
        (552 * 2**30, "552 GB"),
        (1.12 * 2**40, "1.12 TB"),
        (20 * 2**50, "20480 TB"),
    ],
)
def test_a_size_has_three_telling_digits_and_binary_units(size_bytes: int, said: str) -> None:
    assert words.in_words(int(size_bytes)) == said


def test_an_unknown_size_is_a_dash_and_a_known_one_stands_alone_in_any_script() -> None:
    assert words.size(None) == "—"
    assert words.size(2**30) == "<bdi>1.00 GB</bdi>"


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (timedelta(0), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(seconds=95), "1 min"),
        (timedelta(minutes=195), "3 h 15 min"),
        (timedelta(days=2), "2 d"),
        (timedelta(days=1, minutes=5), "1 d"),
        (3725.9, "1 h 2 min"),
        (None, "—"),
        (-5, "0 s"),
    ],
)
def test_a_length_of_time_has_its_two_largest_units(length: timedelta | float | None, said: str) -> None:
    assert words.lasting(length) == said


def test_a_moment_says_it_is_utc_wherever_it_came_from() -> None:
    at = datetime(2026, 11, 22, 9, 47, 5, tzinfo=UTC)
    assert words.moment(at) == '<time datetime="2026-11-22T09:47:05+00:00">2026-11-22 09:47 UTC</time>'
    assert ">2026-11-22 09:47:05 UTC<" in words.moment(at, seconds=True)
    assert words.moment(None) == "—"


def test_a_sentence_is_not_turned_around_by_a_name_in_it() -> None:
    assert words.plain("No backup of \u202egnorw has arrived.") == "No backup of \ufffdgnorw has arrived."
    assert words.plain("中文 and עברית stay") == "中文 and עברית stay"


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@x", " =1", "\t=1", "\r=1", "＝1"])
def test_a_formula_is_marked_as_text(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"


@pytest.mark.parametrize(("cell", "kept"), [("plain", "plain"), (None, ""), (7, "7"), ("a=b", "a=b")])
def test_anything_else_is_left_alone(cell: object, kept: str) -> None:
    assert harmless(cell) == kept


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "—"),
        (0.04, "0.0 s"),
        (2.24, "2.2 s"),
        (41.5, "42 s"),
        (60, "1 min"),
        (93.4, "1 min 33 s"),
        (7260, "2 h 1 min"),
    ],
)
def test_a_measured_length_tells_its_seconds_up_to_an_hour(seconds: float | None, said: str) -> None:
    assert words.measured(seconds) == said
