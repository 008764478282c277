"""Doors for Celery: claim, call, ring the next bell. Any of these may run twice, late, or die halfway (design.md §4).

Sliced work (copies, deletes) takes at most about a minute a bell. Held work (taking a backup, a drill) goes to a child
process of its own, so that no message is held for hours.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path

from celery import shared_task
from django.conf import settings
from django.db import connection

from backups import alerts, bell, cleaning, default_backups, downloads, drilling, level2, restoring, seals
from backups.chains import windows
from backups.copying import mending, planning, replication
from backups.default_backups import discovery, retiring, snapshots
from backups.drilling import drills
from backups.keeping import expiring, locks, purging, retention
from backups.leases import who
from backups.logs import log_receiving
from backups.models import Arrival, Copy, CopyState, Instance
from backups.oversight import asking, audit, log_healing
from backups.oversight import watch as watching
from backups.self_recovery import self_backup, state_objects
from backups.servers import landing_servers, remembering
from regions import clock
from regions.models import Store
from regions.refusals import Refusal
from regions.storage import StorageError

log = logging.getLogger(__name__)
LOOKING = 730_003

# name of the task → seconds between two rings; beat rings them on the control queue
TIMETABLE: dict[str, float] = {
    "sweep": settings.SWEEP_SECONDS,
    "seal_events": 5,
    "mail_alerts": 30,
    "watch": 60,
    "probe_all": 60,
    "look_around_all": 60,
    "ask_servers_all": 60,
    "keep_seal_heads": 3600,
    "retire_default_backups": 3600,
    "keep_windows": 3600,
    "sweep_orphans_all": 3600,
    "look_at_locks_all": 3600,
    "write_states_all": 300,
    "back_up_self": 1800,
}


# ---- control


@shared_task
def sweep() -> None:
    """Ring again for everything that is due and nobody's, whatever bells were lost (I3)."""
    for step in (
        planning.weigh_due,
        default_backups.ask_by_timetable,
        default_backups.ask_logs_by_timetable,
        default_backups.overtake_due,
        watching.requalify_all,
        retention.catch_up,
        level2.date_released,
        mending.give_up,
        replication.cancel_too_late,
        expiring.expire_due,
        restoring.keep_pins,
        downloads.tidy,
        restoring.lapse,
        drills.ask_by_timetable,
        log_receiving.keep_all,
        log_healing.heal_due,
        _ring_what_is_due,
    ):
        try:
            step()
        except Exception:  # with its traceback; the steps after it are other people's backups
            log.exception("step of the sweep failed", extra={"step": step.__name__})


def _ring_what_is_due() -> None:
    for region in replication.regions_with_work():
        bell.ring_copies(region)
    for region in mending.regions_with_work():
        bell.ring_mending(region)
    for region in default_backups.regions_with_work():
        bell.ring_backups(region)
    for region in snapshots.regions_to_settle():
        bell.ring("settle_snapshots", bell.region_queue(region), region)
    for region in restoring.regions_with_work():
        bell.ring_restores(region)
    for region in drills.regions_with_work():
        bell.ring_drills(region)
    for region in log_receiving.regions_with_streams():
        bell.ring_logs(region)
    for region in cleaning.regions_to_clean():
        bell.ring_cleaning(region)
    for region in _regions_to_purge():
        bell.ring("purge", bell.region_queue(region), region)
    for region in _regions_to_look():
        bell.ring("discover", bell.region_queue(region), region)


def _regions_to_purge() -> list[str]:
    due = Copy.objects.filter(state=CopyState.EXPIRED, purge_at__lte=clock.now(), due_at__lte=clock.now())
    return list(due.values_list("destination_store__region", flat=True).distinct())


def _regions_to_look() -> list[str]:
    found = Instance.objects.living().filter(arrival=Arrival.FOUND).exclude(prefixes=[])
    return list(found.values_list("region", flat=True).distinct())


@shared_task
def plan_copies() -> None:
    planning.weigh_due()


@shared_task
def heal_gaps() -> None:
    log_healing.heal_due()


@shared_task
def seal_events() -> None:
    seals.seal_events()


@shared_task
def mail_alerts() -> None:
    alerts.mail_due()


@shared_task
def watch() -> None:
    watching.watch()


@shared_task
def keep_seal_heads() -> None:
    seals.seal_events(everything=True)
    audit.keep_heads()


@shared_task
def retire_default_backups() -> None:
    retiring.retire_due()
    retiring.forget_log_jobs()


@shared_task
def retire_asked_backups() -> None:
    retiring.retire_asked()


@shared_task
def keep_windows() -> None:
    windows.rebuild_missing()


@shared_task
def probe_all() -> None:
    _ring_every_region("probe_stores")


@shared_task
def look_around_all() -> None:
    _ring_every_region("look_around")


@shared_task
def ask_servers_all() -> None:
    remembering.forget_old(clock.now())
    for region in asking.regions_with_servers():
        bell.ring("ask_servers", bell.region_queue(region), region)


@shared_task
def sweep_orphans_all() -> None:
    _ring_every_region("sweep_orphans")


@shared_task
def look_at_locks_all() -> None:
    _ring_every_region("look_at_locks")


@shared_task
def write_states_all() -> None:
    _ring_every_region("write_states")


@shared_task
def write_state(instance: int) -> None:
    state_objects.write_of(instance)


@shared_task(acks_late=False)
def back_up_self() -> None:
    """Nightly, and again every half hour while it fails; a child of its own, since no message is held that long."""
    if self_backup.is_due(clock.now()):
        _child("backup_self", "--by-timetable")


def _ring_every_region(task: str) -> None:
    for region in Store.objects.attached().values_list("region", flat=True).distinct():
        bell.announce_region(region)
        bell.ring(task, bell.region_queue(region), region)


# ---- region queues


@shared_task
def carry_copies(region_id: str) -> None:
    """Carry one slice of the best due copy; ring again when there is more to do."""
    copy = replication.claim(region_id)
    if copy is None:
        return
    replication.carry_slice(copy)
    if region_id in replication.regions_with_work():
        bell.ring_copies(region_id)


@shared_task
def mend_copies(region_id: str) -> None:
    """Carry one slice of a damaged copy again; its bell is another, so that new copies do not wait behind many."""
    copy = mending.claim(region_id)
    if copy is None:
        return
    mending.mend_slice(copy)
    if region_id in mending.regions_with_work():
        bell.ring_mending(region_id)


@shared_task
def discover(region_id: str) -> None:
    """Look into the store for every found instance of the region whose last look is a while ago."""
    for instance in discovery.due(region_id):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOOKING, instance.pk])
            if not cursor.fetchone()[0]:
                continue
        try:
            discovery.look(instance)
        except (StorageError, Refusal) as error:
            log.warning("could not look", extra={"instance": instance.code, "reason": str(error)})
        except Exception:  # with its traceback; the next instance is somebody else's
            log.exception("could not look", extra={"instance": instance.code})
        finally:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [LOOKING, instance.pk])


@shared_task
def clean_up(region_id: str) -> None:
    cleaning.clean_up(region_id)


@shared_task
def purge(region_id: str) -> None:
    purging.purge_due(region_id)


@shared_task
def probe_stores(region_id: str) -> None:
    watching.probe_stores(region_id)


@shared_task
def sweep_orphans(region_id: str) -> None:
    cleaning.sweep_orphans(region_id)


@shared_task
def look_at_locks(region_id: str) -> None:
    locks.look_at_holds(region_id)


@shared_task
def look_around(region_id: str) -> None:
    """Say what restores this machine and the region's landing servers have room for; remove what dead workers left."""
    restoring.announce(region_id)
    restoring.tidy()
    landing_servers.look_around(region_id)


@shared_task
def ask_servers(region_id: str) -> None:
    """Ask the servers of the region how their databases stand and which backups they remember."""
    asking.ask_due(region_id)


@shared_task
def settle_snapshots(region_id: str) -> None:
    """See that no database is suspended, and no snapshot of the storage held, for an attempt whose worker is dead."""
    snapshots.settle_due(region_id)


@shared_task
def write_states(region_id: str) -> None:
    """Write what has changed since the manifests; one store that does not answer does not hold up the others."""
    for store in Store.objects.attached().filter(region=region_id, role=Store.Role.PRIMARY):
        try:
            state_objects.write_stale(store)
        except StorageError as error:
            log.warning("states not written", extra={"store": store.pk, "reason": error.sentence})


_children: list[subprocess.Popen] = []
_taking_logs: list[subprocess.Popen] = []
_holding: list[subprocess.Popen] = []
_drilling: list[subprocess.Popen] = []


@shared_task(acks_late=False)
def take_backups(region_id: str) -> None:
    """Claim a default backup and give it to a child process that holds the lease; the bell is done with at once.

    Logs have children of their own: fulls that take hours do not hold them up.
    """
    for children, which in ((_taking_logs, default_backups.LOGS), (_children, default_backups.DATA)):
        if not _are_busy(children, settings.BACKUPS_AT_ONCE) and (job := default_backups.claim(region_id, which)):
            children.append(_child("take_backup", job.pk, job.fence))
            bell.ring_backups(region_id)


@shared_task(acks_late=False)
def run_restores(region_id: str) -> None:
    """Claim a restore and give it to a child process, which builds the server and then goes on to hold it."""
    _holding[:] = [child for child in _holding if child.poll() is None]
    restore = restoring.claim(region_id)
    if restore is None:
        return
    _holding.append(_child("run_restore", restore.pk, restore.fence))
    bell.ring_restores(region_id)


@shared_task(acks_late=False)
def run_drills(region_id: str) -> None:
    """Claim a drill of what lies in the region and give it to a child process that holds the lease."""
    if _are_busy(_drilling, settings.DRILLS_AT_ONCE):
        return
    drilling.clear_leftovers()
    drill = drills.claim(region_id)
    if drill is None:
        return
    _drilling.append(_child("run_drill", drill.pk, drill.fence))
    bell.ring_drills(region_id)


def _are_busy(children: list[subprocess.Popen], most: int) -> bool:
    children[:] = [child for child in children if child.poll() is None]
    return len(children) >= most


def _child(command: str, *arguments: object) -> subprocess.Popen:
    front_door = Path(settings.BASE_DIR) / "manage.py"
    return subprocess.Popen([sys.executable, str(front_door), command, *map(str, arguments)], stdin=subprocess.DEVNULL)


MOST_RECEIVING = 8  # processes of one worker process; each serves LOG_STREAMS_AT_ONCE instances
START_SECONDS = 60  # a process may take so long to begin; more of them would only slow the first one down
BUSY_SECONDS = 5  # what is due for longer, a process that is there would have taken if it had room
_receiving: dict[str, list[subprocess.Popen]] = {}
_began_at: dict[str, float] = {}


@shared_task(acks_late=False)
def receive_logs(region_id: str) -> None:
    """See to it that a child process receives the logs of the region; one more when those that do are full."""
    children = _receiving.setdefault(region_id, [])
    for child in [child for child in children if child.poll() is not None]:
        children.remove(child)
        log_receiving.let_go(who(child.pid))
    if len(children) >= MOST_RECEIVING or (children and time.monotonic() - _began_at[region_id] < START_SECONDS):
        return
    if log_receiving.is_due(region_id, BUSY_SECONDS if children else 0):
        children.append(_child("receive_logs", region_id))
        _began_at[region_id] = time.monotonic()
