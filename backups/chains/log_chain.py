"""What can be restored from the sets of one (instance, database, destination): chains, gaps, windows, plans.

Pure: positions, forks and times in, answers out; no models, no clock. What differs between engines comes as
`ChainRules` (`engine_of(name).chain_rules`). R-8.3, R-9.4, R-12.6; I5, I7, I8; design.md §3 "Restorable window".

    anchor (full, differential) ── logs without a hole: a Run ── hole: a Gap ── next anchor that needs nothing before it
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from backups.chains.log_lines import Anchor, Known, Line, Run, age, known_of, lineages_of
from backups.engines.chains import ChainRules, ChainSet, is_placed
from backups.engines.facts import Kind
from regions.refusals import Refusal


class Ends(Protocol):
    """Where logs are missing, whoever says so: from `reached` of one fork to `begins` of the same or a later one."""

    reached: int
    begins: int
    reached_fork: str
    fork: str


@dataclass(frozen=True)
class Gap:
    """Changes that no known log holds: from position `reached` (of `reached_fork`) to `begins` (of `fork`).

    They were made after `from_time` and at the latest by `until_time`. `healed_by` is the first full or differential
    behind the gap: nothing more has to be done for it (I8).
    """

    reached: int
    begins: int
    from_time: datetime
    until_time: datetime
    reached_fork: str
    fork: str
    healed_by: ChainSet | None = None


class Interval(NamedTuple):
    """Every moment from `start` to `end`, both included, can be restored; `start == end` is a single point.

    `anchor` is the full or differential that it begins with, `reached` the position where its last log ends (None: no
    logs) on `fork`.
    """

    start: datetime
    end: datetime
    anchor: ChainSet
    fork: str
    reached: int | None = None


@dataclass(frozen=True)
class Plan:
    """The sets a restore to a moment needs, in order, or why that moment cannot be had; never both, never neither."""

    sets: tuple[ChainSet, ...] = ()
    refusal: Refusal | None = None


# ---- two sets


def anchors(data: ChainSet, log: ChainSet, rules: ChainRules) -> bool:
    """Whether this log can be the first after this full or differential: begins by where logs are needed, ends after.

    A copy-only full anchors logs as any other does.
    """
    needed = rules.logs_from(data)
    if needed is None or data.kind == Kind.LOG or not is_placed(log) or data.fork != log.fork:
        return False
    first, last = rules.span(log)
    return first <= needed < last


def follows(previous: ChainSet, following: ChainSet, rules: ChainRules) -> bool:
    """Whether a log begins at or before the end of the previous and not before its beginning.

    An empty log (it ends where it begins) counts. On a new fork the log that holds the place of the switch follows the
    parent's as well.
    """
    if not (is_placed(previous) and is_placed(following)):
        return False
    (first, last), (begins, _) = rules.span(previous), rules.span(following)
    if previous.fork == following.fork:
        return first <= begins <= last
    return previous.fork == following.parent_fork and first <= begins <= min(last, following.fork_position)


# ---- the restorable window


def window(sets: Iterable[ChainSet], logs: Iterable[ChainSet], rules: ChainRules) -> list[Interval]:
    """Return what can be restored from completed copies alone, oldest first; no interval ever passes a gap (I7).

    Without logs each full, and each differential with its full, is a single point.
    """
    return _window(known_of(_completed(sets), _completed(logs), rules))


def _completed(sets: Iterable[ChainSet]) -> list[ChainSet]:
    return [one for one in sets if one.is_completed]


def _window(known: Known) -> list[Interval]:
    intervals = [interval for line in known.lines for interval in _intervals(line)]
    points = [lineage[-1] for lineage in known.lineages.values()]
    intervals += [_point(one) for one in sorted(points, key=age) if not _is_inside(one, intervals)]
    return sorted(intervals, key=lambda found: (found.start, found.end, found.fork))


def _intervals(line: Line) -> list[Interval]:
    """Return one interval for each run that an anchor leads into, beginning with the earliest."""
    earliest: dict[int, Interval] = {}
    for anchor, run in line.reachable():
        start, known = line.starts(anchor.data), earliest.get(run.begin)
        if known is None or start < known.start:
            earliest[run.begin] = Interval(start, run.until, anchor.data, line.fork, run.end)
    return list(earliest.values())


def reach(id: int, sets: Iterable[ChainSet], logs: Iterable[ChainSet], rules: ChainRules) -> datetime | None:
    """Return until when logs lead on from a full or differential without a hole, never past a gap (I7).

    Its own moment where none does; None where it is not completed, or something that it needs is not.
    """
    known = known_of(_completed(sets), _completed(logs), rules)
    if id not in known.lineages:
        return None
    ways = [(line, anchor) for line in known.lines for anchor in line.anchors if anchor.data.id == id]
    ends = [run.until for line, anchor in ways if (run := line.leads_on(anchor))]
    return max(ends, default=known.lineages[id][-1].shown_at)


def _point(data: ChainSet) -> Interval:
    return Interval(data.shown_at, data.shown_at, data, data.fork)


def _is_inside(data: ChainSet, intervals: Iterable[Interval]) -> bool:
    return any(found.fork == data.fork and found.start <= data.shown_at <= found.end for found in intervals)


# ---- gaps


def gaps(sets: Iterable[ChainSet], logs: Iterable[ChainSet], rules: ChainRules) -> list[Gap]:
    """Return where logs are missing behind a full or differential, with exact limits, oldest first (R-9.4).

    Give it every set that is there or on its way, completed or not: what is only late is no gap.
    """
    known = known_of(sets, logs, rules)
    intervals = _window(known)
    found = [gap for line in known.lines for gap in _gaps_of(line, intervals)]
    return sorted(found, key=lambda gap: (gap.from_time, gap.reached, gap.begins))


class _Reached(NamedTuple):
    position: int
    at: datetime
    fork: str


def _gaps_of(line: Line, intervals: Sequence[Interval]) -> Iterator[Gap]:
    reached: _Reached | None = None
    for run in line.runs:
        reached = reached or _anchor_before(line, run)
        is_anchored = bool(line.anchors_in(run, run.end))
        if reached is None and not is_anchored:
            reached = _other_fork_before(line, run, intervals)
        if reached and run.stretches[0].log.fork == line.fork:
            yield _gap(reached, run, line)
        if reached or is_anchored:
            reached = _end_of(line, run)


def _end_of(line: Line, run: Run) -> _Reached:
    """Return how far a run goes; one on a fork before goes no further than to when the line's own fork began."""
    log = run.furthest[-1].log
    at = log.shown_at if log.fork == line.fork else min(log.shown_at, line.began_at)
    return _Reached(run.end, at, log.fork)


def _anchor_before(line: Line, run: Run) -> _Reached | None:
    behind = bisect_left(line.anchors, run.begin, key=lambda anchor: anchor.position)
    if behind == 0:
        return None
    position, data = line.anchors[behind - 1]
    return _Reached(position, data.shown_at, data.fork)


def _other_fork_before(line: Line, run: Run, intervals: Sequence[Interval]) -> _Reached | None:
    """Return how far the database was known before it went on along a fork that nothing leads to (a restore)."""
    before = [found for found in intervals if found.fork not in line.limits and found.start <= run.until]
    if not before:
        return None
    newest = max(before, key=lambda found: found.end)
    position = newest.anchor.last if newest.reached is None else newest.reached
    return None if position is None else _Reached(position, newest.end, newest.fork)


def _gap(reached: _Reached, run: Run, line: Line) -> Gap:
    begins = run.stretches[0].log
    behind = bisect_left(line.anchors, run.begin, key=lambda anchor: anchor.position)
    return Gap(
        reached=reached.position,
        begins=run.begin,
        from_time=reached.at,
        until_time=max(begins.from_time or begins.shown_at, reached.at),
        reached_fork=reached.fork,
        fork=begins.fork,
        healed_by=line.anchors[behind].data if behind < len(line.anchors) else None,
    )


def logs_across(gap: Ends, logs: Iterable[ChainSet], rules: ChainRules) -> list[ChainSet]:
    """Return the fewest logs that lead across a gap without a hole, in order; [] when these do not.

    Give it also the log that the gap ends with: it tells which forks its own came from, on which logs may be missing.
    """
    line = next((line for line in known_of((), logs, rules).lines if line.fork == gap.fork), None)
    if line is None or gap.reached_fork not in line.limits:
        return []
    limit = line.limits[gap.reached_fork]
    reached = gap.reached if limit is None else min(gap.reached, limit)
    run = next((run for run in line.runs if run.begin <= reached and run.end >= gap.begins), None)
    return run.cover(reached, lambda stretch: stretch.last >= gap.begins) if run else []


# ---- what a restore needs


def plan_for(moment: datetime, sets: Iterable[ChainSet], logs: Iterable[ChainSet], rules: ChainRules) -> Plan:
    """Return the completed sets that bring back the database as it was at a moment, in the order of applying them.

    Full, newest usable differential, logs; or why this moment cannot be had and which are near. It can
    be had exactly when an interval of `window` holds it. Where two forks lived at the moment, the newer one counts.
    """
    known = known_of(_completed(sets), _completed(logs), rules)
    ways = [
        (line, anchor, run)
        for line in known.lines
        for anchor, run in line.reachable()
        if line.starts(anchor.data) <= moment <= run.until
    ]
    if ways:
        line, anchor, run = max(ways, key=_nearness)
        rolled = run.cover(anchor.position, lambda stretch: stretch.until >= moment)
        return Plan((*known.lineages[anchor.data.id], *rolled))
    exact = [lineage for lineage in known.lineages.values() if lineage[-1].shown_at == moment]
    if exact:
        return Plan(min(exact, key=lambda lineage: (len(lineage), -lineage[-1].id)))
    return Plan(refusal=_why_not(moment, known))


def lineage_of(id: int, sets: Iterable[ChainSet], rules: ChainRules) -> tuple[ChainSet, ...]:
    """Return a completed full or differential behind everything it needs, the full first; () if something is missing.

    Logs are not looked at: this is the set alone, as it was taken.
    """
    return lineages_of(_completed(sets), rules).get(id, ())


def _nearness(way: tuple[Line, Anchor, Run]) -> tuple[int, datetime, bool, int]:
    line, (_, data), _ = way
    return len(line.limits), data.shown_at, data.kind == Kind.FULL, data.id


def _why_not(moment: datetime, known: Known) -> Refusal:
    intervals = _window(known)
    if not intervals:
        sentence = "No completed copy can be restored yet."
        return Refusal("NothingToRestore", sentence, "Wait until a full backup has been copied.", "moment")
    before = max((found.end for found in intervals if found.end < moment), default=None)
    after = min((found.start for found in intervals if found.start > moment), default=None)
    missing = [gap for line in known.lines for gap in _gaps_of(line, intervals) if _is_between(gap, before, moment)]
    code, sentence = _reason(missing[-1] if missing else None, before, after)
    return Refusal(code, sentence, _nearest(before, after), "moment")


def _is_between(gap: Gap, before: datetime | None, moment: datetime) -> bool:
    return before is not None and before <= gap.from_time <= moment


def _reason(missing: Gap | None, before: datetime | None, after: datetime | None) -> tuple[str, str]:
    if before is None:
        return "MomentTooEarly", f"The first moment that can be restored is {_said(after)}."
    if missing:
        lost = f"The log from {_said(missing.from_time)} to {_said(missing.until_time)} is missing"
        return "LogGap", f"{lost}, so that nothing behind it can be restored up to the next backup."
    if after is None:
        return "MomentTooLate", f"What has been copied reaches {_said(before)}."
    return "MomentNotCovered", f"No log has been copied that leads on from {_said(before)}."


def _nearest(before: datetime | None, after: datetime | None) -> str:
    near = [f"{_said(before)} or earlier" if before else "", f"{_said(after)} or later" if after else ""]
    return f"Choose {', or '.join(filter(None, near))}."


def _said(moment: datetime) -> str:
    """Say a moment in whole seconds, never later than it is, as every page does.

    Asked for by the second it lies in, a beginning is meant (`restoring.meant_by`).
    """
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(' ', 'seconds')} UTC"


# ---- what each set needs


def needs(sets: Iterable[ChainSet], logs: Iterable[ChainSet], rules: ChainRules) -> dict[int, set[int]]:
    """Return set -> the sets it needs next; follow it to any depth for all it needs (R-12.6, I5).

    A differential needs its base. A log needs the nearest full or differential that it continues, and, where that lies
    further back, the log before it; so a chain never keeps more than one anchor's worth. An anchor that is not
    completed does not release what the one before it keeps: give it queued sets too. A log that another holds wholly is
    needed by none; logs behind a gap need nothing.
    """
    known = known_of(sets, logs, rules)
    needed = {id: {lineage[-2].id} for id, lineage in known.lineages.items() if len(lineage) > 1}
    for line in known.lines:
        for run in line.runs:
            for place, stretch in enumerate(run.stretches):
                if stretch.log.fork == line.fork and (found := _needs_of(line, run, place)):
                    needed[stretch.log.id] = found
    return needed


def needed_by(needs_of: Mapping[int, Iterable[int]]) -> dict[int, set[int]]:
    """Turn what each set needs around, as `dependents.effective` wants it: set -> the sets that need it."""
    turned: dict[int, set[int]] = {}
    for id, needed in needs_of.items():
        for one in needed:
            turned.setdefault(one, set()).add(id)
    return turned


def _needs_of(line: Line, run: Run, place: int) -> set[int]:
    needed: set[int] = set()
    for anchor in reversed(line.anchors_in(run, run.stretches[place].last)):
        needed |= _next_towards(anchor, line, run, place)
        if anchor.data.is_completed:
            break
    return needed


def _next_towards(anchor: Anchor, line: Line, run: Run, place: int) -> set[int]:
    """Return the anchor if the log continues it, else the log before; from fork to fork everything between."""
    begins = run.stretches[place].first
    previous = run.furthest[place - 1].log if anchor.position < begins else anchor.data
    if previous.fork == line.fork:
        return {previous.id}
    between = run.cover(anchor.position, lambda stretch: stretch.last >= begins) if previous is not anchor.data else []
    return {one.id for one in (anchor.data, *line.told_since(anchor.data.fork), *between)}


def leans_on(log: ChainSet, needed: ChainSet, completed: Iterable[ChainSet], rules: ChainRules) -> bool:
    """Say what `needs` says of one log and one set of its fork, knowing only the completed fulls and differentials
    beside them.

    A log leans on the set it leads on from, unless a full or differential within it makes that unnecessary.
    """
    first, last = rules.span(log)
    if needed.kind == Kind.LOG:
        is_next, inside = follows(needed, log, rules) and last > rules.span(needed)[1], first
    else:
        is_next, inside = anchors(needed, log, rules), (rules.logs_from(needed) or 0) + 1
    return is_next and not any(anchors(data, log, rules) and rules.logs_from(data) >= inside for data in completed)


# ---- which logs to copy


def logs_after(data: ChainSet, logs: Iterable[ChainSet], rules: ChainRules) -> list[ChainSet]:
    """Return the logs that continue a full or differential without a hole, oldest first; [] if none does (R-8.2).

    Of a set whose database went on along another fork: the logs up to the newest fork's last.
    """
    known = known_of([data._replace(kind=Kind.FULL)], logs, rules)
    ways = [(line, anchor, run) for line in known.lines for anchor in line.anchors if (run := line.run_at(anchor[0]))]
    if not ways:
        return []
    line, anchor, run = max(ways, key=lambda way: (len(way[0].limits), way[2].end))
    return [stretch.log for stretch in run.stretches if stretch.last > anchor.position]
