"""Who broke a chain, and what never came: what servers remember and the store does not have (R-8.3, R-9.3).

Only fulls and logs count: another tool's log takes its part of the chain with it, another tool's full is what later
differentials stand on. A full that is here, and came later, ends either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Exists, Min, OuterRef, Q, QuerySet

from backups.alerts import fitting
from backups.engines import engine_of
from backups.engines.facts import Breaker, HistorySet, Kind, who_took
from backups.models import BackupJob, BackupSet, CopyPolicy, Instance, LogGap, RememberedSet, SetStatus
from backups.restore_sources import facts_of
from backups.servers import remembering

ON_ITS_WAY = timedelta(minutes=15)  # between the end of a backup and the look that finds its file
SENSIBLE = timedelta(hours=2)
BROKEN, NOT_IN_STORE = "chain_broken", "backup_not_in_store"  # the codes of the alerts
REMEDIES = {
    Kind.LOG: "Take a full backup here: what follows it can be restored again. Let only one job take the log backups.",
    Kind.FULL: "Take a full backup here, for differentials to stand on; let the other job take its own as copy-only.",
}
NOT_THERE = "See that its job writes where Farshore looks, and that the file is whole."


@dataclass(frozen=True)
class Finding:
    """What is wrong with the backups of one database: somebody broke its chain (`by`), or one never came (`missing`).

    `more`: how many others like it came after.
    """

    instance: Instance
    by: Breaker | None = None
    missing: HistorySet | None = None
    more: int = 0

    @property
    def taken(self) -> HistorySet:
        return self.by.taken if self.by else self.missing

    @property
    def subject(self) -> str:
        return subject_of(self.taken.facts.kind, self.instance, self.taken.facts.database)

    def words(self) -> dict[str, object]:
        sentence = self.by.sentence if self.by else _not_there(self.missing)
        others = f" {self.more} more since." if self.more else ""
        kind = self.taken.facts.kind
        remedy = REMEDIES[kind] if self.by else NOT_THERE
        return {"sentence": f"{self.instance.name}, {sentence}{others}", "remedy": remedy, "instance": self.instance}


def subject_of(kind: str, instance: Instance, database: str) -> str:
    """Return what the alerts about the backups of a kind of a database are about."""
    return fitting(f"{kind}s:{instance.pk}:{database}")


def _not_there(one: HistorySet) -> str:
    facts = one.facts
    return (
        f"{facts.database}: the {facts.kind} backup of {facts.finished_at:%Y-%m-%d %H:%M} UTC {who_took(one)} is not in"
        " the store."
    )


def look(at: datetime) -> tuple[dict[str, dict], dict[str, dict]]:
    """Return the alerts that are due now, by subject: of broken chains, and of backups that never came."""
    broken, missing = {}, {}
    for one in findings(at):
        (broken if one.by else missing)[one.subject] = one.words()
    return broken, missing


def findings(at: datetime) -> Iterator[Finding]:
    """Yield what is wrong, one for each database and kind of backup."""
    candidates = _candidates(at)
    instances = Instance.objects.in_bulk({pk for pk, _ in candidates})
    for (pk, database), rows in candidates.items():
        told = [remembering.history_set(row) for row in rows]
        yield from _of_database(instances[pk], database, told, at)


def _candidates(at: datetime) -> dict[tuple[int, str], list[RememberedSet]]:
    """Return the fulls and logs nobody has found in time and no later full has made up for, by database."""
    log = Q(kind=Kind.LOG) & ~Exists(_later_fulls())
    full = Q(kind=Kind.FULL) & ~Exists(_later_fulls().filter(is_copy_only=False))
    lost = Q(is_foreign=True) | Q(finished_at__lte=at - ON_ITS_WAY)
    rows = RememberedSet.objects.filter(log | full, lost, is_copy_only=False, instance__released_at=None)
    found: dict[tuple[int, str], list[RememberedSet]] = defaultdict(list)
    for row in rows.order_by("instance", "database", "finished_at"):
        found[row.instance_id, row.database].append(row)
    return found


def _later_fulls() -> QuerySet[BackupSet]:
    ours = BackupSet.objects.filter(instance=OuterRef("instance"), database=OuterRef("database"), kind=Kind.FULL)
    return ours.filter(finished_at__gt=OuterRef("finished_at")).exclude(status=SetStatus.INCOMPLETE)


def _of_database(instance: Instance, database: str, told: Sequence[HistorySet], at: datetime) -> Iterator[Finding]:
    held = [_as_told(one) for one in _newest(instance, database)]
    moving = _moving(instance, told)
    breakers = engine_of(instance.engine).breakers
    broke = breakers([*told, *held], [one.facts.set_guid for one in held], in_transit=moving) if breakers else []
    for kind in (Kind.FULL, Kind.LOG):
        by = [one for one in broke if one.taken.facts.kind is kind]
        if by and (kind is Kind.FULL or _keeps_logs(instance, held)):
            yield Finding(instance, by=by[0], more=len(by) - 1)
    broken = {one.taken.facts.set_guid for one in broke} | moving
    yield from _missing(instance, [one for one in told if one.facts.set_guid not in broken], at)


def _missing(instance: Instance, told: Iterable[HistorySet], at: datetime) -> Iterator[Finding]:
    late = [one for one in told if one.facts.finished_at <= at - SENSIBLE and _was_looked_for(instance, one)]
    for kind in (Kind.FULL, Kind.LOG):
        if mine := [one for one in late if one.facts.kind is kind]:
            yield Finding(instance, missing=mine[0], more=len(mine) - 1)


def _was_looked_for(instance: Instance, one: HistorySet) -> bool:
    """Whether somebody has looked into the store since; where none can look, its alert is another."""
    is_found = instance.arrival == "found"
    return not is_found or (instance.looked_at is not None and instance.looked_at > one.facts.finished_at + ON_ITS_WAY)


def _moving(instance: Instance, told: Iterable[HistorySet]) -> set[str]:
    """Return what may still be on its way to the store: a job of ours that is at work may have taken it."""
    running = instance.jobs.filter(state=BackupJob.State.RUNNING)
    since = running.aggregate(since=Min("started_at"))["since"]
    if since is None:
        return set()
    plain = [one for one in told if not one.is_foreign]
    return {one.facts.set_guid for one in plain if one.facts.finished_at > since - ON_ITS_WAY}


def _newest(instance: Instance, database: str) -> list[BackupSet]:
    """Return the newest set of each kind that is here, or was."""
    ours = BackupSet.objects.filter(instance=instance, database=database).exclude(status=SetStatus.INCOMPLETE)
    newest = (ours.filter(kind=kind).order_by("-finished_at").first() for kind in Kind)
    return [one for one in newest if one]


def _as_told(found: BackupSet) -> HistorySet:
    return HistorySet(number=0, facts=facts_of(found), devices=(), user="")


def _keeps_logs(instance: Instance, held: Iterable[HistorySet]) -> bool:
    """Whether a log that went elsewhere is missed: logs of the database are kept here, or are wanted."""
    if any(one.facts.kind is Kind.LOG for one in held):
        return True
    return CopyPolicy.objects.cross_region().live().filter(instance=instance, logs_enabled=True).exists()


# ---- in a gap


def who_broke(gap: LogGap) -> str:
    """Return who took the logs that are missing in a gap, where its server remembers; "" where nobody knows."""
    rows = RememberedSet.objects.filter(
        instance=gap.instance,
        database=gap.database,
        kind=Kind.LOG,
        fork__in={gap.fork, gap.reached_fork},
        last_position__gt=gap.reached,
        first_position__lt=gap.begins,
    )
    taken = [remembering.history_set(row) for row in rows.order_by("finished_at", "pk")[:1000]]
    if not taken:
        return ""
    first, more = taken[0], len(taken) - 1
    others = f", and {more} more after it" if more else ""
    return f"The log backup of {first.facts.finished_at:%Y-%m-%d %H:%M} UTC went {who_took(first)}{others}."


# ---- header and server


def contradictions(at: datetime) -> dict[str, dict]:
    """Return the alerts, by subject, of sets at their source of which header and server tell different things."""
    sets = BackupSet.objects.exclude(contradiction="").valid().filter(finished_at__gt=at - remembering.KEPT)
    return {
        f"set:{found.pk}": {
            "sentence": f"{found.instance.name}: the header of {found} and its server's history disagree on"
            f" {found.contradiction}.",
            "remedy": "Something rewrote the file or the history. Take a full backup, and see what RESTORE HEADERONLY"
            " makes of this one.",
            "instance": found.instance,
        }
        for found in sets.filter(instance__released_at=None).select_related("instance")[:1000]
    }
