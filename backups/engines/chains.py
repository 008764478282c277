"""What chains are made of, the same for every engine; an engine's own rules are its `ChainRules` (R-8.3).

An engine keeps its rules as `CHAIN_RULES` in `backups/engines/<engine>/chains.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from backups.engines.facts import Kind


@dataclass(frozen=True, slots=True)
class ChainSet:
    """One backup set as chains see it. Positions are integers that order one fork of the engine's history.

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


class Recorded(Protocol):
    """What facts as read and rows that keep them both have."""

    kind: str
    started_at: datetime | None
    finished_at: datetime
    first_position: int | None
    last_position: int | None
    checkpoint_position: int | None
    base_position: int | None
    fork: str
    parent_fork: str
    fork_position: int | None
    forked_at: datetime | None
    set_guid: str
    base_guid: str
    is_copy_only: bool


def chain_set(id: int, recorded: Recorded, rules: ChainRules, *, is_completed: bool = True) -> ChainSet:
    """Return what chains look at of one set; `id` is whatever the caller knows it by (a set's or a copy's key)."""
    from_time, until_time = rules.times(recorded.kind, recorded.started_at, recorded.finished_at)
    return ChainSet(
        id=id,
        kind=recorded.kind,
        first=recorded.first_position,
        last=recorded.last_position,
        finished_at=recorded.finished_at,
        from_time=from_time,
        until_time=until_time,
        checkpoint=recorded.checkpoint_position,
        base=recorded.base_position,
        fork=recorded.fork,
        parent_fork=recorded.parent_fork,
        fork_position=recorded.fork_position,
        forked_at=recorded.forked_at,
        set_guid=recorded.set_guid,
        base_guid=recorded.base_guid,
        is_copy_only=recorded.is_copy_only,
        is_completed=is_completed,
    )


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
