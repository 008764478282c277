"""What OK would do, said before OK: what it costs, what runs first, what expires at once (R-4.6, R-14.3, R-15.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.utils.translation import gettext, ngettext

from backups import default_backups, planning, policies, retention
from backups.engines import engine_of, is_among
from backups.models import BackupJob, CopyPolicy, Instance
from backups.policies import Settings
from billing import estimates
from billing.estimates import Estimate, LeftToPay
from console.widgets.labels import translated
from regions import routes
from regions.models import Region, Store

MOST_ESTIMATED = 50

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
    earliest: datetime | None = None
    erased_at: datetime | None = None
    notes: list[str] = field(default_factory=list)
    asks_agreement: bool = False
    border: str = ""
    disables: bool = False
    too_many: bool = False


def of(changes: Sequence[Change], at: datetime) -> Effects:
    """Add up what the settings would do to each instance, at today's sizes and prices."""
    effects = Effects(disables=not any(wanted.enabled for _, wanted in changes), erased_at=retention.erased_at(at))
    targets = Region.objects.in_bulk({wanted.destination for _, wanted in changes if wanted.destination})
    effects.too_many = len(changes) > MOST_ESTIMATED
    begun: list[Route] = []
    for instance, wanted in changes:
        target = _target(instance, wanted, targets)
        if target and _is_new_route(policies.enabled_policy(instance), target):
            begun.append((instance.region, target))
            if not effects.too_many:
                _add_beginning(effects, instance, target, at)
        if target and not effects.too_many and _begins_logs(instance, wanted):
            _add_logs(effects, instance, target, at)
        if not effects.too_many:
            _add_end_of_logs(effects, instance, wanted)
            _add_running(effects, instance, wanted, target, at)
            _add_expiring(effects, instance, wanted, at)
    effects.asks_agreement = bool(begun)
    effects.border = _border(begun, len(changes))
    return effects


def _target(instance: Instance, wanted: Settings, targets: dict[str, Region]) -> Region | None:
    """Return where the instance's copies would go, None where they go nowhere or would be refused."""
    if not wanted.enabled or instance.released or wanted.destination == instance.region_id:
        return None
    return targets.get(wanted.destination)


def _is_new_route(now: CopyPolicy | None, target: Region) -> bool:
    return now is None or now.destination_id != target.pk


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
    return ", ".join(f"{translated(source.name)} → {translated(target.name)}" for source, target in distinct)


def _add_beginning(effects: Effects, instance: Instance, target: Region, at: datetime) -> None:
    """What the 24-hour check would begin with (R-6)."""
    effects.first = _sum(effects.first, estimates.first_transfer(instance, target, at))
    _add_startable(effects, instance, target)
    checks = planning.examine(instance, at)
    lacking = [check.database for check in checks if check.chosen is None]
    if checks and not lacking:
        return
    named = {"name": instance.name, "databases": ", ".join(filter(None, lacking[:3]))}
    if default_backups.can_take(instance):
        effects.notes.append(gettext("%(name)s: a full backup runs first.") % named)
    elif named["databases"]:
        effects.notes.append(
            gettext("%(name)s: nothing of %(databases)s can be restored until the next full backup arrives.") % named
        )
    else:
        effects.notes.append(gettext("%(name)s: nothing can be restored until the next full backup arrives.") % named)


def _add_startable(effects: Effects, instance: Instance, target: Region) -> None:
    """Warn where the backup region's workers say what they can start, and this instance's version is not among it."""
    store = Store.objects.attached().filter(region=target, role=Store.Role.PRIMARY).first()
    startable = store.capabilities.get("startable", {}).get(instance.engine) if store else None
    if startable is None or not instance.engine_version or is_among(instance.engine_version, startable):
        return
    named = {
        "name": instance.name,
        "region": translated(target.name),
        "server": f"{engine_of(instance.engine).capabilities.label} {instance.engine_version}",
        "versions": ", ".join(startable) or gettext("none"),
    }
    effects.notes.append(
        gettext(
            "%(name)s: %(region)s cannot start a %(server)s yet (versions there: %(versions)s). Copies arrive all the"
            " same; install that version before one has to be restored there."
        )
        % named
    )


def _add_end_of_logs(effects: Effects, instance: Instance, wanted: Settings) -> None:
    now = policies.enabled_policy(instance)
    if now is not None and now.logs_enabled and not wanted.logs_wanted and not instance.released:
        sentence = gettext(
            "%(name)s: logs are no longer copied; those on their way arrive, and all stay until they expire."
        )
        if not wanted.enabled:
            sentence = gettext("%(name)s: log backup is turned off too.")
        effects.notes.append(sentence % {"name": instance.name})


def _begins_logs(instance: Instance, wanted: Settings) -> bool:
    now = policies.enabled_policy(instance)
    is_on = now is not None and now.logs_enabled and now.destination_id == wanted.destination
    return wanted.logs_wanted and not is_on and policies.why_no_logs(instance) is None


def _add_logs(effects: Effects, instance: Instance, target: Region, at: datetime) -> None:
    """Which logs would be copied first, and what is done where none follow a backup (R-8.2, R-9.1, R-9.2)."""
    found = planning.examine_logs(instance, at)
    count = sum(len(beginning.logs) for beginning in found)
    named = {"name": instance.name, "n": count}
    if count:
        effects.first = _sum(effects.first, estimates.first_logs(instance, target, at))
        sentence = ngettext(
            "%(name)s: %(n)s log file of the last 24 hours is copied first.",
            "%(name)s: %(n)s log files of the last 24 hours are copied first, oldest first.",
            count,
        )
        effects.notes.append(sentence % named)
    if not found or not all(beginning.logs for beginning in found):
        effects.notes.append(_without_logs(instance) % named)


def _without_logs(instance: Instance) -> str:
    """Say what happens where no continuous logs follow a backup of the last 24 hours."""
    if not default_backups.can_take(instance):
        return gettext(
            "%(name)s: no log follows a backup of the last 24 hours; logs lead on from the next full backup."
        )
    if default_backups.side_for_logs(instance) == BackupJob.On.SECONDARY:
        return gettext(
            "%(name)s: if its logs follow no backup, one is taken on the secondary; the primary is left alone."
        )
    return gettext("%(name)s: if its logs follow no backup, one is taken on the primary, for it has no secondary.")


def _add_running(effects: Effects, instance: Instance, wanted: Settings, target: Region | None, at: datetime) -> None:
    if target:
        storage, traffic = estimates.running(instance, target, wanted.retention_days, at, logs=wanted.logs_wanted)
        effects.storage, effects.traffic = _sum(effects.storage, storage), _sum(effects.traffic, traffic)
    if target or not wanted.enabled:
        _add_change(effects, instance, wanted, target, at)
    if target:
        return
    if not wanted.enabled:
        effects.left = _sum_left(effects.left, estimates.left_to_pay(instance, at, wanted.retention_days))
        effects.left_with_7 = _sum_left(
            effects.left_with_7, estimates.left_to_pay(instance, at, policies.SHORTEST_DAYS)
        )


def _add_change(effects: Effects, instance: Instance, wanted: Settings, target: Region | None, at: datetime) -> None:
    """How much more, or less, a month costs once full than it does, once full, as it is set today (R-4.6)."""
    now = policies.enabled_policy(instance)
    new = (target, wanted.retention_days, wanted.logs_wanted) if target else None
    old = (now.destination, now.retention_days, now.logs_enabled) if now else None
    change = estimates.change(instance, old, new, at)
    effects.change = change if effects.change is None else _sum_known(effects.change, change)


def _sum_known(total: Estimate, one: Estimate) -> Estimate:
    """A difference of which a part is not known is not known: unlike a sum, it has no lower bound."""
    if total.amount is None or one.amount is None:
        return Estimate(None, None, _said(total, one))
    return Estimate(None, total.amount + one.amount, _said(total, one))


def _add_expiring(effects: Effects, instance: Instance, wanted: Settings, at: datetime) -> None:
    """What a shorter retention expires at once; the restorable window then begins at `earliest`."""
    policy = policies.latest_policy(instance)
    if policy is None or wanted.retention_days >= policy.retention_days:
        return
    found = planning.retention.shortening(instance, wanted.retention_days, at)
    effects.expiring_sets += found["sets"]
    effects.expiring_bytes += found["bytes"]
    effects.all_sets += found["all_sets"]
    effects.all_bytes += found["all_bytes"]
    earliest = [moment for moment in (effects.earliest, found["earliest"]) if moment]
    effects.earliest = max(earliest, default=None)


def expiring(changes: Sequence[Change], at: datetime) -> int:
    """Count the sets that shorter retentions would expire at once."""
    effects = Effects()
    for instance, wanted in changes:
        _add_expiring(effects, instance, wanted, at)
    return effects.expiring_sets


def _sum(total: Estimate | None, one: Estimate) -> Estimate:
    if total is None:
        return one
    return Estimate(_known(total.bytes, one.bytes), _known(total.amount, one.amount), _said(total, one))


def _sum_left(total: LeftToPay | None, one: LeftToPay) -> LeftToPay:
    if total is None:
        return one
    until = max(filter(None, [total.until, one.until]), default=None)
    return LeftToPay(_known(total.amount, one.amount), until, _said(total, one))


def _known(*parts: int | Decimal | None) -> int | Decimal | None:
    """Add what is known; what is not known yet makes the sum a lower bound, and its sentence says so."""
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def _said(*each: Estimate | LeftToPay) -> str:
    return next((one.sentence for one in each if one.sentence), "")


def saved_sentence(changes: Sequence[Change], before: Mapping[int, Settings], expired: int, at: datetime) -> str:
    """Return what the toast says once the settings are saved: whether copies are made, and what changed by it.

    `before`: the settings each instance had; `expired`: how many sets a shorter retention has just expired.
    """
    said = [_status_sentence(changes), _retention_sentence(changes, before), _logs_sentence(changes, before)]
    if expired:
        sentence = ngettext(
            "%(n)s backup set expires; undo until %(until)s UTC.",
            "%(n)s backup sets expire; undo until %(until)s UTC.",
            expired,
        )
        said.append(sentence % {"n": expired, "until": f"{retention.erased_at(at):%Y-%m-%d %H:%M}"})
    return " ".join(filter(None, said))


def _status_sentence(changes: Sequence[Change]) -> str:
    states = {wanted.enabled for _, wanted in changes}
    if len(states) != 1:
        return ngettext("Saved for %(n)s instance.", "Saved for %(n)s instances.", len(changes)) % {"n": len(changes)}
    word = gettext("on") if states == {True} else gettext("off")
    if len(changes) == 1:
        named = {"name": changes[0][0].name, "word": word}
        return gettext("Saved: cross-region backup of %(name)s is %(word)s.") % named
    sentence = ngettext(
        "Saved for %(n)s instance: cross-region backup is %(word)s.",
        "Saved for %(n)s instances: cross-region backup is %(word)s.",
        len(changes),
    )
    return sentence % {"n": len(changes), "word": word}


def _logs_sentence(changes: Sequence[Change], before: Mapping[int, Settings]) -> str:
    """Say that log backup is on, or off, now, where that is new and one sentence for all."""
    new = {wanted.logs_wanted for instance, wanted in changes if before[instance.pk].logs_enabled != wanted.logs_wanted}
    if len(new) != 1:
        return ""
    return gettext("Log backup is on.") if new == {True} else gettext("Log backup is off.")


def _retention_sentence(changes: Sequence[Change], before: Mapping[int, Settings]) -> str:
    """Say how the retention of settings that were there already changed, where that is one sentence for all."""
    was = {(before[instance.pk].retention_days, wanted.retention_days) for instance, wanted in changes}
    if len(was) != 1 or not all(before[instance.pk].expected for instance, _ in changes):
        return ""
    old, new = was.pop()
    return "" if old == new else gettext("Retention %(old)s → %(new)s days.") % {"old": old, "new": new}
