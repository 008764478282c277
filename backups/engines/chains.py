"""What chains are made of, the same for every engine; an engine's own rules are its `ChainRules` (R-8.3).

An engine keeps its rules as `CHAIN_RULES` in `backups/engines/<engine>/chains.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple

from backups.engines.facts import Kind


class ChainSet(NamedTuple):
    """One backup set as chains see it; a tuple, since an instance may have tens of thousands.

    Positions are integers that order one fork of the engine's history.

    A log holds the changes from `first` up to, not including, `last`, and everything that was committed until
    `until_time`. A full or differential shows the database at `until_time` (or a little before, never after); its
    positions are None where no log can continue it (a logical dump).

    A log may say where its fork left another: at `fork_position` of `parent_fork`, which holds everything that was
    committed until `forked_at`; from then on its own fork speaks for the database. All of a fork's logs say the same.
    """

    id: int
    kind: str
    first: int | None
    last: int | None
    finished_at: datetime
    from_time: datetime | None = None
    until_time: datetime | None = None
    checkpoint: int | None = None
    base: int | None = None
    fork: str = ""
    parent_fork: str = ""
    fork_position: int | None = None
    forked_at: datetime | None = None
    set_guid: str = ""
    base_guid: str = ""
    is_copy_only: bool = False
    is_completed: bool = True

    @property
    def shown_at(self) -> datetime:
        return self.until_time or self.finished_at


Times = tuple[datetime | None, datetime]


@dataclass(frozen=True)
class ChainRules:
    """How one engine's sets continue each other.

    `logs_from(data)`: the position from which logs must be there, None when no log can follow this set.
    `span(log)`: where it begins and ends, in positions that meet where the logs do.
    `is_base(base, differential)`: whether the differential was made from that very set.
    `times(kind, started_at, finished_at)`: `from_time` and `until_time` of a set, on the safe side of what its engine
    writes down.
    """

    logs_from: Callable[[ChainSet], int | None]
    span: Callable[[ChainSet], tuple[int, int]]
    is_base: Callable[[ChainSet, ChainSet], bool]
    times: Callable[[str, datetime | None, datetime], Times]


RECORDED = (  # what facts as read and rows that keep them both have, as `chain_set_of` wants it
    "kind",
    "started_at",
    "finished_at",
    "first_position",
    "last_position",
    "checkpoint_position",
    "base_position",
    "fork",
    "parent_fork",
    "fork_position",
    "forked_at",
    "set_guid",
    "base_guid",
    "is_copy_only",
)
_recorded = attrgetter(*RECORDED)


def chain_set(id: int, recorded: Any, rules: ChainRules, *, is_completed: bool = True) -> ChainSet:
    """Return what chains look at of one set; `id` is whatever the caller knows it by (a set's or a copy's key)."""
    return chain_set_of(id, _recorded(recorded), rules, is_completed=is_completed)


def chain_set_of(id: int, facts: Iterable[Any], rules: ChainRules, *, is_completed: bool = True) -> ChainSet:
    """Return the same of the values of RECORDED in their order."""
    kind, started_at, finished_at, first, last, *others = facts
    times = rules.times(kind, started_at, finished_at)
    return ChainSet(id, kind, first, last, finished_at, *times, *others, is_completed)


def is_placed(log: ChainSet) -> bool:
    """Whether this is a log that knows where it belongs."""
    return log.kind == Kind.LOG and log.first is not None and log.last is not None


def plain_span(log: ChainSet) -> tuple[int, int]:
    return log.first, log.last


def plain_times(kind: str, started_at: datetime | None, finished_at: datetime) -> Times:
    """Return the times as written: the engine's receiver knows from and until when a log's changes are."""
    return started_at, finished_at


def is_incremental_base(base: ChainSet, differential: ChainSet) -> bool:
    """Say whether an incremental was made from this full or incremental: by identity, never by time."""
    if differential.kind != Kind.DIFFERENTIAL or base.kind == Kind.LOG or base.id == differential.id:
        return False
    return bool(base.set_guid) and base.set_guid == differential.base_guid
