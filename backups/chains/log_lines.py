"""Lines of a database's history: the logs along a fork and the forks before it, in runs without a hole. Pure.

A Line is a fork of the database's history with the forks it came from, each as far as it counts. Only PostgreSQL's
logs say where their fork left another; everywhere else a line is one fork. `chains.log_chain` asks the
questions.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import NamedTuple

from backups.engines.chains import ChainRules, ChainSet, is_placed
from backups.engines.facts import Kind

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Stretch(NamedTuple):
    """What counts of a log on a line. `until` is long ago for a fork before: it says nothing of the line's own time."""

    first: int
    last: int
    until: datetime
    log: ChainSet


@dataclass(frozen=True)
class Run:
    """Logs without a hole between them, in order of where they begin."""

    stretches: tuple[Stretch, ...]

    @property
    def begin(self) -> int:
        return self.stretches[0].first

    @property
    def end(self) -> int:
        return self.furthest[-1].last

    @property
    def until(self) -> datetime:
        """Until when changes are in it: what the furthest log says, whatever the clocks of those before said."""
        return self.furthest[-1].until

    @cached_property
    def firsts(self) -> list[int]:
        return [stretch.first for stretch in self.stretches]

    @cached_property
    def furthest(self) -> list[Stretch]:
        """Return for each place in the order which log up to there reaches furthest, in position, then in time."""
        found: list[Stretch] = []
        for stretch in self.stretches:
            found.append(max(found[-1], stretch, key=_reach) if found else stretch)
        return found

    def cover(self, position: int, is_enough: Callable[[Stretch], bool]) -> list[ChainSet]:
        """Return the fewest logs that lead from a position of the run to one that is enough, else to its end."""
        taken: list[Stretch] = []
        while not taken or not is_enough(taken[-1]):
            best = self.furthest[bisect_right(self.firsts, position) - 1]
            if taken and best is taken[-1]:
                break
            taken.append(best)
            position = best.last
        return [stretch.log for stretch in taken]


def _reach(stretch: Stretch) -> tuple[int, datetime]:
    return stretch.last, stretch.until


class Switch(NamedTuple):
    """Where a fork left its parent, and from when on it speaks for the database; a log of the fork tells of it."""

    at: datetime
    parent: str
    position: int
    told_by: ChainSet


class Anchor(NamedTuple):
    """A full or differential with everything it needs before it, at the position from which it needs logs."""

    position: int
    data: ChainSet


@dataclass(frozen=True)
class Line:
    """A fork with the forks it came from.

    `limits`: fork -> where the line left it, None for its own fork, which is the first. `switches`: those of all its
    forks but the oldest.
    """

    fork: str
    limits: Mapping[str, int | None]
    switches: Mapping[str, Switch]
    runs: Sequence[Run]
    anchors: Sequence[Anchor]

    def run_at(self, position: int) -> Run | None:
        """Return the run that holds changes made at this position."""
        place = bisect_right(self.runs, position, key=lambda run: run.begin) - 1
        return self.runs[place] if place >= 0 and position < self.runs[place].end else None

    def starts(self, data: ChainSet) -> datetime:
        """From when on this line speaks for the database: since its fork began, for a set of a fork before."""
        return data.shown_at if data.fork == self.fork else max(data.shown_at, self.began_at)

    @property
    def began_at(self) -> datetime:
        return self.switches[self.fork].at

    def told_since(self, fork: str) -> list[ChainSet]:
        """Return the logs without which nobody knows how the line's own logs hang together with those of a fork."""
        forks = list(self.limits)
        return [self.switches[between].told_by for between in forks[1 : forks.index(fork)]]

    def anchors_in(self, run: Run, before: int) -> Sequence[Anchor]:
        """Return the anchors that need logs from a position within the run and before another, in order."""
        low, high = (
            bisect_left(self.anchors, place, key=lambda anchor: anchor.position) for place in (run.begin, before)
        )
        return self.anchors[low:high]

    def reachable(self) -> Iterator[tuple[Anchor, Run]]:
        """Give the anchors from which logs lead to a later moment of this line's own fork."""
        for anchor in self.anchors:
            if run := self.leads_on(anchor):
                yield anchor, run

    def leads_on(self, anchor: Anchor) -> Run | None:
        """Return the run that leads from an anchor to a later moment of this line's own fork."""
        run = self.run_at(anchor.position)
        return run if run and run.end >= anchor.data.last and run.until >= self.starts(anchor.data) else None


@dataclass(frozen=True)
class Known:
    """`lineages`: set -> the full first, itself last, for every set whose bases are all there."""

    lineages: Mapping[int, tuple[ChainSet, ...]]
    lines: tuple[Line, ...]


def known_of(sets: Iterable[ChainSet], logs: Iterable[ChainSet], rules: ChainRules) -> Known:
    lineages = lineages_of(sets, rules)
    by_fork: dict[str, list[ChainSet]] = {}
    for log in filter(is_placed, logs):
        by_fork.setdefault(log.fork, []).append(log)
    data = [lineage[-1] for lineage in lineages.values()]
    forks = sorted({*by_fork, *(one.fork for one in data)})
    switches = {fork: switch for fork in by_fork if (switch := _switch_of(by_fork[fork]))}
    return Known(lineages, tuple(_line(fork, by_fork, switches, data, rules) for fork in forks))


def _switch_of(logs: Iterable[ChainSet]) -> Switch | None:
    """Return where a fork left its parent, as soon as its logs know; None where they speak of different places."""
    said = [Switch(log.forked_at, log.parent_fork, log.fork_position, log) for log in logs if log.parent_fork]
    places = {(switch.parent, switch.position) for switch in said}
    return min(said, key=lambda switch: (switch.at, switch.told_by.id)) if len(places) == 1 else None


def lineages_of(sets: Iterable[ChainSet], rules: ChainRules) -> dict[int, tuple[ChainSet, ...]]:
    """Return for each full, and each differential whose bases are all there, what it needs: full first, itself last."""
    data = [one for one in sets if one.kind != Kind.LOG]
    by_guid = {one.set_guid: one for one in sorted(data, key=age) if one.set_guid}
    found = {one.id: _lineage(one, by_guid, rules) for one in data}
    return {id: lineage for id, lineage in found.items() if lineage}


def _lineage(data: ChainSet, by_guid: Mapping[str, ChainSet], rules: ChainRules) -> tuple[ChainSet, ...]:
    found = [data]
    while found[0].kind != Kind.FULL:
        base = by_guid.get(found[0].base_guid)
        if base is None or base in found or not rules.is_base(base, found[0]):
            return ()
        found.insert(0, base)
    return tuple(found)


def age(data: ChainSet) -> tuple[datetime, int]:
    return data.finished_at, data.id


def _line(
    fork: str,
    by_fork: Mapping[str, Sequence[ChainSet]],
    switches: Mapping[str, Switch],
    data: Sequence[ChainSet],
    rules: ChainRules,
) -> Line:
    limits = _limits(fork, switches)
    past = {each: switches[each] for each in list(limits)[:-1]}
    logs = [log for each in limits for log in by_fork.get(each, ())]
    stretches = (_stretch(log, limits[log.fork], rules) for log in logs)
    return Line(fork, limits, past, _runs(filter(None, stretches)), _anchors(limits, data, rules))


def _limits(fork: str, switches: Mapping[str, Switch]) -> dict[str, int | None]:
    limits: dict[str, int | None] = {fork: None}
    while (switch := switches.get(fork)) and switch.parent not in limits:
        fork = switch.parent
        limits[fork] = min([switch.position, *(limit for limit in limits.values() if limit is not None)])
    return limits


def _stretch(log: ChainSet, limit: int | None, rules: ChainRules) -> Stretch | None:
    """Cut a log where the line left its fork; None when nothing of it counts."""
    first, last = rules.span(log)
    if limit is None:
        return Stretch(first, last, log.shown_at, log)
    return Stretch(first, min(last, limit), _LONG_AGO, log) if first <= limit else None


def _runs(stretches: Iterable[Stretch]) -> list[Run]:
    runs: list[list[Stretch]] = []
    reached = None
    for stretch in sorted(stretches, key=lambda found: (found.first, found.last, found.until, found.log.id)):
        if reached is None or stretch.first > reached:
            runs.append([])
            reached = stretch.last
        runs[-1].append(stretch)
        reached = max(reached, stretch.last)
    return [Run(tuple(run)) for run in runs]


def _anchors(limits: Mapping[str, int | None], data: Iterable[ChainSet], rules: ChainRules) -> list[Anchor]:
    """Return where logs are needed from, for the sets that were whole before the line left their fork."""
    found = []
    for one in data:
        position = rules.logs_from(one)
        if position is None or one.fork not in limits:
            continue
        limit = limits[one.fork]
        if limit is None or one.last <= limit:
            found.append(Anchor(position, one))
    return sorted(found, key=lambda anchor: (anchor.position, age(anchor.data)))
