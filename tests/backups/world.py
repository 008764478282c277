"""A small world for stories: two regions on folders, a person, an instance whose job drops SQL Server files."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User

from backups import fleet, policies
from backups.copying import mending, planning, replication
from backups.default_backups import discovery
from backups.events import By
from backups.keeping import expiring, holds, purging
from backups.models import (
    BackupFile,
    BackupSet,
    Copy,
    CopyPolicy,
    CopyState,
    Hold,
    Instance,
    Kind,
    Membership,
    ResourceGroup,
    Role,
    SetFile,
)
from backups.oversight import watch
from backups.policies import Settings
from demo import mtf
from regions import clock, stores
from regions.models import Region, Store

SOURCE, TARGET, OTHER = "cn-hangzhou", "cn-shanghai", "ap-southeast-1"
_lsns = itertools.count(100, 10)
_numbers = itertools.count(1)


@dataclass
class World:
    """Where things are, and the few verbs stories need."""

    folder: Path
    user: User
    group: ResourceGroup

    @property
    def by(self) -> By:
        return By(self.user, "192.0.2.7")

    def store(self, region: str) -> Store:
        found = Store.objects.attached().filter(region=region).first()
        if found:
            return found
        (self.folder / region).mkdir()
        return stores.attach(Region.objects.get(pk=region), (self.folder / region).as_uri(), user=self.user)

    def region(self, pk: str) -> Region:
        return Region.objects.get(pk=pk)

    def second_store(self, region: str = SOURCE) -> Store:
        """Attach a second store beside the region's own, for level-2 backup."""
        (self.folder / "second").mkdir()
        return fleet.attach(self.region(region), (self.folder / "second").as_uri(), {}, {}, self.by, Store.Role.SECOND)

    def instance(self, name: str = "orders", region: str = SOURCE, **more: Any) -> Instance:
        self.store(region)
        more.setdefault("prefixes", [f"backups/{name}/"])
        return Instance.objects.create(name=name, region_id=region, group=self.group, **{"engine": "sqlserver", **more})

    def drop(self, instance: Instance, name: str, *backups: mtf.Backup, body: bytes | None = None) -> Path:
        """Write a file where somebody's job would, in one go."""
        path = self.folder / instance.region_id / instance.prefixes[0] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body if body is not None else mtf.file_of(*backups))
        return path

    def find(self, instance: Instance) -> int:
        """Look twice, far enough apart that an unchanged file counts as finished."""
        discovery.look(instance)
        BackupFile.objects.filter(instance=instance, state="seen").update(
            first_seen_at=clock.now() - 2 * discovery.LOOKS_APART
        )
        found = discovery.look(instance)
        planning.weigh_due()
        return found

    def finished(
        self,
        instance: Instance,
        at: datetime | None = None,
        *,
        kind: str = Kind.FULL,
        database: str = "Sales",
        base: BackupSet | None = None,
        beside: BackupSet | None = None,
        size: int = 100,
        name: str = "",
        **more: Any,
    ) -> BackupSet:
        """Write down a finished default backup and lay its bytes at the source, without reading a header for it.

        `base`: the full this differential needs. `beside`: a set whose file this one was appended to.
        """
        at, number = at or clock.now(), next(_numbers)
        row = BackupSet.objects.create(
            instance=instance,
            database=database,
            kind=Kind.DIFFERENTIAL if base else kind,
            finished_at=at,
            discovered_at=clock.now(),
            set_guid=f"set-{number}",
            base_guid=base.set_guid if base else "",
            size_bytes=size,
            **more,
        )
        file = beside.files.get() if beside else self._file(instance, f"{number:06}{name}.bak", size, at)
        SetFile.objects.create(set=row, file=file, position=file.set_files.count() + 1)
        return row

    def _file(self, instance: Instance, name: str, size: int, at: datetime) -> BackupFile:
        store = self.store(instance.region_id)
        found = store.open().put(instance.prefixes[0] + name, os.fsencode(name).ljust(size, b"."))
        return BackupFile.objects.create(
            instance=instance,
            store=store,
            key=found.key,
            size=found.size,
            etag=found.etag,
            modified_at=found.modified_at,
            state=BackupFile.State.SETTLED,
            first_seen_at=at,
            settled_at=at,
        )

    def arrived(self, instance: Instance, at: datetime | None = None, **more: Any) -> Copy:
        """Finish a default backup and bring its copy all the way to the destination."""
        found = self.finished(instance, at, **more)
        planning.weigh(found.pk)
        policy = policies.enabled_policy(instance)
        self.carry(policy.destination_id)
        return found.copies.get(state=CopyState.COMPLETED)

    def enable(self, instance: Instance, destination: str = TARGET, days: int = 7) -> CopyPolicy:
        self.store(destination)
        policies.apply(instance, Settings(True, days, destination, agreed=True), self.by)
        return policies.enabled_policy(instance)

    def disable(self, instance: Instance, days: int = 7) -> None:
        policies.apply(instance, Settings(False, days), self.by)

    def set(self, instance: Instance, **changes: Any) -> None:
        """Change some of the instance's settings and leave the others as they are."""
        now = replace(policies.current_settings(instance), agreed=True, expected="")
        policies.apply(instance, replace(now, **changes), self.by)

    def sweep(self) -> None:
        """Do what the sweep of retention and the purge of every region would."""
        expiring.expire_due()
        for store in Store.objects.attached():
            purging.purge_due(store.region_id)

    def lose(self, region: str) -> None:
        """The place is gone: its folder is not there, and the next look says so."""
        (self.folder / region).rename(self.folder / f"{region} is gone")
        watch.probe_stores(region)

    def get_back(self, region: str) -> None:
        (self.folder / f"{region} is gone").rename(self.folder / region)
        watch.probe_stores(region)

    def hold(self, copy: Copy) -> Hold:
        return holds.place(copy, "CASE-1", self.by)

    def let_go(self, held: Hold) -> None:
        holds.release(held, self.by)

    def carry(self, region: str = TARGET) -> list[Copy]:
        """Do what a worker of the region would, until nothing is due."""
        done = []
        while copy := replication.claim(region):
            replication.carry_slice(copy)
            copy.refresh_from_db()
            done.append(copy)
        return done

    def mend(self, region: str = TARGET) -> list[Copy]:
        """Do what a worker of the region would for its damaged copies, until none is due."""
        done = []
        while copy := mending.claim(region):
            mending.mend_slice(copy)
            copy.refresh_from_db()
            done.append(copy)
        return done


def backup(database: str = "Sales", *, ago: timedelta = timedelta(seconds=-1), **more: Any) -> mtf.Backup:
    """Return a full backup that finishes about now, so after whatever was enabled before; `ago` moves it."""
    first = mtf.lsn(next(_lsns))
    finished = datetime.now(UTC).replace(microsecond=0) - ago
    more.setdefault("seed", f"set {first}")
    return mtf.full(database=database, started_at=finished - timedelta(seconds=30), finished_at=finished, **more)


def make(folder: Path) -> World:
    user = User.objects.create_superuser("admin", "admin@example.com", "open sesame")
    group = ResourceGroup.objects.create(name="Payments")
    Membership.objects.create(user=user, group=group, role=Role.OPERATOR)
    return World(folder, user, group)
