"""A database that lives second by second, is backed up, restored and robbed of files: the oracle of chains.

It knows nothing of positions meeting: every backup carries the very transactions it holds, and a moment can be had
when some full and some logs together hold every transaction that was in the database then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from backups.engines import engine_of
from backups.engines.chains import ChainSet
from backups.engines.facts import Kind

EPOCH = datetime(2026, 3, 1, tzinfo=UTC)
Content = frozenset[int]
STEPS = {
    "write": 8,
    "log": 6,
    "idle": 1,
    "full": 2,
    "copy_only_full": 1,
    "differential": 2,
    "log_that_overlaps": 1,
    "log_of_another_tool": 1,
    "restored_in_place": 1,
    "promoted": 1,
    "goes_on_alone": 1,
    "lose": 1,
    "still_copying": 1,
}


def at(second: int) -> datetime:
    return EPOCH + timedelta(seconds=second)


@dataclass(frozen=True)
class Taken:
    """A backup with the transactions in it. `shows`: in the database when it was taken; `before`: when it began."""

    set: ChainSet
    holds: Content
    shows: Content
    before: Content
    base: Taken | None = None

    @property
    def is_log(self) -> bool:
        return self.set.kind == Kind.LOG


@dataclass(frozen=True)
class Alone:
    """A former primary: its fork and content, how much of it was logged and until when, when it was seen last."""

    fork: int
    content: list[int]
    archived: int
    logged_until: int
    seen: int


class Life:
    """One history. `moments[second]` is the fork and the transactions in the database at the end of that second.

    `beside[second]`: what other forks say of it: one that goes on alone, or the next one of a moment that it knows.
    """

    crosses_forks = False
    needs_its_own_log = False

    def __init__(self, engine: str) -> None:
        self.rules = engine_of(engine).chain_rules
        self.content: list[int] = []
        self.fork, self.forks = 0, 1
        self.began: dict[int, Content] = {0: frozenset()}
        self.archived = 0
        self.logged_until = 0
        self.base: Taken | None = None
        self.moments: list[tuple[int, Content]] = [(0, frozenset())]
        self.beside: dict[int, dict[int, Content]] = {}
        self.taken: list[Taken] = []
        self.count = 0
        self.dice = 0

    def play(self, steps: Iterable[tuple[str, int]]) -> Life:
        for name, self.dice in steps:
            getattr(self, name)()
        return self

    def throw(self, sides: int) -> int:
        self.dice, shown = divmod(self.dice, sides)
        return shown

    @property
    def now(self) -> int:
        return len(self.moments) - 1

    def position(self, transactions: int) -> int:
        return 1000 + 10 * transactions

    def end(self, transactions: int) -> int:
        return self.position(transactions)

    def pass_second(self) -> None:
        self.moments.append((self.fork, frozenset(self.content)))

    def number(self) -> int:
        self.count += 1
        return self.count

    # ---- what happens

    def idle(self) -> None:
        self.pass_second()

    def write(self) -> None:
        self.content.append(self.number())
        self.pass_second()

    def full(self, *, is_copy_only: bool = False) -> None:
        began = len(self.content)
        self._meanwhile()
        whole = len(self.content)
        shows = frozenset(self.content)
        self._meanwhile()
        self.pass_second()
        full = Taken(self._data(Kind.FULL, began, whole, is_copy_only), shows, shows, frozenset(self.content[:began]))
        self.taken.append(full)
        if not is_copy_only:
            self.base = full

    def copy_only_full(self) -> None:
        self.full(is_copy_only=True)

    def _meanwhile(self) -> None:
        for _ in range(self.throw(3)):
            self.write()
        if self.throw(4) == 0:
            self.log()

    def differential(self) -> None:
        if self.base is None:
            return
        whole, shows = len(self.content), frozenset(self.content)
        self.pass_second()
        made = self._data(Kind.DIFFERENTIAL, whole, whole, False)._replace(base_guid=self.base.set.set_guid)
        self.taken.append(Taken(made, shows - self.base.shows, shows, shows, self.base))

    def _data(self, kind: Kind, began: int, whole: int, is_copy_only: bool) -> ChainSet:
        id = self.number()
        return ChainSet(
            id=id,
            kind=kind,
            first=self.position(began),
            last=self.position(whole),
            finished_at=at(self.now),
            until_time=at(self.now),
            fork=str(self.fork),
            set_guid=f"set {id}",
            is_copy_only=is_copy_only,
        )

    def log(self, *, repeats: int = 0, truncates: bool = True) -> None:
        """Take a log; writes may go on until it is finished, and are not in it."""
        first, until = max(0, self.archived - repeats), self.now
        held = self.content[first:]
        made = ChainSet(
            id=self.number(),
            kind=Kind.LOG,
            first=self.position(first),
            last=self.end(len(self.content)),
            finished_at=at(until),
            from_time=at(self.logged_until),
            until_time=at(until),
            fork=str(self.fork),
            **self.origin(self.fork),
        )
        shows, before = frozenset(self.content), frozenset(self.content[:first])
        if truncates:
            self.archived, self.logged_until = len(self.content), until
        for _ in range(self.throw(2)):
            self.write()
        self.pass_second()
        self.taken.append(Taken(made._replace(finished_at=at(self.now)), frozenset(held), shows, before))

    def log_that_overlaps(self) -> None:
        """Take a log that begins before the end of the last; it may leave the next one to begin where it did not."""
        self.log(repeats=self.throw(5), truncates=self.throw(2) == 0)

    def log_of_another_tool(self) -> None:
        self.archived, self.logged_until = len(self.content), self.now
        self.pass_second()

    def restored_in_place(self) -> None:
        kept = len(self.content) - self.throw(min(len(self.content), 12) + 1)
        del self.content[kept:]
        self.fork, self.forks = self.forks, self.forks + 1
        self.began[self.fork] = frozenset(self.content)
        self.archived, self.base = len(self.content), None
        self.pass_second()
        self.logged_until = self.now

    def origin(self, fork: int) -> dict[str, object]:
        """What a log says of where its fork left another one."""
        return {}

    def promoted(self) -> None:
        self.idle()

    def goes_on_alone(self) -> None:
        self.idle()

    def lose(self) -> None:
        if self.taken:
            del self.taken[self.throw(len(self.taken))]

    def still_copying(self) -> None:
        if self.taken:
            place = self.throw(len(self.taken))
            taken = self.taken[place]
            self.taken[place] = replace(taken, set=taken.set._replace(is_completed=False))

    # ---- what the code under test is given

    @property
    def sets(self) -> list[ChainSet]:
        return [taken.set for taken in self.taken if not taken.is_log]

    @property
    def logs(self) -> list[ChainSet]:
        return [taken.set for taken in self.taken if taken.is_log]

    # ---- the oracle

    def present(self) -> list[Taken]:
        return [taken for taken in self.taken if taken.set.is_completed]

    def lived(self, second: int) -> dict[int, Content]:
        """Return what each fork that speaks for a second had in its database then."""
        fork, content = self.moments[second]
        return {fork: content} | self.beside.get(second, {})

    def can_be_had(self, second: int) -> bool:
        shown = any(data.set.shown_at == at(second) for data in self._whole())
        return shown or bool(self.can_be_had_on(second))

    def can_be_had_on(self, second: int) -> list[int]:
        """Return the forks on which logs lead to a second."""
        forks, whole = self.lived(second), self._whole()
        return [fork for fork in forks if any(self._leads_to(second, fork, one) for one in whole)]

    def _whole(self) -> list[Taken]:
        present = self.present()
        ids = {taken.set.id for taken in present}
        return [one for one in present if not one.is_log and (one.base is None or one.base.set.id in ids)]

    def _leads_to(self, second: int, fork: int, data: Taken) -> bool:
        if data.set.shown_at > at(second):
            return False
        present = self.present()
        path = self.path(fork, present)
        if int(data.set.fork) not in path:
            return False
        logs = [one for one in present if one.is_log and int(one.set.fork) in path]
        pool = frozenset().union(*(one.holds for one in logs))
        own = data.before if self.needs_its_own_log else data.shows
        return any(
            data.shows <= last.shows and own < last.shows and last.shows - own <= pool
            for last in logs
            if int(last.set.fork) == fork and last.set.until_time >= at(second)
        )

    def path(self, fork: int, present: Sequence[Taken]) -> list[int]:
        """Return the forks whose logs count for one: itself, and those that its logs say it came from."""
        found = [fork]
        parents = {int(one.set.fork): int(one.set.parent_fork) for one in present if one.set.parent_fork}
        while found[-1] in parents:
            found.append(parents[found[-1]])
        return found

    def replay(self, plan: Sequence[ChainSet], second: int) -> Content:
        """Restore as a server would, refusing what does not fit, and return the transactions in the new database."""
        by_id = {taken.set.id: taken for taken in self.taken}
        target = self.lived(second).get(int(plan[-1].fork), self.moments[second][1])
        state: Content = frozenset()
        applied: Taken | None = None
        logged: Content | None = None
        for taken in (by_id[one.id] for one in plan):
            assert taken.set.is_completed
            if not taken.is_log:
                assert taken.base is applied
                applied, state = taken, state | taken.holds
                assert state == taken.shows
                logged = taken.before if self.needs_its_own_log else state
                continue
            assert taken.before & target <= logged & target, "too recent"
            logged |= taken.holds & target
            state = (state | taken.holds) & target
        return state


class SqlServerLife(Life):
    pass


class PostgresqlLife(Life):
    crosses_forks = True
    needs_its_own_log = True

    def __init__(self, engine: str) -> None:
        super().__init__(engine)
        self.places: dict[int, tuple[int, int, int]] = {}  # fork: the one it left, at how many transactions, since when
        self.logged: dict[int, int] = {}
        self.alone: Alone | None = None

    def origin(self, fork: int) -> dict[str, object]:
        if fork not in self.places:
            return {}
        parent, place, since = self.places[fork]
        return {"parent_fork": str(parent), "fork_position": self.position(place), "forked_at": at(since)}

    def log(self, *, repeats: int = 0, truncates: bool = True) -> None:
        self.logged[self.fork] = len(self.content)
        super().log(repeats=repeats, truncates=truncates)

    def restored_in_place(self) -> None:
        old = self.fork
        super().restored_in_place()
        self._begin_fork(old, self.now)
        self.alone = None

    def promoted(self) -> None:
        """A standby takes over, without what had not come to it; all that was delivered had."""
        old, since, whole = self.fork, self.logged_until, list(self.content)
        self.alone = Alone(old, whole, self.archived, since, self.now)
        kept = max(self.archived, self.logged.get(old, 0), len(whole) - self.throw(4))
        lost = frozenset(whole[kept:])
        del self.content[kept:]
        self.fork, self.forks, self.base = self.forks, self.forks + 1, None
        self._begin_fork(old, since)
        for second in range(since, len(self.moments)):
            self.beside.setdefault(second, {})[self.fork] = self.lived(second)[old] - lost
        self.pass_second()

    def _begin_fork(self, old: int, since: int) -> None:
        """A fork that was left before it had a log is no parent: the next one's first log holds what it had."""
        place = len(self.content)
        if old not in self.logged and old in self.places:
            old, left, _ = self.places[old]
            place, self.alone = min(place, left), None
        self.places[self.fork] = old, place, since
        self.archived = max(0, min(place, self.archived) - self.throw(3))  # its first segment repeats the old one's

    def goes_on_alone(self) -> None:
        """A former primary writes on and its log arrives: a history of its own, beside the one that counts."""
        if self.alone is None:
            self.idle()
            return
        was, self.alone = self.alone, None
        self.pass_second()
        content = [*was.content, *(self.number() for _ in range(1 + self.throw(3)))]
        for second in range(was.seen + 1, self.now):
            self.beside.setdefault(second, {})[was.fork] = frozenset(was.content)
        self.beside.setdefault(self.now, {})[was.fork] = frozenset(content)
        made = ChainSet(
            id=self.number(),
            kind=Kind.LOG,
            first=self.position(was.archived),
            last=self.position(len(content)),
            finished_at=at(self.now),
            from_time=at(was.logged_until),
            until_time=at(self.now),
            fork=str(was.fork),
            **self.origin(was.fork),
        )
        before, held = frozenset(content[: was.archived]), frozenset(content[was.archived :])
        self.taken.append(Taken(made, held, frozenset(content), before))
        self.alone = Alone(was.fork, content, len(content), self.now, self.now)


class MariadbLife(Life):
    """Every log is one binlog; the rotation that ends it is a change like any other, so that none can be missing."""

    NUMBER = 10**12

    def __init__(self, engine: str) -> None:
        super().__init__(engine)
        self.rotations: list[int] = []

    def position(self, transactions: int) -> int:
        before = [place for place in self.rotations if place <= transactions]
        return (1 + len(before)) * self.NUMBER + 4 + 10 * (transactions - (before[-1] if before else 0))

    def end(self, transactions: int) -> int:
        """A closed binlog ends where the next begins; the next one's first event stands behind its magic bytes."""
        return self.position(transactions) // self.NUMBER * self.NUMBER

    def log(self, *, repeats: int = 0, truncates: bool = True) -> None:
        self._rotate()
        super().log()

    def log_of_another_tool(self) -> None:
        self._rotate()
        super().log_of_another_tool()

    def _rotate(self) -> None:
        self.write()
        self.rotations.append(len(self.content))

    def restored_in_place(self) -> None:
        super().restored_in_place()
        self.rotations = [place for place in self.rotations if place <= len(self.content)]


LIVES: dict[str, Callable[[str], Life]] = {
    "sqlserver": SqlServerLife,
    "postgresql": PostgresqlLife,
    "mariadb": MariadbLife,
}
