"""The watch: what should have happened and did not becomes an alert, and ends with its cause (R-19)."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef, Q, Subquery

from backups import alerts, asking, breaking, eligibility, escrow, policies, recoveries, self_backup, source_gone
from backups.engines import startable_here
from backups.models import (
    PENDING,
    BackupFile,
    BackupSet,
    Copy,
    CopyPolicy,
    CopyState,
    Coverage,
    Instance,
    LogStream,
    SourceOutage,
)
from backups.protection import SLACK, due_since
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
    alerts.keep("logs_not_received", _silent_streams(at))
    alerts.keep("logs_not_ended", _streams_without_end())
    broken, missing = breaking.look(at)
    alerts.keep(breaking.BROKEN, broken)
    alerts.keep(breaking.NOT_IN_STORE, missing)
    alerts.keep("history_contradicts", breaking.contradictions(at))
    alerts.keep("server_silent", asking.silent(at))


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
