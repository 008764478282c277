"""MariaDB and MySQL: the binlog sequence without a hole from the backup's coordinates (R-8.3).

A position is the binlog's number x 10^12 + the offset in it (design.md §3).
"""

from __future__ import annotations

from backups.engines.chains import ChainRules, ChainSet, is_incremental_base, plain_times

NUMBER = 10**12
MAGIC = 4  # every binlog begins with four bytes that are no event


def position_of(number: int, offset: int = 0) -> int:
    return number * NUMBER + offset


def end_of(number: int, size: int, *, closed: bool) -> int:
    """Return where a binlog of `size` bytes ends: one that was rotated or stopped ends where the next begins.

    One still being written ends at its size: the rest of it is to come, so that a lost rest is a hole.
    """
    return position_of(number + 1) if closed else position_of(number, size)


def _coordinates(data: ChainSet) -> int | None:
    return None if data.last is None else _met(data.last)


def _span(log: ChainSet) -> tuple[int, int]:
    return _met(log.first), _met(log.last)


def _met(position: int) -> int:
    """Take the first event's place as the binlog's beginning, so that it meets the end of the one before."""
    return position - position % NUMBER if position % NUMBER <= MAGIC else position


CHAIN_RULES = ChainRules(logs_from=_coordinates, span=_span, is_base=is_incremental_base, times=plain_times)
