"""What the settings of an instance are, what is wanted instead, and everything that speaks against it (R-12, R-14).

Nothing here changes anything; `policies.apply` does, after asking `check`.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass, replace

from django.db.models import F, QuerySet

from backups.engines import engine_of
from backups.events import By
from backups.models import Arrival, CopyPolicy, Event, Instance
from backups.terms import agreements, eligibility
from regions import routes
from regions.models import Region, Store
from regions.refusals import Refusal

SHORTEST_DAYS, LONGEST_DAYS = 7, 1825


class Refusals(Exception):
    """Everything that speaks against a change, each beside its field."""

    def __init__(self, items: Sequence[Refusal]) -> None:
        super().__init__("; ".join(str(item) for item in items))
        self.items = list(items)


@dataclass(frozen=True)
class Settings:
    """What the dialog of R-12 says. `expected`: the version the form was filled in from ("" does not ask).

    `logs_enabled` counts only while `enabled` does: disabling data turns logs off (R-8.1).
    """

    enabled: bool
    retention_days: int = SHORTEST_DAYS
    destination: str = ""
    logs_enabled: bool = False
    agreed: bool = False
    expected: str = ""
    language: str = "en"

    @property
    def logs_wanted(self) -> bool:
        return self.enabled and self.logs_enabled


# ---- reading


def enabled_policy(instance: Instance) -> CopyPolicy | None:
    policies = CopyPolicy.objects.cross_region().enabled().filter(instance=instance)
    return policies.select_related("destination", "source_region").first()


def latest_policy(instance: Instance) -> CopyPolicy | None:
    """Return the enabled policy, else the one that ended last, None when there never was one."""
    return latest_policies([instance]).get(instance.pk)


def latest_policies(instances: Iterable[Instance]) -> dict[int, CopyPolicy]:
    """Return the same of many, by the instance's key, in one statement; those that never had one are left out."""
    policies = CopyPolicy.objects.cross_region().filter(instance__in=[instance.pk for instance in instances])
    newest = policies.order_by("instance_id", "-enabled", F("ended_at").desc(nulls_last=True), "-pk")
    rows = newest.distinct("instance_id").select_related("destination", "source_region")
    return {row.instance_id: row for row in rows}


def current_settings(instance: Instance) -> Settings:
    return settings_under(latest_policy(instance))


def settings_under(policy: CopyPolicy | None) -> Settings:
    """Return the settings of an instance whose latest policy this is."""
    if policy is None:
        return Settings(enabled=False)
    return Settings(
        enabled=policy.enabled,
        retention_days=policy.retention_days,
        destination=policy.destination_id,
        logs_enabled=policy.logs_enabled,
        expected=policy.version,
    )


def version_of(instance: Instance) -> str:
    """Return the token a form carries, so that a second person's save is noticed (R-14.5)."""
    return versions_of([instance])[instance.pk]


def versions_of(instances: Collection[Instance]) -> dict[int, str]:
    """Return the same of many, by the instance's key."""
    latest = latest_policies(instances)
    return {one.pk: latest[one.pk].version if one.pk in latest else "none" for one in instances}


def destinations_of(region: Region) -> list[tuple[Region, Refusal | None]]:
    """Return every shown region with the reason why it cannot be the destination, None where it can (R-10.2)."""
    healthy = set(healthy_stores().values_list("region", flat=True))
    return destinations_among(region, Region.objects.shown(), healthy)


def healthy_stores() -> QuerySet[Store]:
    """Return the stores that copies may go to."""
    return Store.objects.attached().filter(state="ok", role="primary")


def destinations_among(
    region: Region, shown: Iterable[Region], healthy: Container[str]
) -> list[tuple[Region, Refusal | None]]:
    found = []
    for other in shown:
        if other.pk == region.pk:
            continue
        refusal = routes.why_not(region, other) or (None if other.pk in healthy else _no_store(other))
        found.append((other, refusal))
    return found


def _no_store(region: Region) -> Refusal:
    return Refusal(
        "InvalidDdrStorage.NotFound",
        f"{region.name} has no reachable store.",
        "Attach one under Stores.",
        "destination",
    )


# ---- checking


def check(instance: Instance, wanted: Settings, *, standing_of: By | None = None) -> list[Refusal]:
    """Return everything that speaks against the change, changing nothing.

    `standing_of`: whose standing acceptance may stand in for the tick (the API, R-13.3).
    """
    now = latest_policy(instance)
    found = [conflict(instance)] if wanted.expected and wanted.expected != version_of(instance) else []
    found += bad_retention(wanted.retention_days)
    if instance.released:
        return found + _released(now, wanted)
    if wanted.enabled:
        found += _not_enabled_because(instance, wanted, now, standing_of)
    refusal = why_no_logs(instance) if wanted.logs_wanted else None
    return [*found, refusal] if refusal else found


def why_no_logs(instance: Instance) -> Refusal | None:
    """Return why no logs of an instance can be copied, None where its engine gives them, or its job writes them."""
    engine = engine_of(instance.engine)
    if instance.arrival == Arrival.TAKEN and engine.capabilities.takes_logs:
        return None if instance.log_every_minutes else _no_timetable_of_logs(instance)
    if instance.arrival == Arrival.TAKEN:
        gives, how = engine.receive_logs is not None, "receive the logs of"
    else:
        gives, how = engine.capabilities.discovers_files, "find log backups of"
    if gives:
        return None
    return Refusal(
        "LogBackupNotSupport",
        f"Farshore cannot {how} {engine.capabilities.label} yet.",
        "Leave log backup disabled for it.",
        "logs_enabled",
    )


def _no_timetable_of_logs(instance: Instance) -> Refusal:
    return Refusal(
        "LogBackupNotSupport",
        f"No log backups of {instance.name} are taken: it has no timetable for them.",
        "Say how often they are to be taken, where the instance is described.",
        "logs_enabled",
    )


def conflict(instance: Instance) -> Refusal:
    said = Event.objects.filter(instance=instance, kind__startswith="policy.").order_by("-pk").first()
    what = f"{said.actor_name} saved at {said.at:%H:%M} UTC: {said.sentence}" if said else "Somebody saved first."
    return Refusal("Conflict", f"The settings changed while this was open. {what}", "Look at them again, then save.")


def bad_retention(days: object) -> list[Refusal]:
    whole = isinstance(days, int) and not isinstance(days, bool)
    if whole and SHORTEST_DAYS <= days <= LONGEST_DAYS:
        return []
    return [
        Refusal(
            "InvalidParameters.Format",
            "The retention period is a whole number of days from 7 to 1825.",
            "Enter 7 to 1825.",
            "retention_days",
        )
    ]


def _released(now: CopyPolicy | None, wanted: Settings) -> list[Refusal]:
    """Of a released instance only the retention can change (R-14.2)."""
    if now is None:
        return [Refusal("ProductInstanceReleased", "The instance has been released.", "", "enabled")]
    same = (wanted.enabled, wanted.destination or now.destination_id, wanted.logs_wanted)
    if same == (now.enabled, now.destination_id, now.logs_enabled):
        return []
    return [
        Refusal(
            "ProductInstanceReleased",
            "The instance has been released; only its retention can change.",
            "Leave the status and the backup region as they are.",
            "enabled",
        )
    ]


def _not_enabled_because(
    instance: Instance, wanted: Settings, now: CopyPolicy | None, standing_of: By | None
) -> list[Refusal]:
    if now is not None and now.enabled and now.destination_id == wanted.destination:
        return []  # only its terms change: that needs no agreement, and a suspended instance may
    found = [replace_field(refusal, "enabled") for refusal in eligibility.reasons(instance)]
    target = Region.objects.filter(pk=wanted.destination).first() if wanted.destination else None
    if target is None:
        return [
            *found,
            Refusal("InvalidRegion.Format", "Choose the backup region.", "Pick one from the list.", "destination"),
        ]
    refusal = routes.why_not(instance.region, target)
    if refusal is None and not _has_healthy_store(target):
        refusal = _no_store(target)
    if refusal:
        found.append(replace_field(refusal, "destination"))
    elif not _is_agreed(instance, target, wanted, standing_of):
        found.append(agreements.missing())
    return found


def replace_field(refusal: Refusal, name: str) -> Refusal:
    return replace(refusal, field=name)


def _has_healthy_store(region: Region) -> bool:
    return Store.objects.attached().filter(region=region, role="primary", state="ok").exists()


def _is_agreed(instance: Instance, target: Region, wanted: Settings, standing_of: By | None) -> bool:
    if wanted.agreed:
        return True
    return standing_of is not None and agreements.standing_for(instance, target, standing_of.user) is not None
