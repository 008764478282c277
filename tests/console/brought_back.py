"""Instances whose copies and logs can be restored, and restores in every state: rows as the work would leave them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from backups.chains import windows
from backups.models import BackupSet, Copy, CopyPolicy, Drill, Instance, Restore, RestoreSource
from regions import secrets
from tests.console.fleet import TARGET, Fleet

MB = 2**20
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
PASSWORD = "a password nobody typed"


def streamed(
    fleet: Fleet, name: str = "fleet-telemetry", destination: str = TARGET, logs: int = 5, **facts: Any
) -> Instance:
    """Make an instance with a full of yesterday and one of three hours ago, and hourly logs behind the newer one."""
    usual = {
        "engine": "postgresql",
        "engine_version": "18",
        "arrival": "taken",
        "host": "10.0.0.8",
        "data_bytes": 40 * MB,
    }
    instance = fleet.instance(name, **{**usual, **facts})
    policy = fleet.policy(instance, destination, logs_enabled=True)
    full(fleet, policy, age=26 * HOUR, first=100)
    full(fleet, policy, age=3 * HOUR, first=500)
    for n in range(logs):
        log(fleet, policy, began=3 * HOUR - n * 30 * MINUTE, first=500 + 10 * n)
    windows.rebuild(instance, fleet.stores[destination])
    return instance


def full(fleet: Fleet, policy: CopyPolicy, age: timedelta, first: int, **facts: Any) -> Copy:
    usual = {"origin": "taken", "fork": "1", "set_guid": f"full-{policy.pk}-{first}"}
    positions = {"first_position": first, "last_position": first + 2}
    return fleet.copy(_set(fleet, policy, age=age, size=8 * MB, **{**usual, **positions, **facts}), policy)


def log(fleet: Fleet, policy: CopyPolicy, began: timedelta, first: int, **facts: Any) -> Copy:
    """Copy a log of half an hour, or what `last_position` says it reaches."""
    usual = {"origin": "taken", "fork": "1", "first_position": first, "last_position": first + 10}
    found = _set(fleet, policy, age=began - 30 * MINUTE, size=MB, kind="log", **{**usual, **facts})
    BackupSet.objects.filter(pk=found.pk).update(started_at=fleet.now - began)
    return fleet.copy(found, policy)


def _set(fleet: Fleet, policy: CopyPolicy, **facts: Any) -> BackupSet:
    return fleet.backup(policy.instance, database="", **facts)


def restore(fleet: Fleet, instance: Instance, state: str = "ready", **facts: Any) -> Restore:
    """Write a restore of the newest moment as it stands in this state."""
    policy = instance.policies.get()
    began = fleet.now - timedelta(minutes=4)
    usual: dict[str, Any] = {
        "region": policy.destination,
        "name": f"{instance.name}-restored",
        "asked_by": fleet.user,
        "asked_at": began,
        "due_at": began,
        "started_at": began,
        "attempts": 1,
    }
    if state == "running":
        usual |= {
            "stage": "replay",
            "stage_began_at": fleet.now - timedelta(seconds=20),
            "done": 3 * MB,
            "total": 5 * MB,
        }
        usual |= {"seconds": {"unpack": 41.5}, "leased_until": fleet.now + HOUR}
    if state in ("ready", "removed"):
        usual |= _came_up(fleet, began)
    if state == "failed":
        usual |= {"finished_at": began + MINUTE, "stage": "unpack", "error_code": "CopyDamaged"}
        usual |= {"error": "Part 3 of the copy does not hash to what was recorded.", "remedy": "Choose an older set."}
    found = Restore.objects.create(instance=instance, state=state, **{**usual, **facts})
    copies = windows.copies_for(instance, fleet.stores[policy.destination_id], "", _newest(instance))
    RestoreSource.objects.bulk_create(
        RestoreSource(restore=found, order=n, set=copy.set, copy=copy) for n, copy in enumerate(copies, 1)
    )
    return found


def _came_up(fleet: Fleet, began: datetime) -> dict[str, Any]:
    return {
        "finished_at": began + timedelta(seconds=93),
        "leased_until": fleet.now + HOUR,
        "leased_by": "worker@shanghai-1",
        "folder": "/var/lib/farshore/restored/rs-1",
        "host": "10.9.0.4",
        "port": 54321,
        "username": "farshore_admin",
        "restored_until": fleet.now - 30 * MINUTE,
        "last_change_at": fleet.now - 31 * MINUTE,
        "seconds": {"unpack": 41.5, "replay": 48.2, "start": 1.1, "check": 1.9, "count": 0.3},
        "rows": {f"telemetry.public.readings_{n:02}": 1000 * n for n in range(1, 41)},
        "notes": ["Settings that came with the copy were left out: archive_command."],
    }


def _newest(instance: Instance) -> datetime:
    return instance.intervals.order_by("-ended_at").first().ended_at


def give_password(found: Restore, password: str = PASSWORD) -> None:
    """Seal a password for the restore as whoever made its server would."""
    identity = secrets._columns["backups.Restore", "sealed_password"].identity(found)
    Restore.objects.filter(pk=found.pk).update(sealed_password=secrets.seal(password.encode(), identity))


def drilled(fleet: Fleet, instance: Instance, seconds: int = 140, **facts: Any) -> Drill:
    """A drill whose server answered after so many seconds, and whose checks took minutes more."""
    ended = fleet.now - timedelta(days=2)
    usual = {"state": "passed", "asked_at": ended, "due_at": ended, "started_at": ended - 10 * MINUTE}
    usual |= {"seconds": {"recovery": seconds, "engine check": 540}}
    return Drill.objects.create(instance=instance, **{**usual, "finished_at": ended, **facts})


def everything(fleet: Fleet) -> Instance:
    """Make one of each for pictures: instances that can and cannot come back, restores in every state."""
    instance = streamed(fleet)
    drilled(fleet, instance)
    streamed(fleet, "ledger-eu", "ap-southeast-1")
    fleet.protected("orders-primary")
    fleet.instance("sandbox-new", engine="postgresql")
    streamed(fleet, "w" * 100)
    came_back = fleet.instance(f"{instance.name}-restored", region_id=TARGET, engine="postgresql", edition="basic")
    give_password(restore(fleet, instance, "ready", result=came_back))
    for n, state in enumerate(("running", "queued", "failed", "cancelled", "removed"), 1):
        restore(fleet, instance, state, name=f"{instance.name}-{n}", asked_at=fleet.now - n * HOUR)
    return instance
