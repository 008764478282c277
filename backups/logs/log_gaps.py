"""Where logs are missing at a destination: one row for each gap, one alert while it is open (R-9.4, I7, I8).

A gap is found when the next log is planned behind it, or when something of a chain is given up; what is only late is
none. `log_healing` decides, once, how it is healed. Rows stay when they are healed: they say what can never be had.
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import QuerySet

from backups import alerts, bell, events
from backups.chains import windows
from backups.chains.log_chain import Gap
from backups.logs import breaking
from backups.models import Alert, CancelReason, Copy, CopyPolicy, CopyState, Instance, Kind, LogGap
from backups.servers import standings
from regions import clock
from regions.models import Store

REMEDIES = {
    "": "How it is healed is being decided.",
    LogGap.Healing.COPY: "The missing file is still at the source and is copied now.",
    LogGap.Healing.BACKUP: "A backup is taken by itself; from its arrival on everything can be restored again.",
    LogGap.Healing.PERSON: "Take a full backup on the server; from its arrival on everything can be restored again.",
}
BROKEN = (
    "The log chain is broken on the server itself: no log can be taken there. Take an ordinary full backup on the"
    " primary, not a copy-only one; from its arrival on everything can be restored again."
)


def settle(instance: Instance, store: Store, database: str) -> None:
    """Something of a chain has changed: write down anew what can be restored of it, and where logs are missing."""
    with transaction.atomic():
        windows.lock_chain(instance, store, database)
        chain = windows.chain_of(instance, store, database)
        windows.write(instance, store, database, chain.window())
        _keep(instance, store, database, chain.gaps())


def arrived(copy: Copy) -> None:
    """A copy was completed; for a log that only follows this is one step, not a look at everything."""
    where = copy.set.instance, copy.destination_store, copy.set.database
    if copy.set.kind == Kind.LOG and not open_gaps(*where).exists():
        windows.extend(copy)
    else:
        settle(*where)


def open_gaps(instance: Instance, store: Store, database: str) -> QuerySet[LogGap]:
    return LogGap.objects.filter(instance=instance, store=store, database=database, healed_at=None)


def logs_policy(instance: Instance, store: Store) -> CopyPolicy | None:
    """Return the policy under which logs of an instance are owed to a store now; elsewhere gaps concern nobody."""
    policies = CopyPolicy.objects.cross_region().live().filter(instance=instance, destination=store.region_id)
    return policies.filter(logs_enabled=True, suspended_at=None).first()


# ---- rows


def _keep(instance: Instance, store: Store, database: str, found: list[Gap]) -> None:
    rows = list(LogGap.objects.select_for_update().filter(instance=instance, store=store, database=database))
    policy = logs_policy(instance, store) if found or rows else None
    for gap in found:
        row = _row_of(gap, rows)
        if row:
            rows.remove(row)
            _go_on(row, gap)
        elif policy:
            _open(instance, store, database, gap)
    for row in rows:  # what was missing is there, or on its way; or nothing is left on either side of it
        _close(row)


def _row_of(gap: Gap, rows: list[LogGap]) -> LogGap | None:
    """Return the row of a gap, be it that a part of the gap was filled meanwhile."""
    same = [row for row in rows if (row.fork, row.begins) == (gap.fork, gap.begins)]
    return next(iter(same or [row for row in rows if _overlap(row, gap)]), None)


def _overlap(row: LogGap, gap: Gap) -> bool:
    return row.fork == gap.fork == gap.reached_fork and row.reached < gap.begins and gap.reached < row.begins


def _is_healed(gap: Gap) -> bool:
    return gap.healed_by is not None and gap.healed_by.is_completed


def _open(instance: Instance, store: Store, database: str, gap: Gap) -> None:
    row = LogGap(instance=instance, store=store, database=database, found_at=clock.now(), **_limits(gap))
    if gap.healed_by is not None:
        row.healing = LogGap.Healing.BACKUP
        row.healed_at = row.found_at if _is_healed(gap) else None
    row.broken_by = breaking.who_broke(row)
    row.save()
    what = f"The logs {_limits_said(row)} are missing in {store.region.name}."
    events.record("log_gap.found", what, instance=instance, gap=row.pk)
    tell(row)
    bell.ring_healing()


def _go_on(row: LogGap, gap: Gap) -> None:
    if _is_healed(gap):
        _close(row)
        return
    if row.healed_at:  # the backup, or the file, that had healed it is no longer there
        row.healed_at, row.healing = None, row.healing if row.job_id else ""
        bell.ring_healing()
    if gap.healed_by is not None:
        row.healing = row.healing or LogGap.Healing.BACKUP
    for name, value in _limits(gap).items():
        setattr(row, name, value)
    row.broken_by = row.broken_by or breaking.who_broke(row)
    row.save()
    tell(row)


def _limits(gap: Gap) -> dict:
    names = ("fork", "reached_fork", "reached", "begins", "from_time", "until_time")
    return {name: getattr(gap, name) for name in names}


def _close(row: LogGap) -> None:
    if row.healed_at:
        return
    LogGap.objects.filter(pk=row.pk).update(healed_at=clock.now())
    alerts.close_alert("log_gap", _subject(row))
    said = f"The gap in the logs {_limits_said(row)} is healed."
    events.record("log_gap.healed", said, instance=row.instance, gap=row.pk)


# ---- words


def tell(row: LogGap) -> None:
    """Open the alert of a gap, or bring its words up to date; one that was there before logs were wanted has none."""
    if row.healed_at or not is_news(row):
        return
    alerts.open_alert(
        "log_gap",
        _subject(row),
        f"The logs {_limits_said(row)} are missing in {row.store.region.name}: no moment between can be restored."
        + (f" {row.broken_by}" if row.broken_by else ""),
        remedy=_remedy(row),
        instance=row.instance,
    )
    _one_alert_for_it(row)


def _remedy(row: LogGap) -> str:
    return BROKEN if row.healing == LogGap.Healing.PERSON and is_chain_broken(row) else REMEDIES[row.healing]


def is_chain_broken(row: LogGap) -> bool:
    """Whether the server itself says that no log backup can be taken: only an ordinary full on the primary begins its
    chain anew, and that is for a person (R-9.3). A look that is older than the gap proves nothing."""
    told = row.instance.databases.present().filter(name=row.database, seen_at__gte=row.found_at - standings.OLD)
    return told.filter(has_logs=True, log_chain_position=None).exists()


def name_breakers(instance: Instance) -> None:
    """The server may remember by now who took what is missing in the open gaps of its instance."""
    nameless = LogGap.objects.filter(instance=instance, healed_at=None, broken_by="")
    for row in nameless.select_related("instance", "store__region"):
        row.broken_by = breaking.who_broke(row)
        if row.broken_by:
            LogGap.objects.filter(pk=row.pk).update(broken_by=row.broken_by)
            tell(row)


def _subject(row: LogGap) -> str:
    return f"gap:{row.pk}"


def _limits_said(row: LogGap) -> str:
    whose = f"{row.instance.name}, {row.database}" if row.database else row.instance.name
    return f"of {whose} from {row.from_time:%Y-%m-%d %H:%M:%S} to {row.until_time:%Y-%m-%d %H:%M:%S} UTC"


def is_news(row: LogGap) -> bool:
    """Whether logs were wanted already when they stopped: where they only begin, a backup goes with them (R-8.2)."""
    policy = logs_policy(row.instance, row.store)
    wanted = {"content": "log", "ended_at": None, "began_at__lte": row.from_time}
    return policy is not None and policy.coverage.filter(**wanted).exists()


def _one_alert_for_it(row: LogGap) -> None:
    """That a log's copy was cancelled has said so until now; the gap says it with its limits."""
    cancelled = Copy.objects.filter(
        set__instance=row.instance,
        set__database=row.database,
        set__kind=Kind.LOG,
        destination_store=row.store,
        state=CopyState.CANCELLED,
        cancel_reason__in=(CancelReason.SOURCE_GONE, CancelReason.EXPIRED),
    )
    said = Alert.objects.filter(code="copy_cancelled", closed_at=None, instance=row.instance)
    if said.exists():
        for pk in cancelled.values_list("pk", flat=True):
            alerts.close_alert("copy_cancelled", f"copy:{pk}")


def close_alerts(instance: Instance) -> None:
    """Logs of the instance are no longer wanted: that some are missing is nobody's worry."""
    Alert.objects.filter(code="log_gap", instance=instance, closed_at=None).update(closed_at=clock.now())
