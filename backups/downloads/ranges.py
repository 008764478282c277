"""Distinct stretches of a file, each byte once. Pure: [[first, end], …] in order, ends exclusive, none touching."""

from __future__ import annotations

from collections.abc import Sequence

Ranges = list[list[int]]


def merged(ranges: Sequence[Sequence[int]], first: int, end: int) -> Ranges:
    """Return the ranges with one more stretch in them."""
    if first >= end:
        return [list(one) for one in ranges]
    before = [list(one) for one in ranges if one[1] < first]
    after = [list(one) for one in ranges if one[0] > end]
    touching = [one for one in ranges if one[1] >= first and one[0] <= end]
    together = [min([first, *(one[0] for one in touching)]), max([end, *(one[1] for one in touching)])]
    return [*before, together, *after]


def total(ranges: Sequence[Sequence[int]]) -> int:
    return sum(end - first for first, end in ranges)
