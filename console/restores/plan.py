"""What a restore would do, said before OK (R-4.6): each check a line, the sets in order, bytes, time and charge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby

from django.utils.translation import gettext, ngettext

from backups.models import BackupSet, Kind, RestoreSource
from backups.restoring import Preview, Prospect, bytes_of
from billing.amounts import estimated, traffic_cost
from billing.models import ItemCode
from billing.prices import price_of
from console.restores.choice import said
from console.restores.forms import BESIDE, NEW, ORIGINAL
from console.widgets import words
from console.widgets.badges import BAD, OK, WARN, Look
from regions.models import Region
from regions.refusals import Refusal

CHAIN_FIELDS = frozenset({"moment", "until", "set", "database"})
NO_ROOM = "NoSpace"


@dataclass(frozen=True)
class Line:
    """One check: what it says of the plan, and what that means."""

    look: Look
    consequence: str


@dataclass(frozen=True)
class Step:
    """One set that is read, or several logs in a row."""

    set: BackupSet
    last: BackupSet
    count: int
    size_bytes: int

    @property
    def is_logs(self) -> bool:
        return self.set.kind == Kind.LOG


@dataclass(frozen=True)
class Also:
    """Another database that comes back in the same go."""

    database: str
    name: str
    preview: Preview


@dataclass(frozen=True)
class Plan:
    """What a look at the wish came to."""

    preview: Preview
    lines: list[Line]
    steps: list[Step]
    charge: Decimal | None
    others: Sequence[Also] = ()

    @property
    def is_possible(self) -> bool:
        return not any(one.refusals for one in (self.preview, *(other.preview for other in self.others)))

    @property
    def bytes_read(self) -> int:
        return sum(one.bytes_read for one in (self.preview, *(other.preview for other in self.others)))


def plan_of(preview: Preview, region: Region, at: datetime, *, target: str = NEW, others: Sequence[Also] = ()) -> Plan:
    lines = [*lines_of(preview, target), *(line_of(other) for other in others)]
    read = sum(one.bytes_read for one in (preview, *(other.preview for other in others)))
    return Plan(preview, lines, steps_of(preview.sources), charge_inside(region, read, at), others)


def line_of(other: Also) -> Line:
    """Return what would become of another database in one line."""
    named = gettext("%(database)s as %(name)s") % {"database": other.database, "name": other.name}
    if refusals := other.preview.refusals:
        return Line(Look(BAD, "circle-x", named), " ".join(map(str, refusals)))
    return Line(Look(OK, "check", named), several_in_words(other.preview))


def charge_inside(region: Region, size_bytes: int, at: datetime) -> Decimal | None:
    """Return what reading inside a region costs, None where nothing is charged for it, as usual (R-4.2)."""
    price = price_of(ItemCode.TRAFFIC, region, region, at=at)
    return estimated(traffic_cost(size_bytes, price.amount)) if price else None


# ---- the checks


def lines_of(preview: Preview, target: str = NEW) -> list[Line]:
    """Return a line for each thing that was looked at: what speaks against the restore first said where it belongs."""
    against = {"chain": [], "room": [], "typed": [], "name": [], "other": []}
    for refusal in preview.refusals:
        against[_about(refusal)].append(refusal)
    lines = [
        *_lines(against["chain"], gettext("Cannot be brought back"), _chain_holds(preview)),
        *_lines(against["room"], gettext("No room"), _room_is_there(preview)),
        *_lines(against["typed"], gettext("Name not typed in"), []),
        *(_second_person() if target == ORIGINAL else _about_the_name(against["name"])),
        *_lines(against["other"], gettext("Cannot be done"), _nothing_else(preview, target)),
    ]
    return lines + [Line(Look(WARN, "triangle-alert", gettext("Mind")), warning) for warning in preview.warnings]


def _about_the_name(refusals: Sequence[Refusal]) -> list[Line]:
    return _lines(refusals, gettext("Name is taken"), [_good(gettext("The name is free"))])


def _second_person() -> list[Line]:
    waits = Look(WARN, "hourglass", gettext("A second person"))
    return [Line(waits, gettext("an approver who did not ask has to agree before anything begins"))]


def _about(refusal: Refusal) -> str:
    if refusal.code == NO_ROOM:
        return "room"
    if refusal.field == "typed":
        return "typed"
    if refusal.field in ("name", "called"):
        return "name"
    return "chain" if refusal.field in CHAIN_FIELDS else "other"


def _lines(refusals: Sequence[Refusal], word: str, good: list[Line]) -> list[Line]:
    return [Line(Look(BAD, "circle-x", word), str(refusal)) for refusal in refusals] or good


def _good(word: str, consequence: str = "") -> Line:
    return Line(Look(OK, "check", word), consequence)


def _chain_holds(preview: Preview) -> list[Line]:
    if not preview.sources:
        return []
    sets = [_set_of(source) for source in preview.sources]
    logs = sum(found.kind == Kind.LOG for found in sets)
    parts = [ngettext("%(n)s backup set", "%(n)s backup sets", len(sets) - logs) % {"n": len(sets) - logs}]
    if logs:
        parts.append(ngettext("%(n)s log without a gap", "%(n)s logs without a gap", logs) % {"n": logs})
    return [_good(gettext("All parts are there"), " · ".join(parts))]


def _room_is_there(preview: Preview) -> list[Line]:
    if not preview.sources:
        return []
    if preview.bytes_free is None:
        needed = gettext("%(needed)s needed") % {"needed": words.in_words(preview.bytes_needed)}
        return [Line(Look(WARN, "triangle-alert", gettext("Room not known")), needed)]
    known = {"needed": words.in_words(preview.bytes_needed), "free": words.in_words(preview.bytes_free)}
    return [_good(gettext("Room enough"), gettext("%(needed)s needed, %(free)s free") % known)]


def _nothing_else(preview: Preview, target: str) -> list[Line]:
    if not preview.sources:
        return []
    if target == BESIDE:
        told = gettext("as far as is known here: its server is asked before anything is written")
        return [_good(gettext("Engine and version fit"), told)]
    if preview.landing:
        told = gettext("as %(name)s was last looked at") % {"name": preview.landing.name}
        return [_good(gettext("Version and certificates fit"), told)]
    return [_good(gettext("Engine and version fit"), gettext("a server of this version can be started there"))]


# ---- the sets


def steps_of(sources: Iterable[object]) -> list[Step]:
    """Return the sets in the order of applying them, logs in a row as one."""
    steps = []
    for is_log, run in groupby(sources, key=lambda source: _set_of(source).kind == Kind.LOG):
        parts = list(run)
        sets, sizes = [_set_of(part) for part in parts], [bytes_of(_lying(part)) for part in parts]
        if is_log:
            steps.append(Step(sets[0], sets[-1], len(sets), sum(sizes)))
        else:
            steps += [Step(found, found, 1, size) for found, size in zip(sets, sizes, strict=True)]
    return steps


def _set_of(source: object) -> BackupSet:
    """Return the set behind a source: a copy's, or the set itself at its own source."""
    return getattr(source, "set", source)


def _lying(source: object) -> object:
    """Return what is read: a restore keeps the copy beside its set, or the set alone."""
    return (source.copy or source.set) if isinstance(source, RestoreSource) else source


def several_in_words(preview: Preview) -> str:
    """Return in one line what would become of one instance of several."""
    reached = said(preview.restored_until) if preview.restored_until else gettext("the newest moment")
    known = {"moment": reached, "bytes": words.in_words(preview.bytes_read)}
    if preview.seconds_expected is None:
        return gettext("as of %(moment)s · %(bytes)s") % known
    known["time"] = words.expected(preview.seconds_expected)
    return gettext("as of %(moment)s · %(bytes)s · %(time)s") % known


def prospect_in_words(found: Prospect) -> str:
    """Return in one line what would become of one instance of several, database by database where it has them."""
    if not found.is_possible:
        return ""
    if found.landing is None:
        return several_in_words(found.pieces[0].preview)
    parts = [gettext("on %(server)s") % {"server": found.landing.name}]
    for piece in found.pieces:
        known = {"database": piece.database, "name": piece.name, "how": several_in_words(piece.preview)}
        parts.append(gettext("%(database)s as %(name)s, %(how)s") % known)
    if found.missing:
        parts.append(
            gettext("without %(databases)s: no copy of it reaches there") % {"databases": words.listed(found.missing)}
        )
    return "; ".join(parts)
