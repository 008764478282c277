"""One attempt at a drill, from its pick to its verdict; where the copy is restored to is for `local` and `landed`."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from random import Random
from typing import Any, BinaryIO, NamedTuple

from django.db import close_old_connections, transaction

from backups.copying import damage
from backups.drilling import drill_sources, drills
from backups.drilling.drill_sources import Choice
from backups.engines import Engine, engine_of
from backups.engines.facts import RunningServer, Stopped
from backups.events import speakable
from backups.leases import LeaseLost, who
from backups.models import Copy, CopyState, Drill, DrillQuery, Pin
from regions import clock
from regions.refusals import Refusal
from regions.storage import StorageError
from regions.storage.mover import MIB, Differs, Part

log = logging.getLogger(__name__)
MOST_TABLES = 5_000  # named one by one; all are counted
PATIENCE = 3  # attempts at a store that does not answer
State, Pick = Drill.State, Drill.Pick

# What a worker refuses because of itself: it says nothing of the copies.
CANNOT_HERE = frozenset(
    {
        "NoRestore",
        "NoLanding",
        "NothingToRestore",
        "NotTrusted",
        "ServerMissing",
        "ToolsMissing",
        "CheckMissing",
        "ProgramsOutOfReach",
        "PlaceOutOfReach",
        "NoAccount",
        "NoSpace",
        "Stripes",
    }
)


class Verdict(NamedTuple):
    state: str
    sentence: str


@dataclass
class Trial(ABC):
    """One attempt: what it found on its way to the verdict."""

    drill: Drill
    beat: drills.Heartbeat
    is_patient: bool = True
    choice: Choice | None = None
    differing: dict[int, Part] = field(default_factory=dict)  # copy -> the part that is not as recorded
    checks: list[dict[str, Any]] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)  # columns of the row
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine: Engine = engine_of(self.drill.instance.engine)
        self.luck = Random(f"{self.drill.pk}-{self.drill.fence}")
        self.evidence = {**self.drill.evidence, "host": who()}
        self._told = ""

    # ---- what differs

    @abstractmethod
    def clear_former(self) -> None:
        """Remove what earlier attempts have left; raises Refusal where that cannot be seen to now."""

    @property
    @abstractmethod
    def standing(self) -> str:
        """What was restored, and where it stood, for whoever has to look after it."""

    @abstractmethod
    def _watched(self, copy: Copy) -> Any:
        """Return a copy's bytes as `_restored` takes them; a part that differs is noted in `differing`."""

    @abstractmethod
    def _clone(self, copy: Copy) -> Any:
        """Return a damaged clone of them."""

    @abstractmethod
    def _one_byte_flipped(self, copy: Copy) -> BinaryIO:
        """Open the copy, or its first stripe, with one byte of it changed."""

    @abstractmethod
    def _restored(self, data: list[Any], logs: list[Any]) -> AbstractContextManager[Any]:
        """Restore it: `restored_until`, `server` to look into; afterwards it is gone, and that was looked at."""

    @abstractmethod
    def _require_trust(self, choice: Choice) -> None:
        """Raise Refusal where these copies are not restored."""

    # ---- running

    def run(self) -> None:
        try:
            verdict = self._judge(self._canary if self.drill.pick == Pick.CANARY else self._rehearse)
        finally:
            self._let_go()
        if verdict is None:
            return
        close_old_connections()
        evidence = {"seconds": self.seconds, "checks": self.checks, "evidence": self.evidence}
        drills.finish(self.drill, *verdict, **evidence, **self.found)

    # ---- the verdict

    def _judge(self, work: Callable[[], Verdict]) -> Verdict | None:
        """Return what the work came to, however it ended; None: it is tried again later."""
        try:
            return self._unless_left_behind(work())
        except (LeaseLost, Stopped):
            raise
        except Exception as error:
            if self.differing:
                return self._damaged()
            if isinstance(error, Refusal):
                return Verdict(State.SKIPPED if error.code in CANNOT_HERE else State.FAILED, str(error))
            if isinstance(error, StorageError):
                return self._out_of_reach(error)
            log.exception("drill failed", extra={"drill": self.drill.pk})
            said = f"An unexpected error, {type(error).__name__}: {error}. The worker's log has more."
            return Verdict(State.FAILED, said)

    def _unless_left_behind(self, verdict: Verdict) -> Verdict:
        if self.evidence.get("removed") is False:
            return Verdict(State.FAILED, f"{self.standing} could not be removed.")
        return verdict

    def _out_of_reach(self, error: StorageError) -> Verdict | None:
        said = f"The copies could not be read: {error.sentence}"
        if self.is_patient and error.retry and self.drill.attempts < PATIENCE:
            drills.put_off(self.drill, said)
            return None
        return Verdict(State.FAILED, said)

    def _damaged(self) -> Verdict:
        """A part was not what was recorded: look once more, and mark the copy when that is so at rest."""
        said = [self._tell_damage(copy, self.differing[copy.pk]) for copy in self._differing_copies()]
        self._checked("recorded hashes", False, said)
        return Verdict(State.FAILED, " ".join(said))

    def _differing_copies(self) -> list[Copy]:
        return [copy for copy in self.choice.copies if copy.pk in self.differing]

    def _tell_damage(self, copy: Copy, part: Part) -> str:
        if not damage.still_differs(copy, part):
            return (
                f"Part {part.number} of the copy of {copy.set} came damaged once and whole when it was read again:"
                " look at this worker's memory and at its way to the store."
            )
        if not drills.renew(self.drill):
            raise LeaseLost
        damage.mark(copy, part)
        return f"The copy of {copy.set} is damaged: part {part.number} does not hash to what was recorded of it."

    # ---- an ordinary drill

    def _rehearse(self) -> Verdict:
        choice = self._choose()
        data = [self._watched(copy) for copy in choice.data]
        logs = [self._watched(copy) for copy in choice.logs]
        with self._restored(data, logs) as restored:
            self.found |= {"restored_until": restored.restored_until, "isolation": restored.server.isolation}
            self._look_into(restored.server)
            self._timed("queries", lambda: self._ask(restored.server))
        if self.differing:
            return self._damaged()
        failed = [check for check in self.checks if not check["passed"]]
        if failed:
            return Verdict(State.FAILED, " ".join(f"{check['name']}: {_first(check)}" for check in failed[:3]))
        return Verdict(State.PASSED, "Restored, checked, counted and removed again.")

    def _choose(self) -> Choice:
        """Pick the moment, and pin its copies under their locks, so that no purge takes one away meanwhile."""
        if refusal := drills.why_not(self.drill.instance, self.drill.store):
            raise refusal
        for _ in range(3):
            choice = drill_sources.choose(self.drill, self.luck)
            if self._pin(choice):
                break
        else:
            raise Refusal("NothingToRestore", "Copies come and go too quickly to hold one.", "Ask again.")
        self._require_trust(choice)
        self.choice = choice
        self.found |= {"set": choice.data[-1].set, "until": choice.moment}
        self.evidence["copies"] = [_evidence_of(copy) for copy in choice.copies]
        return choice

    def _pin(self, choice: Choice) -> bool:
        wanted = [copy.pk for copy in choice.copies]
        with transaction.atomic():
            locked = Copy.objects.select_for_update(no_key=True).filter(pk__in=wanted, state=CopyState.COMPLETED)
            if len(locked.order_by("pk")) != len(wanted):
                return False
            at = clock.now()
            until = drills.pinned_until(at)
            pins = [Pin(copy_id=pk, reason="drill", pinned_at=at, until=until) for pk in wanted]
            self.beat.pins = [pin.pk for pin in Pin.objects.bulk_create(pins)]
        return True

    def _let_go(self) -> None:
        pins, self.beat.pins = self.beat.pins, []
        Pin.objects.filter(pk__in=pins).update(until=clock.now())

    def _progress(self, stage: str, done: int, total: int | None) -> None:
        if stage != self._told:
            self._told = stage
            drills.renew(self.drill, sentence=stage)

    # ---- looking into the restored server

    def _look_into(self, server: RunningServer) -> None:
        self._timed("engine check", lambda: self._check(server))
        self._timed("rows", lambda: self._count(server))

    def _timed(self, stage: str, work: Callable[[], None]) -> None:
        begun = time.monotonic()
        self._progress(stage, 0, None)
        work()
        self.seconds[stage] = round(time.monotonic() - begun, 3)

    def _checked(self, name: str, passed: bool, findings: Any = (), **more: str) -> None:
        said = [speakable(str(finding)) for finding in findings]
        self.checks.append({"name": name, "passed": passed, "findings": said, **more})

    def _check(self, server: RunningServer) -> None:
        if self.engine.check is None:
            raise Refusal("CheckMissing", "This engine has no check of its own yet.", "")
        found = self.engine.check(server, stop=self.beat.lost.is_set)
        self.evidence["tools"] = {found.tool: self._version(server)}
        self._checked(found.tool, found.passed, found.findings)

    def _version(self, server: RunningServer) -> str:
        return self.engine.ask(server, "", self.engine.capabilities.version_question) if self.engine.ask else ""

    def _count(self, server: RunningServer) -> None:
        try:
            rows = self.engine.count_rows(server, stop=self.beat.lost.is_set)
        except Refusal as refusal:
            self._checked("rows", False, [refusal])
            return
        named = {speakable(table): count for table, count in sorted(rows.items())[:MOST_TABLES]}
        self.found["rows"] = named
        self.evidence |= {"tables": len(rows), "total_rows": sum(rows.values())}
        self._checked("rows", True, [counted(sum(rows.values()), len(rows))])

    def _ask(self, server: RunningServer) -> None:
        for query in DrillQuery.objects.filter(instance=self.drill.instance_id).order_by("pk"):
            if self.beat.lost.is_set():
                raise Stopped("the drill is no longer wanted")
            passed, said = self._answer(server, query)
            self._checked(query.sql, passed, [said], database=query.database)

    def _answer(self, server: RunningServer, query: DrillQuery) -> tuple[bool, str]:
        if self.engine.ask is None:
            return False, "This engine cannot be asked yet."
        try:
            answer = self.engine.ask(server, query.database, query.sql)
        except Refusal as refusal:
            return False, str(refusal)
        passed = answer.strip() == query.expected.strip()
        return passed, f"{answer}" if passed else f"{answer}, expected {query.expected}"

    # ---- the canary

    def _canary(self) -> Verdict:
        """A damaged clone must fail, against the hashes and, where those are not asked, in the engine's own hands."""
        choice = self._choose()
        self._checked("one byte flipped, recorded hashes compared", *self._hashes_notice(choice.data[0]))
        self._checked("runs of bytes flipped, hashes left out", *self._engine_notices(choice.data))
        if all(check["passed"] for check in self.checks):
            return Verdict(State.PASSED, f"The damage was noticed: {_first(self.checks[1])}")
        unnoticed = [check["name"] for check in self.checks if not check["passed"]]
        return Verdict(State.FAILED, f"The damage of a clone went unnoticed: {', '.join(unnoticed)}.")

    def _hashes_notice(self, copy: Copy) -> tuple[bool, list[str]]:
        self._progress("hashes", 0, None)
        try:
            with self._one_byte_flipped(copy) as stream:
                while stream.read(MIB):
                    if self.beat.lost.is_set():
                        raise Stopped("the drill is no longer wanted")
        except Differs as differs:
            return True, [f"Part {differs.part.number} differs from what was recorded."]
        return False, ["The whole copy was read, and nothing was said."]

    def _engine_notices(self, copies: list[Copy]) -> tuple[bool, list[str]]:
        """Whether the restore, or the checks behind it, failed, with the engine's words."""
        before = list(self.checks)
        try:
            with self._restored([self._clone(copy) for copy in copies], []) as restored:
                self.found["isolation"] = restored.server.isolation
                self._look_into(restored.server)
        except (LeaseLost, Stopped, StorageError):
            raise
        except Exception as error:
            if isinstance(error, Refusal) and error.code in CANNOT_HERE:
                raise
            return True, [f"{error}"]
        finally:
            looked, self.checks = self.checks[len(before) :], before
            self.found.pop("rows", None)
            self.evidence.pop("total_rows", None)
        failed = [check for check in looked if not check["passed"]]
        return bool(failed), [_first(check) for check in failed] or ["It was restored and checked as if it were sound."]


def _first(check: dict[str, Any]) -> str:
    return check["findings"][0] if check["findings"] else "it failed and did not say why"


def _evidence_of(copy: Copy) -> dict[str, Any]:
    transfers = [place.transfer for place in copy.copied_files.select_related("transfer").order_by("pk")]
    return {
        "copy": copy.pk,
        "set": copy.set_id,
        "kind": copy.set.kind,
        "finished_at": copy.set.finished_at.isoformat(),
        "bytes": sum(transfer.size for transfer in transfers),
        "digests": [transfer.digest for transfer in transfers],
        "reference": copy.reference,
        "verification": copy.verification,
        "made_by": copy.set.tool_version,
    }


def counted(rows: int, tables: int) -> str:
    """Say what was counted: "1 row in 1 table", "4,345 rows in 12 tables"."""
    return f"{rows:,} {'row' if rows == 1 else 'rows'} in {tables:,} {'table' if tables == 1 else 'tables'}"
