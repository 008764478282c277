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


class Life:
    """One history. `moments[second]` is the fork and the transactions in the database at the end of that second."""

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
        made = replace(self._data(Kind.DIFFERENTIAL, whole, whole, False), base_guid=self.base.set.set_guid)
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
        )
        shows, before = frozenset(self.content), frozenset(self.content[:first])
        if truncates:
            self.archived, self.logged_until = len(self.content), until
        for _ in range(self.throw(2)):
            self.write()
        self.pass_second()
        self.taken.append(Taken(replace(made, finished_at=at(self.now)), frozenset(held), shows, before))

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

    def lose(self) -> None:
        if self.taken:
            del self.taken[self.throw(len(self.taken))]

    def still_copying(self) -> None:
        if self.taken:
            place = self.throw(len(self.taken))
            taken = self.taken[place]
            self.taken[place] = replace(taken, set=replace(taken.set, is_completed=False))

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

    def can_be_had(self, second: int) -> bool:
        present = self.present()
        ids = {taken.set.id for taken in present}
        whole = [one for one in present if not one.is_log and (one.base is None or one.base.set.id in ids)]
        return any(self._leads_to(second, one, present) for one in whole)

    def _leads_to(self, second: int, data: Taken, present: Sequence[Taken]) -> bool:
        if data.set.shown_at == at(second):
            return True
        if data.set.shown_at > at(second):
            return False
        fork = self.moments[second][0]
        path = self.path(fork, present)
        if int(data.set.fork) not in path:
            return False
        logs = [one for one in present if one.is_log and not one.set.is_history and int(one.set.fork) in path]
        pool = frozenset().union(*(one.holds for one in logs))
        own = data.before if self.needs_its_own_log else data.shows
        return any(
            data.shows <= last.shows and own < last.shows and last.shows - own <= pool
            for last in logs
            if int(last.set.fork) == fork and last.set.until_time >= at(second)
        )

    def path(self, fork: int, present: Sequence[Taken]) -> list[int]:
        """Return the forks whose logs count for one: itself, and those that history files lead back to."""
        found = [fork]
        parents = {int(one.set.fork): int(one.set.parent_fork) for one in present if one.set.is_history}
        while found[-1] in parents:
            found.append(parents[found[-1]])
        return found

    def replay(self, plan: Sequence[ChainSet], second: int) -> Content:
        """Restore as a server would, refusing what does not fit, and return the transactions in the new database."""
        by_id = {taken.set.id: taken for taken in self.taken}
        target = self.moments[second][1]
        state: Content = frozenset()
        applied: Taken | None = None
        logged: Content | None = None
        for taken in (by_id[one.id] for one in plan):
            assert taken.set.is_completed
            if taken.set.is_history:
                continue
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

    def restored_in_place(self) -> None:
        old = self.fork
        super().restored_in_place()
        place = self.position(len(self.content))
        made = ChainSet(
            id=self.number(),
            kind=Kind.LOG,
            first=place,
            last=place,
            finished_at=at(self.now),
            until_time=at(self.now),
            fork=str(self.fork),
            parent_fork=str(old),
        )
        self.taken.append(Taken(made, frozenset(), frozenset(self.content), frozenset(self.content)))
        self.archived = max(0, self.archived - self.throw(3))  # the new fork's first segment repeats the old one's


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
