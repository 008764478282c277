"""From what a restore is made: the copies or default backups it reads, in order; or why there are none (R-2.3, I7)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from django.db.models import QuerySet

from backups.chains import certificates, log_chain, windows
from backups.chains.log_chain import Interval
from backups.chains.windows import Chain
from backups.engines import engine_of
from backups.engines.chains import RECORDED
from backups.models import BackupSet, Copy, CopyState, Instance, Kind, LandingServer, Restore
from backups.terms.policy_settings import enabled_policy
from regions.built_once import Given, built_once
from regions.models import Region, Store
from regions.refusals import Refusal

SECOND = timedelta(seconds=1)
T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """What somebody asks for. A `copy` or `default_set` alone: exactly that set; `until`: that moment, from a default
    backup where one is named; nothing of these: the newest moment a destination has, or with `at_source` the source.

    `onto`: an instance that is there, instead of a new one (R-2.3). `landing`: a database on that landing server.
    `called`: what the database is to be called beside those of an instance that is there.
    """

    instance: Instance
    store: Store | None = None
    database: str = ""
    until: datetime | None = None
    copy: Copy | None = None
    default_set: BackupSet | None = None
    at_source: bool = False
    onto: Instance | None = None
    landing: LandingServer | None = None
    called: str = ""

    @property
    def is_beside(self) -> bool:
        """It goes beside the databases that another instance has."""
        return self.onto is not None and self.onto.pk != self.instance.pk


@dataclass(frozen=True)
class Choice:
    """What is read, in the order of applying: `sources` are copies at `store`, or sets at their own source."""

    origin: str
    region: Region
    store: Store | None
    database: str
    sources: Sequence[Copy | BackupSet]
    restored_until: datetime

    @property
    def sets(self) -> list[BackupSet]:
        return [source.set if isinstance(source, Copy) else source for source in self.sources]

    @property
    def copies(self) -> list[Copy]:
        return [source for source in self.sources if isinstance(source, Copy)]

    @property
    def data(self) -> list[BackupSet]:
        return [found for found in self.sets if found.kind != Kind.LOG]

    @property
    def logs(self) -> list[BackupSet]:
        return [found for found in self.sets if found.kind == Kind.LOG]

    @property
    def anchor(self) -> BackupSet:
        """The full or differential that logs follow."""
        return self.data[-1]


def choose(wanted: Wanted) -> Choice:
    """Return what the restore reads; raises Refusal, whose field is the argument it is about ("set" for both kinds)."""
    try:
        if wanted.default_set:
            return _from_default_backups(wanted)
        return _from_the_source(wanted) if wanted.at_source else _from_copies(wanted)
    except Refusal as refusal:
        raise replace(refusal, field="until" if refusal.field == "moment" else refusal.field) from None


# ---- copies at a destination


def _from_copies(wanted: Wanted) -> Choice:
    if wanted.copy and wanted.until is None:
        return _exactly(wanted, wanted.copy)
    store = wanted.store or (wanted.copy.destination_store if wanted.copy else nearest_store(wanted.instance))
    database = _database(wanted, windows.databases_at(wanted.instance, store))
    _refuse_sealed(wanted.instance, store, database)
    said = wanted.until or _newest(wanted.instance, store, database)
    chain = partial(windows.chain_of, wanted.instance, store, database)
    moment, copies = _told_by_its_second(said, chain, partial(windows.copies_for, wanted.instance, store, database))
    return Choice(Restore.Origin.COPY, store.region, store, database, copies, moment)


def _told_by_its_second(
    said: datetime, chain: Callable[[], Chain], plan: Callable[[datetime], T]
) -> tuple[datetime, T]:
    """Return the moment that is meant, and what it takes. Moments are shown in whole seconds, never later than they
    are: the second in which a stretch begins tells its beginning (`meant_by`)."""
    try:
        return said, plan(said)
    except Refusal:
        meant = meant_by(said, chain().window())
        if meant == said:
            raise
        return meant, plan(meant)


def meant_by(said: datetime, stretches: Iterable[Interval]) -> datetime:
    """Return the moment that is told by a whole second: itself, or where that cannot be had what begins within it."""
    stretches = list(stretches)
    if said.microsecond or any(one.start <= said <= one.end for one in stretches):
        return said
    return min((one.start for one in stretches if said < one.start < said + SECOND), default=said)


def nearest_store(instance: Instance) -> Store:
    """Return where to restore when nobody says: today's backup region, else the first where copies lie."""
    stores = windows.stores_with_copies(instance)
    policy = enabled_policy(instance)
    todays = [store for store in stores if policy and store.region_id == policy.destination_id]
    if not stores:
        raise Refusal(
            "NothingToRestore",
            f"No copy of {instance.name} lies anywhere yet.",
            "Wait until a full backup has been copied, or restore from a default backup.",
            "store",
        )
    return (todays or stores)[0]


def databases_until(instance: Instance, store: Store, until: datetime | None) -> list[str]:
    """Return the databases that are to be brought back to a moment (None: the newest of each).

    One that was not there yet, or not there any more, is left out. One that is there today and cannot be had as of
    then stays in: the restore is refused with its reason, instead of coming back with a database missing.
    """
    names = windows.databases_at(instance, store)
    return [name for name in names if _is_wanted(instance, store, name, until)] or names


def _is_wanted(instance: Instance, store: Store, name: str, until: datetime | None) -> bool:
    stretches = windows.chain_of(instance, store, name).window()
    until = until and meant_by(until, stretches)
    if until is None:
        return bool(stretches) and not instance.databases.filter(name=name, gone_at__isnull=False).exists()
    if any(one.start <= until <= one.end for one in stretches):
        return True
    had_begun = any(one.start <= until for one in stretches)
    return had_begun and instance.databases.present().filter(name=name).exists()


def _newest(instance: Instance, store: Store, database: str) -> datetime:
    window = windows.chain_of(instance, store, database).window()
    if not window:
        raise Refusal(
            "NothingToRestore",
            f"No completed copy at {store.region} can be restored yet.",
            "Wait until a full backup has been copied.",
            "store",
        )
    return max(found.end for found in window)


def _database(wanted: Wanted, known: Sequence[str]) -> str:
    """Return the database meant; where backups hold the whole server there is none to choose."""
    engine = engine_of(wanted.instance.engine).capabilities
    if engine.whole_server:
        if wanted.database:
            raise Refusal(
                "DatabaseNotAlone",
                f"A backup of {engine.label} holds every database of the server; one alone is not restored.",
                "Restore the server, and take the database from it.",
                "database",
            )
        return ""
    if wanted.database in known:
        return wanted.database
    if not wanted.database and len(known) == 1:
        return known[0]
    said = f"There is no copy of a database named {wanted.database}." if wanted.database else "Which database?"
    raise Refusal("DatabaseMissing", said, f"Choose one of {', '.join(known) or 'none'}.", "database")


def _exactly(wanted: Wanted, copy: Copy) -> Choice:
    """The set of one copy, as it was taken, behind what it needs."""
    if copy.set.instance_id != wanted.instance.pk:
        raise Refusal("NoSuchSet", f"This is no backup of {wanted.instance.name}.", "Choose one of its own.", "set")
    if copy.set.kind == Kind.LOG:
        raise _log_alone(copy.set)
    if copy.state != CopyState.COMPLETED:
        raise Refusal(
            "CopyNotCompleted",
            f"The copy of {copy.set} is {copy.get_state_display().lower()}; only completed copies are restored.",
            "Choose another set.",
            "set",
        )
    if certificates.is_sealed(copy):
        raise _sealed(copy.set, copy.destination_store.region_id)
    copies = windows.copies_for_set(copy)
    store = copy.destination_store
    return Choice(Restore.Origin.COPY, store.region, store, copy.set.database, copies, copy.set.finished_at)


def _log_alone(found: BackupSet) -> Refusal:
    return Refusal("LogAlone", f"{found} is a log; it continues a backup.", "Choose the moment it reaches.", "set")


def _refuse_sealed(instance: Instance, store: Store, database: str) -> None:
    """Windows leave encrypted sets out: where there is nothing else, say that this is why (R-3.5)."""
    completed = Copy.objects.restorable().filter(
        set__instance=instance, set__database=database, destination_store=store, set__kind=Kind.FULL
    )
    sealed = certificates.sealed(store.region_id)
    newest = completed.select_related("set__instance").order_by("-set__finished_at").first()
    if newest and completed.filter(sealed, pk=newest.pk).exists() and not completed.exclude(sealed).exists():
        raise _sealed(newest.set, store.region_id)


def _sealed(found: BackupSet, region_id: str) -> Refusal:
    named = [one for one in certificates.missing_for(found, region_id) if one != certificates.UNKNOWN]
    which = "".join(f" {one}" for one in named)
    return Refusal(
        "CertificateMissing",
        f"{found} is encrypted and needs certificate{which} at the destination; none is registered there.",
        "Register the certificate in that region: Stores, the region's store, Certificates.",
        "set",
    )


# ---- default backups in the source region


def _from_default_backups(wanted: Wanted) -> Choice:
    """A default backup at its own source, and with `until` the logs there that follow it."""
    found = wanted.default_set
    if found.instance_id != wanted.instance.pk:
        raise Refusal("NoSuchSet", f"This is no backup of {wanted.instance.name}.", "Choose one of its own.", "set")
    if found.kind == Kind.LOG:
        raise _log_alone(found)
    if certificates.missing_for(found, wanted.instance.region_id):
        raise _sealed(found, wanted.instance.region_id)
    chain = chain_at_source(wanted.instance, found.database)
    lineage = log_chain.lineage_of(found.pk, chain.data, chain.rules)
    if not lineage:
        raise Refusal(
            "BackupGone",
            f"{found} is no longer whole at its source, or what it builds on is not.",
            "Choose another default backup, or a copy of it in the backup region.",
            "set",
        )
    until, used = found.finished_at, lineage
    if wanted.until:
        until, used = _told_by_its_second(wanted.until, lambda: chain, lambda moment: _plan(moment, lineage, chain))
    region = wanted.instance.region
    sets = _in_order(one.id for one in used)
    return Choice(Restore.Origin.DEFAULT, region, None, found.database, sets, until)


def _from_the_source(wanted: Wanted) -> Choice:
    """A moment, or the newest one, of the default backups and logs that are still at their source."""
    database = _database(wanted, databases_at_source(wanted.instance))
    chain = chain_at_source(wanted.instance, database)
    window = chain.window()
    if not window:
        raise Refusal(
            "NothingToRestore",
            f"No default backup of {wanted.instance.name} at its source can be restored.",
            "Restore from a copy in the backup region.",
            "store",
        )
    said = wanted.until or max(found.end for found in window)
    moment, used = _told_by_its_second(said, lambda: chain, lambda moment: _plan(moment, chain.data, chain))
    sets = _in_order(one.id for one in used)
    return Choice(Restore.Origin.DEFAULT, wanted.instance.region, None, database, sets, moment)


def databases_at_source(instance: Instance) -> list[str]:
    names = instance.sets.valid().data().order_by("database").values_list("database", flat=True)
    return list(names.distinct())


def chain_at_source(instance: Instance, database: str) -> Chain:
    """The default backups that are still at their source, as chains see them; an `id` is the set's."""
    rules = engine_of(instance.engine).chain_rules
    rows = _at_source(instance=instance.pk, region=instance.region_id, database=database)
    return Chain(rules, tuple(windows.sets_as_chain((facts for _, *facts in rows), rules)))


def chains_at_source(instance: Instance) -> list[Chain]:
    """Return those of all its databases, as `chain_at_source` would; read in one go."""
    rules, found = engine_of(instance.engine).chain_rules, defaultdict(list)
    for database, *facts in _at_source(instance=instance.pk, region=instance.region_id):
        found[database].append(facts)
    return [Chain(rules, tuple(windows.sets_as_chain(rows, rules))) for rows in found.values()]


@built_once
def _at_source(**given: Given) -> QuerySet[Any]:
    sets = BackupSet.objects.valid().filter(instance=given["instance"])
    sets = sets.filter(database=given["database"]) if "database" in given else sets
    sets = sets.exclude(certificates.sealed(given["region"], ""))
    return sets.order_by("pk").values_list("database", "pk", *RECORDED)


def _plan(moment: datetime, data: Sequence, chain: Chain) -> Sequence:
    plan = log_chain.plan_for(moment, data, chain.logs, chain.rules)
    if plan.refusal:
        raise plan.refusal
    return plan.sets


def _in_order(ids: Iterable[int]) -> list[BackupSet]:
    wanted = list(ids)
    rows = BackupSet.objects.in_bulk(wanted)
    return [rows[pk] for pk in wanted]
