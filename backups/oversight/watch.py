"""The watch: what should have happened and did not becomes an alert, and ends with its cause (R-19)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter

from django.db.models import Exists, OuterRef, Q, Subquery

from backups import alerts, policies, recoveries
from backups.default_backups import snapshots
from backups.engines import startable_here
from backups.keeping import expiring, source_gone
from backups.logs import breaking
from backups.models import (
    PENDING,
    Alert,
    Arrival,
    BackupFile,
    BackupSet,
    Copy,
    CopyPolicy,
    CopyState,
    Coverage,
    Instance,
    LogStream,
    ServerDatabase,
    SourceOutage,
)
from backups.oversight import asking
from backups.oversight.protection import SLACK, due_since
from backups.self_recovery import escrow, self_backup
from backups.servers import landing_servers
from backups.terms import eligibility
from regions import clock
from regions.models import Store
from regions.refusals import Refusal
from regions.stores import look

log = logging.getLogger(__name__)
DAY = timedelta(days=1)
LOGS_LATE = timedelta(minutes=10)
TRIES_TO_END = 5


def watch() -> None:
    """Look at everything that may be late and make the open alerts say exactly that."""
    at = clock.now()
    source_gone.presume(at)
    source_gone.note(at)
    alerts.keep("copy_late", _late_copies(at))
    alerts.keep("no_default_backup", _silent_instances(at))
    alerts.keep("waiting_for_full", _waiting(at))
    alerts.keep("store_unreachable", _unreachable_stores())
    alerts.keep("expiry_paused", _paused_sources())
    alerts.keep("recovery_unconfirmed", recoveries.unconfirmed())
    alerts.keep("self_backup_old", self_backup.too_old(at))
    alerts.keep("keys_not_escrowed", escrow.missing())
    alerts.keep("landing_server_down", landing_servers.in_trouble())
    alerts.keep("logs_not_received", _silent_streams(at))
    alerts.keep("logs_not_ended", _streams_without_end())
    alerts.keep("logs_not_taken", _untaken_logs(at))
    alerts.keep("database_not_backed_up", _silent_databases(at))
    broken, missing = breaking.look(at)
    alerts.keep(breaking.BROKEN, broken)
    alerts.keep(breaking.NOT_IN_STORE, missing)
    alerts.keep("history_contradicts", breaking.contradictions(at))
    alerts.keep("snapshot_not_undone", snapshots.stuck(at))
    alerts.keep("server_silent", asking.silent(at))
    _forget_cancelled(at)


def _late_copies(at: datetime) -> dict[str, dict]:
    late = Copy.objects.pending().filter(planned_at__lte=at - SLACK)
    return {
        f"copy:{copy.pk}": {
            "sentence": f"The copy of {copy.set} to {copy.policy.destination} is more than 2 hours late.",
            "remedy": copy.error or "Look at its page: is a worker of the destination region running?",
            "instance": copy.set.instance,
        }
        for copy in late.select_related("set__instance", "policy__destination")[:1000]
    }


def _forget_cancelled(at: datetime) -> None:
    """What did not arrive is told for a day where no newer backup will ever end the alert (R-2.4, R-19): its instance
    was released, or its database is gone."""
    told = Alert.objects.filter(code="copy_cancelled", closed_at=None, opened_at__lte=at - DAY)
    told.filter(instance__released_at__isnull=False).update(closed_at=at)
    subjects = {int(subject.removeprefix("copy:")): subject for subject in told.values_list("subject", flat=True)}
    copies = Copy.objects.filter(pk__in=subjects).exclude(set__instance__region__in=source_gone.regions_until(at))
    gone = [subjects[one.pk] for one in copies.select_related("set", "policy") if _is_of_gone_database(one, at)]
    told.filter(subject__in=gone).update(closed_at=at)


def _is_of_gone_database(copy: Copy, at: datetime) -> bool:
    """Whether its server no longer has the database; where nobody can ask it, as for a last good copy (I6)."""
    since = at - copy.policy.retention_days * DAY
    told = ServerDatabase.objects.filter(instance=copy.set.instance_id, name=copy.set.database).first()
    if told and (told.gone_at or told.seen_at >= since):
        return told.gone_at is not None
    return expiring.is_not_seen(copy.set, since)


def _silent_instances(at: datetime) -> dict[str, dict]:
    backups = BackupSet.objects.filter(instance=OuterRef("pk")).data().order_by("-finished_at")
    expected = Instance.objects.living().filter(default_backup_enabled=True).select_related("group")
    found = {}
    for instance in expected.annotate(newest=Subquery(backups.values("finished_at")[:1])).iterator(1000):
        since = due_since(instance, at)
        if instance.created_at >= since or (instance.newest and instance.newest >= since):
            continue
        found[f"instance:{instance.pk}"] = {
            "sentence": f"No default backup of {instance.name} has arrived since {since:%Y-%m-%d %H:%M} UTC.",
            "remedy": "Look at its backup job; " + _last_refused(instance),
            "instance": instance,
        }
    return found


def _silent_databases(at: datetime) -> dict[str, dict]:
    """Databases of which Farshore has taken no backup in time, while others of their server were backed up."""
    late: dict[str, dict] = {}
    for instance, databases in _told_databases():
        since = due_since(instance, at)
        silent = [one for one in databases if one.newest is None or one.newest < since]
        if len(silent) == len(databases):  # it is the instance that is silent
            continue
        for one in silent:
            if one.first_seen_at < since:
                late[alerts.fitting(f"instance:{instance.pk}:{one.name}")] = _silent(one, since)
    return late


def _told_databases() -> Iterator[tuple[Instance, list[ServerDatabase]]]:
    sets = BackupSet.objects.data().filter(instance=OuterRef("instance"), database=OuterRef("name"))
    newest = Subquery(sets.order_by("-finished_at").values("finished_at")[:1])
    taken = {
        "instance__arrival": Arrival.TAKEN,
        "instance__default_backup_enabled": True,
        "instance__released_at": None,
    }
    rows = ServerDatabase.objects.present().filter(is_online=True, **taken).annotate(newest=newest)
    rows = rows.select_related("instance").order_by("instance", "name")
    for _, group in groupby(rows.iterator(1000), key=attrgetter("instance_id")):
        databases = list(group)
        yield databases[0].instance, databases


def _silent(one: ServerDatabase, since: datetime) -> dict:
    job = one.instance.jobs.filter(database=one.name).exclude(error="").order_by("-pk").first()
    remedy = f"The last attempt said: {job.error}" if job else "Back it up now, on its instance's page."
    if not one.may_back_up:
        remedy = "The account may not back it up: run the script of its login for this database too."
    return {
        "sentence": f"No backup of {one.instance.name}, {one.name}, has been taken since {since:%Y-%m-%d %H:%M} UTC.",
        "remedy": remedy,
        "instance": one.instance,
    }


def _last_refused(instance: Instance) -> str:
    refused = BackupFile.objects.filter(instance=instance, state=BackupFile.State.REFUSED).order_by("-pk").first()
    if refused:
        return f"the newest file found, {refused}, was refused: {refused.refusal}"
    job = instance.jobs.exclude(error="").order_by("-pk").first()
    return f"the last attempt said: {job.error}" if job else "nothing has been found in its store."


def _waiting(at: datetime) -> dict[str, dict]:
    """Waiting for a full backup for more than a day (R-6.2)."""
    fulls = Copy.objects.filter(policy=OuterRef("pk"), set__kind="full", state__in=(*PENDING, CopyState.COMPLETED))
    waiting = CopyPolicy.objects.cross_region().live().filter(enabled_at__lte=at - DAY, suspended_at=None)
    return {
        f"instance:{policy.instance_id}": {
            "sentence": f"{policy.instance.name} has waited more than 24 hours for a full backup;"
            " nothing of it can be restored elsewhere.",
            "remedy": "Take a full backup of it now.",
            "instance": policy.instance,
        }
        for policy in waiting.exclude(Exists(fulls)).select_related("instance")
    }


def _silent_streams(at: datetime) -> dict[str, dict]:
    """Logs are wanted, and for a while none have been heard, not even that there are none (R-8)."""
    since = at - LOGS_LATE
    wanted = Coverage.objects.filter(policy__instance=OuterRef("instance"), content="log", ended_at=None)
    streams = LogStream.objects.filter(Q(heard_at=None) | Q(heard_at__lt=since), state__in=LogStream.ACTIVE)
    return {
        f"instance:{stream.instance_id}": {
            "sentence": f"No logs of {stream.instance.name} have been received"
            + (f" since {stream.heard_at:%Y-%m-%d %H:%M:%S} UTC." if stream.heard_at else " yet."),
            "remedy": " ".join([stream.error, *stream.notes]).strip()
            or f"Is a worker of {stream.instance.region} running?",
            "instance": stream.instance,
        }
        for stream in streams.filter(Exists(wanted.filter(began_at__lt=since))).select_related("instance__region")
    }


def _untaken_logs(at: datetime) -> dict[str, dict]:
    """Databases whose logs are to be backed up every few minutes, and for three times as long, and more, have not."""
    newest = BackupSet.objects.filter(instance=OuterRef("instance"), database=OuterRef("name"), kind="log")
    expected = ServerDatabase.objects.to_back_up().filter(
        has_logs=True,
        instance__arrival=Arrival.TAKEN,
        instance__default_backup_enabled=True,
        instance__log_every_minutes__gt=0,
        instance__released_at=None,
        first_seen_at__lt=at - LOGS_LATE,
    )
    newest_at = Subquery(newest.order_by("-finished_at").values("finished_at")[:1])
    late = {}
    for one in expected.annotate(newest=newest_at).select_related("instance__region").iterator(1000):
        since = at - 3 * timedelta(minutes=one.instance.log_every_minutes) - LOGS_LATE
        if one.newest is None or one.newest < since:
            late[alerts.fitting(f"instance:{one.instance_id}:{one.name}")] = _untaken(one)
    return late


def _untaken(one: ServerDatabase) -> dict:
    since = f"since {one.newest:%Y-%m-%d %H:%M} UTC" if one.newest else "yet"
    jobs = one.instance.jobs.filter(kind="log", database__in=(one.name, "")).exclude(error="")
    job = jobs.order_by("-pk").first()
    remedy = f"The last attempt said: {job.error}" if job else f"Is a worker of {one.instance.region} running?"
    if one.log_chain_position is None:
        remedy = "Its log chain has not begun, or was broken on the server: take an ordinary full backup of it."
    return {
        "sentence": f"No log backup of {one.instance.name}, {one.name}, has been taken {since}.",
        "remedy": remedy,
        "instance": one.instance,
    }


def _streams_without_end() -> dict[str, dict]:
    """Logs are no longer wanted, and the server cannot be told: it may keep them on its disk until it can."""
    ending = LogStream.objects.filter(state=LogStream.State.ENDING, failures__gte=TRIES_TO_END)
    return {
        f"instance:{stream.instance_id}": {
            "sentence": f"{stream.instance.name} may still keep logs for Farshore: {stream.error}",
            "remedy": "Make it reachable, or remove what it keeps for Farshore (a replication slot) by hand.",
            "instance": stream.instance,
        }
        for stream in ending.select_related("instance")
    }


def _unreachable_stores() -> dict[str, dict]:
    stores = Store.objects.attached().exclude(state=Store.State.OK).select_related("region")
    return {
        f"store:{store.pk}": {
            "sentence": f"The store of {store.region.name} is {store.get_state_display().lower()}: {store.last_error}",
            "remedy": "Check the address, the credentials and the network, then probe it again.",
        }
        for store in stores
    }


def _paused_sources() -> dict[str, dict]:
    """A source region that is gone: what lies elsewhere of its instances neither expires nor is erased."""
    open_ = SourceOutage.objects.filter(ended_at=None).select_related("store__region")
    copies = Copy.objects.present().filter(set__instance__region=OuterRef("store__region"))
    return {
        f"store:{outage.store_id}": {
            "sentence": f"{outage.store.region} has been gone since {outage.began_at:%Y-%m-%d %H:%M} UTC: copies of its"
            " instances neither expire nor are erased.",
            "remedy": "They do again a day after its store is back. If it will never be, release its instances and"
            " detach its store.",
        }
        for outage in open_.filter(Exists(copies))
    }


def probe_stores(region_id: str) -> None:
    """Look whether the region's stores are there and ours, and say what its workers can start; the watch alerts."""
    startable = startable_here()
    for store in Store.objects.attached().filter(region=region_id):
        store.capabilities = {**store.capabilities, "startable": startable}  # ours to say: this worker restores there
        look(store)
    source_gone.note(clock.now())


def requalify_all() -> None:
    """Suspend who no longer qualifies, resume who does again (R-3.4)."""
    enabled = CopyPolicy.objects.live()
    able = eligibility.qualifying(Instance.objects.all()).values("pk")
    astray = enabled.filter(suspended_at=None).exclude(instance__in=able) | enabled.filter(
        suspended_at__isnull=False, instance__in=able
    )
    for instance in Instance.objects.filter(pk__in=astray.values("instance")):
        try:
            policies.requalify(instance)
        except Refusal as refusal:  # no store to plan for, say: it stays as it is, the others go on
            log.warning("not requalified", extra={"instance": instance.code, "reason": str(refusal)})
