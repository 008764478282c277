"""What OK would do, said before OK: what it costs, what runs first, what expires at once (R-4.6, R-14.3, R-15.5).

All of it is read for all the instances at once: a dialog may stand for as many as one OK takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from django.utils.translation import gettext, gettext_noop, ngettext

from backups import default_backups, policies
from backups.copying import planning
from backups.copying.planning import LogBeginning
from backups.engines import engine_of, is_among
from backups.keeping import retention, shortening
from backups.keeping.shortening import Shortened
from backups.models import BackupJob, CopyPolicy, Edition, Instance
from backups.policies import Settings
from backups.servers import standings
from billing import estimates
from billing.estimates import Estimate, LeftToPay, Terms
from console.widgets import words
from console.widgets.labels import translated
from console.widgets.notes import MOST_NAMED, Notes
from regions import routes
from regions.models import Region, Store

Change = tuple[Instance, Settings]
Route = tuple[Region, Region]


@dataclass
class Effects:
    """One number of each kind for all the instances together; None: not known, and a sentence says why."""

    storage: Estimate | None = None
    traffic: Estimate | None = None
    first: Estimate | None = None
    change: Estimate | None = None
    left: LeftToPay | None = None
    left_with_7: LeftToPay | None = None
    expiring_sets: int = 0
    expiring_bytes: int = 0
    all_sets: int = 0
    all_bytes: int = 0
    erased_at: datetime | None = None
    edges: list[tuple[str, datetime]] = field(default_factory=list)  # nothing before can be restored then
    notes: Notes = field(default_factory=Notes)
    reckoned: Notes = field(default_factory=Notes)  # what each sum comes from, and what it leaves out
    unknown: Notes = field(default_factory=Notes)  # whose cost is in no sum
    remarked: set[tuple[int, str]] = field(default_factory=set)
    asks_agreement: bool = False
    border: str = ""
    disables: bool = False

    @property
    def window(self) -> str:
        """Say how the restorable windows move: of each instance, or in a span where they are many."""
        edges = sorted(self.edges, key=lambda edge: edge[1])
        if not edges:
            return ""
        if edges[0][1] == edges[-1][1]:
            return gettext("Nothing before %(edge)s can be restored.") % {"edge": minute(edges[0][1])}
        if len(edges) <= MOST_NAMED:
            return gettext("Nothing can be restored from before: %(edges)s.") % {"edges": words.listed(map(_of, edges))}
        first, last = minute(edges[0][1]), minute(edges[-1][1])
        sentence = gettext("The restorable windows of %(n)s instances then begin between %(first)s and %(last)s.")
        return sentence % {"n": len(edges), "first": first, "last": last}

    @property
    def windows(self) -> list[str]:
        return [_of(edge) for edge in self.edges] if len(self.edges) > MOST_NAMED else []


def _of(edge: tuple[str, datetime]) -> str:
    name, at = edge
    return f"{name} {minute(at)}"


def minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True)
class Step:
    """One instance on its way from its latest policy to the settings wanted."""

    instance: Instance
    wanted: Settings
    latest: CopyPolicy | None
    asked: Region | None  # the region that was chosen for it

    @property
    def refused(self) -> bool:
        """Whether OK refuses this one for where it lies; of many, the others are saved (R-2.2, R-10.2)."""
        copies = self.wanted.enabled and not self.instance.released and self.asked is not None
        return copies and routes.why_not(self.instance.region, self.asked) is not None

    @property
    def target(self) -> Region | None:
        """Where its copies would go; None where they go nowhere, or would be refused."""
        if not self.wanted.enabled or self.instance.released or self.refused:
            return None
        return self.asked

    @property
    def now(self) -> CopyPolicy | None:
        return self.latest if self.latest and self.latest.enabled else None

    @property
    def only_ages(self) -> bool:
        """Whether nothing new comes: what is left to pay depends on the retention alone (R-4.6, R-14.2, R-15.5)."""
        return not self.wanted.enabled or self.instance.released

    @property
    def is_new_route(self) -> bool:
        return self.target is not None and (self.now is None or self.now.destination_id != self.target.pk)

    @property
    def begins_logs(self) -> bool:
        is_on = self.now is not None and self.now.logs_enabled and self.now.destination_id == self.wanted.destination
        return bool(self.target and self.wanted.logs_wanted and not is_on and not policies.why_no_logs(self.instance))

    @property
    def ends_logs(self) -> bool:
        is_on = self.now is not None and self.now.logs_enabled
        return is_on and not self.wanted.logs_wanted and not self.instance.released

    @property
    def shortens(self) -> bool:
        return self.latest is not None and self.wanted.retention_days < self.latest.retention_days

    @property
    def ends(self) -> bool:
        """Whether what is on is turned off, or goes elsewhere: a last good copy may be kept no longer then."""
        if self.now is None or self.instance.released:
            return False
        return self.is_new_route or not self.wanted.enabled

    @property
    def terms_now(self) -> Terms | None:
        now = self.now
        return Terms(now.destination, now.retention_days, now.logs_enabled) if now else None

    @property
    def terms_then(self) -> Terms | None:
        return Terms(self.target, self.wanted.retention_days, self.wanted.logs_wanted) if self.target else None


def of(changes: Sequence[Change], at: datetime) -> Effects:
    """Add up what the settings would do to each instance, at today's sizes and prices."""
    steps = _steps(changes)
    effects = Effects(disables=not any(wanted.enabled for _, wanted in changes), erased_at=retention.erased_at(at))
    begun = [step for step in steps if step.is_new_route]
    _add_refused(effects, [step for step in steps if step.refused])
    _add_beginnings(effects, begun, at)
    _add_logs(effects, [step for step in steps if step.begins_logs], at)
    _add_ends_of_logs(effects, [step for step in steps if step.ends_logs])
    _add_months(effects, steps, at)
    _add_left(effects, [step for step in steps if step.only_ages], at)
    _add_expiring(effects, steps, at)
    effects.asks_agreement = bool(begun)
    effects.border = _border([(step.instance.region, step.target) for step in begun], len(changes))
    return effects


def _steps(changes: Sequence[Change]) -> list[Step]:
    latest = policies.latest_policies(instance for instance, _ in changes)
    regions = Region.objects.in_bulk({wanted.destination for _, wanted in changes if wanted.destination})
    return [
        Step(instance, wanted, latest.get(instance.pk), regions.get(wanted.destination)) for instance, wanted in changes
    ]


def _border(begun: Sequence[Route], of_all: int) -> str:
    """Say which of the routes that begin cross a border: those that do come first."""
    if not begun:
        return ""
    if len(set(begun)) == 1 and len(begun) == of_all:
        return _border_of(*begun[0])
    crossing = [route for route in begun if routes.crosses_border(*route)]
    inside = [route for route in begun if not routes.crosses_border(*route)]
    said = []
    if crossing:
        sentence = gettext("Crosses a border: %(routes)s (%(n)s of %(all)s instances).")
        said.append(sentence % {"routes": _arrows(crossing), "n": len(crossing), "all": of_all})
    if inside:
        sentence = gettext("Crosses no border: %(routes)s (%(n)s of %(all)s instances).")
        said.append(sentence % {"routes": _arrows(inside), "n": len(inside), "all": of_all})
    return " ".join(said)


def _border_of(source: Region, destination: Region) -> str:
    names = {"source": translated(source.name), "destination": translated(destination.name)}
    if routes.crosses_border(source, destination):
        return gettext("From %(source)s to %(destination)s crosses a border.") % names
    return gettext("From %(source)s to %(destination)s crosses no border.") % names


def _arrows(begun: Sequence[Route]) -> str:
    distinct = dict.fromkeys(begun)
    return words.listed(f"{translated(source.name)} → {translated(target.name)}" for source, target in distinct)


# ---- where none may go

REFUSED = gettext_noop("Backups of %(source)s may not go to %(region)s. OK refuses: %(name)s.")


def _add_refused(effects: Effects, refused: Sequence[Step]) -> None:
    """Their costs are in no sum, so the dialog says why before OK."""
    for step in refused:
        places = {"source": translated(step.instance.region.name), "region": translated(step.asked.name)}
        effects.notes.say(REFUSED, step.instance.name, **places)


# ---- what runs first

RUNS_FIRST = gettext_noop(
    "%(name)s: a full backup runs first; a default backup that already runs is waited for, up to 6 hours, and used"
    " instead."
)
WAITS = gettext_noop("Nothing can be restored until the next full backup arrives: %(name)s.")
CANNOT_START = gettext_noop(
    "%(name)s: %(region)s cannot start a %(server)s yet (versions there: %(versions)s). Copies arrive all the same;"
    " install that version before one has to be restored there."
)


def _add_beginnings(effects: Effects, begun: Sequence[Step], at: datetime) -> None:
    """What the 24-hour check would begin with: each database without a valid set is named (R-6.1, R-6.2)."""
    if not begun:
        return
    found = planning.examine_all([step.instance for step in begun], at)
    transfers = estimates.first_transfers({step.instance: step.target for step in begun}, found, at)
    startable = _startable({step.target for step in begun})
    for step in begun:
        _warn_of_versions(effects, step, startable.get(step.target.pk, {}))
        checks, name = found[step.instance.pk], step.instance.name
        lacking = [check.database for check in checks if check.chosen is None]
        if lacking or not checks:
            takes = default_backups.can_take(step.instance)
            effects.notes.say(RUNS_FIRST if takes else WAITS, name, list(filter(None, lacking)))
        effects.first = _sum(effects.first, transfers[step.instance.pk])
        _reckon(effects, step, transfers[step.instance.pk])


def _startable(regions: set[Region]) -> dict[str, dict[str, list[str]]]:
    """Return which versions of which engine the workers of each region say that they can start."""
    stores = Store.objects.attached().filter(region__in=regions, role=Store.Role.PRIMARY).order_by("-pk")
    return {store.region_id: store.capabilities.get("startable", {}) for store in stores}


def _warn_of_versions(effects: Effects, step: Step, startable: Mapping[str, list[str]]) -> None:
    instance, there = step.instance, startable.get(step.instance.engine)
    if there is None or not instance.engine_version or is_among(instance.engine_version, there):
        return
    server = f"{engine_of(instance.engine).capabilities.label} {instance.engine_version}"
    named = {
        "region": translated(step.target.name),
        "server": server,
        "versions": words.listed(there) or gettext("none"),
    }
    effects.notes.say(CANNOT_START, instance.name, **named)


# ---- logs

LOGS_STOP = gettext_noop(
    "%(name)s: logs are no longer copied; those on their way arrive, and all stay until they expire."
)
LOGS_GO_TOO = gettext_noop("%(name)s: log backup is turned off too.")
LOGS_LATER = gettext_noop(
    "%(name)s: no log follows a backup of the last 24 hours; logs lead on from the next full backup."
)
ON_SECONDARY = gettext_noop(
    "%(name)s: if its logs follow no backup, one is taken on the secondary; the primary is left alone."
)
ON_SECONDARY_TOO = gettext_noop("%(name)s: if its logs follow no backup, one is taken on the secondary.")
NO_SECONDARY = gettext_noop(
    "%(name)s: if its logs follow no backup, one is taken on the primary, for it has no secondary."
)
NONE_NAMED = gettext_noop(
    "%(name)s: if its logs follow no backup, one is taken on the primary, for no secondary of it was entered here."
)
IN_NO_GROUP = gettext_noop(
    "%(name)s: if its logs follow no backup, one is taken on the primary, for it is in no availability group."
)
NOT_LOOKED_YET = gettext_noop(
    "%(name)s: if logs follow no backup, one is taken: of a database in an availability group on the secondary, of any"
    " other on the primary."
)


def _add_logs(effects: Effects, steps: Sequence[Step], at: datetime) -> None:
    """Which logs would be copied first, and what is done where none follow a backup (R-8.2, R-9.1, R-9.2)."""
    if not steps:
        return
    instances = [step.instance for step in steps]
    found, in_groups = planning.examine_logs_all(instances, at), default_backups.databases_in_groups(instances)
    transfers = estimates.first_logs({step.instance: step.target for step in steps}, found, at)
    for step in steps:
        beginnings = found[step.instance.pk]
        if count := sum(len(beginning.logs) for beginning in beginnings):
            effects.first = _sum(effects.first, transfers[step.instance.pk])
            _reckon(effects, step, transfers[step.instance.pk])
            effects.notes.say(_logs_are_there, step.instance.name, n=count)
        if not beginnings or not all(beginning.logs for beginning in beginnings):
            _say_without_logs(effects.notes, step.instance, beginnings, in_groups)


def _logs_are_there(count: int) -> str:
    return ngettext(
        "%(name)s: %(n)s log file of the last 24 hours is copied first.",
        "%(name)s: %(n)s log files of the last 24 hours are copied first, oldest first.",
        count,
    )


def _say_without_logs(
    notes: Notes, instance: Instance, beginnings: Sequence[LogBeginning], in_groups: Mapping[int, set[str]]
) -> None:
    """Say what happens where no continuous logs follow a backup of the last 24 hours, of each database by itself."""
    lacking = [beginning.database for beginning in beginnings if not beginning.logs]
    if not default_backups.can_take(instance):
        notes.say(LOGS_LATER, instance.name, list(filter(None, lacking)))
        return
    sides: dict[str, list[str]] = {}
    for database in lacking or [""]:
        side = default_backups.side_for_logs(instance, database, in_groups)
        sides.setdefault(side, []).append(database)
    for side, databases in sides.items():
        sentence = _said_of_side(instance, side, is_only=len(sides) == 1, is_known=bool(lacking))
        notes.say(sentence, instance.name, list(filter(None, databases)))


def _said_of_side(instance: Instance, side: str, *, is_only: bool, is_known: bool) -> str:
    """Return where a backup is taken that logs can follow; `is_known` False: nobody knows the databases yet."""
    if default_backups.side_for_logs(instance) == BackupJob.On.PRIMARY:
        return NO_SECONDARY if instance.edition == Edition.BASIC else NONE_NAMED
    if not is_known and standings.are_told(instance):
        return NOT_LOOKED_YET
    if side == BackupJob.On.PRIMARY:
        return IN_NO_GROUP
    return ON_SECONDARY if is_only else ON_SECONDARY_TOO


def _add_ends_of_logs(effects: Effects, steps: Sequence[Step]) -> None:
    for step in steps:
        effects.notes.say(LOGS_STOP if step.wanted.enabled else LOGS_GO_TOO, step.instance.name)


# ---- what it costs


def _add_months(effects: Effects, steps: Sequence[Step], at: datetime) -> None:
    """How much a month costs once full, and how much more, or less, that is than as it is set today."""
    terms = [(step.instance, one) for step in steps for one in (step.terms_now, step.terms_then) if one]
    months = estimates.Months(terms, at)
    for step in steps:
        if then := step.terms_then:
            storage, traffic = months.storage(step.instance, then), months.traffic(step.instance, then)
            effects.storage, effects.traffic = _sum(effects.storage, storage), _sum(effects.traffic, traffic)
            _reckon(effects, step, storage)
            if traffic.bytes is not None and traffic.amount is None:
                _reckon(effects, step, Estimate(None, None, gettext(estimates.NO_PRICE)))
        if step.target or not step.wanted.enabled:
            change = months.change(step.instance, step.terms_now, step.terms_then)
            effects.change = change if effects.change is None else _sum_known(effects.change, change)


def _add_left(effects: Effects, steps: Sequence[Step], at: datetime) -> None:
    """What stays to be paid where nothing new comes, and what it would be with 7 days (R-15.5)."""
    if not steps:
        return
    own = {step.instance.pk: step.wanted.retention_days for step in steps}
    left = estimates.left_to_pay_of_all(own, at, own)
    left_with_7 = estimates.left_to_pay_of_all(own, at, dict.fromkeys(own, policies.SHORTEST_DAYS))
    for step in steps:
        effects.left = _sum_left(effects.left, left[step.instance.pk])
        effects.left_with_7 = _sum_left(effects.left_with_7, left_with_7[step.instance.pk])
        _reckon(effects, step, left[step.instance.pk])


REMARK = gettext_noop("%(name)s: %(sentence)s")


def _reckon(effects: Effects, step: Step, of: Estimate | LeftToPay) -> None:
    """Keep what an estimate says of itself: how it was reckoned, and what it leaves out."""
    said = step.instance.pk, of.sentence
    if of.sentence and said not in effects.remarked:
        effects.remarked.add(said)
        notes = effects.unknown if of.amount is None else effects.reckoned
        notes.say(REMARK, step.instance.name, sentence=of.sentence)


def _sum(total: Estimate | None, one: Estimate) -> Estimate:
    if total is None:
        return one
    return Estimate(_known(total.bytes, one.bytes), _known(total.amount, one.amount))


def _sum_known(total: Estimate, one: Estimate) -> Estimate:
    """A difference of which a part is not known is not known: unlike a sum, it has no lower bound."""
    if total.amount is None or one.amount is None:
        return Estimate(None, None)
    return Estimate(None, total.amount + one.amount)


def _sum_left(total: LeftToPay | None, one: LeftToPay) -> LeftToPay:
    if total is None:
        return one
    until = max(filter(None, [total.until, one.until]), default=None)
    return LeftToPay(_known(total.amount, one.amount), until)


def _known(*parts: int | Decimal | None) -> int | Decimal | None:
    """Add what is known; what is not known yet makes the sum a lower bound, and its sentence says so."""
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


# ---- what expires at once

NOTHING_LEFT = gettext_noop("Nothing that was copied until now can be restored any more: %(name)s.")


def _add_expiring(effects: Effects, steps: Sequence[Step], at: datetime) -> None:
    """What the settings expire at once, and where the restorable window of each instance begins then."""
    shortened = _shortened(steps, at)
    for step in steps:
        found = shortened.get(step.instance.pk)
        if found is None:
            continue
        effects.expiring_sets += found.sets
        effects.expiring_bytes += found.bytes
        effects.all_sets += found.all_sets
        effects.all_bytes += found.all_bytes
        if found.sets and found.earliest:
            effects.edges.append((step.instance.name, found.earliest))
        elif found.sets:
            effects.notes.say(NOTHING_LEFT, step.instance.name)


def _shortened(steps: Sequence[Step], at: datetime) -> dict[int, Shortened]:
    ending = [step.instance.pk for step in steps if step.ends and not step.shortens]
    at_stake = shortening.keeping_past(ending) if ending else set()
    wanted = {step.instance.pk: step.wanted for step in steps if step.shortens or step.instance.pk in at_stake}
    return shortening.of_all(wanted, at)


def shortened(instance: Instance, wanted: Settings, at: datetime) -> Shortened:
    """Return what the settings would expire at once of one instance."""
    return _shortened(_steps([(instance, wanted)]), at).get(instance.pk, Shortened())


def expiring(changes: Sequence[Change], at: datetime) -> int:
    """Count the sets that the settings would expire at once."""
    return sum(found.sets for found in _shortened(_steps(changes), at).values())
