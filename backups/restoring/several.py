"""Several instances to one moment in one go, each as what its engine comes back as: a new server, or every database of
it on a landing server. What would come of each is worked out the way it is asked for.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from backups.chains import windows
from backups.events import By
from backups.models import Instance, LandingServer, Restore
from backups.restoring import on_landing
from backups.restoring.asking import ask, ask_databases
from backups.restoring.checking import Preview, checks, free_name
from backups.restoring.choosing import databases_until, nearest_store
from backups.terms.policy_settings import Refusals
from regions.models import Store
from regions.refusals import Refusal

Taken = dict[int, set[str]]  # of each landing server the names that are given away in this go


@dataclass(frozen=True)
class Piece:
    """One thing that would be made: a server, or one `database` on a landing server."""

    database: str
    name: str
    preview: Preview


@dataclass(frozen=True)
class Prospect:
    """What would come of one instance: all of its pieces or, where anything speaks against one, none.

    `missing`: databases that have copies there, none of which reaches the moment.
    """

    instance: Instance
    pieces: Sequence[Piece] = ()
    refusals: Sequence[Refusal] = ()
    store: Store | None = None
    landing: LandingServer | None = None
    missing: Sequence[str] = ()

    @property
    def is_possible(self) -> bool:
        return not self.refusals

    @property
    def names(self) -> dict[str, str]:
        return {piece.database: piece.name for piece in self.pieces}


@dataclass(frozen=True)
class Outcome:
    """What came of one instance among several that were to be restored to one moment."""

    instance: Instance
    restores: Sequence[Restore] = ()
    refusals: Sequence[Refusal] = ()

    @property
    def saved(self) -> bool:
        return bool(self.restores)

    @property
    def restore(self) -> Restore | None:
        """Return the first of what is made; an instance has several where databases come back one by one."""
        return self.restores[0] if self.restores else None


def prospects(
    instances: Iterable[Instance], *, until: datetime | None, store: Store | None = None
) -> Iterator[Prospect]:
    """Yield what `ask_many` would come to for each; changes nothing."""
    taken: Taken = {}
    for instance in instances:
        yield _prospect(instance, until, store, taken)


def _prospect(instance: Instance, until: datetime | None, store: Store | None, taken: Taken) -> Prospect:
    if not on_landing.needs_landing(instance):
        return _alone(instance, until, store)
    try:
        store = store or nearest_store(instance)
    except Refusal:
        return _alone(instance, until, store)
    try:
        landing = on_landing.server_for(instance, store.region)
    except Refusal as refusal:
        return Prospect(instance, refusals=[refusal], store=store)
    names = _names(landing, databases_until(instance, store, until), taken.setdefault(landing.pk, set()))
    pieces = [
        Piece(one, name, checks(instance, store=store, database=one, until=until, landing=landing, name=name))
        for one, name in names.items()
    ]
    missing = [one for one in windows.databases_at(instance, store) if one not in names]
    return Prospect(instance, pieces, _against(pieces), store, landing, missing)


def _alone(instance: Instance, until: datetime | None, store: Store | None) -> Prospect:
    preview = checks(instance, store=store, until=until)
    return Prospect(instance, [Piece("", free_name(instance), preview)], preview.refusals, preview.store or store)


def _names(landing: LandingServer, databases: Iterable[str], taken: set[str]) -> dict[str, str]:
    """Return what each database is to be called there, and give these names away."""
    names = {}
    for database in databases:
        names[database] = on_landing.free_name(landing, database, taken)
        taken.add(names[database].casefold())
    return names


def _against(pieces: Sequence[Piece]) -> list[Refusal]:
    """Return what speaks against any of them, each said once: several databases fail for one server's reason."""
    found: dict[str, Refusal] = {}
    whose: dict[str, list[str]] = {}
    for piece in pieces:
        for refusal in piece.preview.refusals:
            found[str(refusal)] = refusal
            whose.setdefault(str(refusal), []).append(piece.database)
    return [one if len(whose[key]) == len(pieces) else _of(whose[key], one) for key, one in found.items()]


def _of(databases: Sequence[str], refusal: Refusal) -> Refusal:
    return replace(refusal, sentence=f"{', '.join(databases)}: {refusal.sentence}")


def ask_many(
    instances: Iterable[Instance],
    by: By,
    *,
    until: datetime | None,
    store: Store | None = None,
    names: Mapping[int, str] | None = None,
) -> list[Outcome]:
    """Ask for a restore of each instance to one moment (None: the newest of each); what came of each is told.

    `names`: instance key -> the new server's name, where somebody chose one.
    """
    batch = str(uuid.uuid4())
    return [_ask_one(one, by, until, store, (names or {}).get(one.pk), batch) for one in instances]


def _ask_one(
    instance: Instance, by: By, until: datetime | None, store: Store | None, name: str | None, batch: str
) -> Outcome:
    found = _prospect(instance, until, store, {})
    if found.refusals:
        return Outcome(instance, refusals=found.refusals)
    common = {"until": until, "batch": batch}
    try:
        if found.landing:
            common |= {"store": found.store, "landing": found.landing}
            return Outcome(instance, ask_databases(instance, by, names=found.names, **common))
        return Outcome(instance, [ask(instance, by, name=name or found.names[""], store=store, **common)])
    except Refusals as refused:
        return Outcome(instance, refusals=refused.items)
