"""A fleet in every state the console can show, made straight in the tables: what lists and looks are tested with."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.models import User

from backups import alerts, events
from backups.chains import windows
from backups.events import By
from backups.models import (
    BackupFile,
    BackupSet,
    CopiedFile,
    Copy,
    CopyPolicy,
    CopyState,
    Coverage,
    Drill,
    DrillQuery,
    Instance,
    Membership,
    ResourceGroup,
    Role,
    SetFile,
    StorageSpan,
    Transfer,
)
from backups.terms import agreements
from regions import clock
from regions.models import Region, Store

GB = 2**30
SOURCE, TARGET, FAR = "cn-hangzhou", "cn-shanghai", "ap-southeast-1"
DAY = timedelta(days=1)
PASSWORD = "correct horse battery"


class Fleet:
    """Verbs for stories; every instance lies in SOURCE unless it says otherwise."""

    def __init__(self) -> None:
        self.now = clock.now()
        self.group = ResourceGroup.objects.get_or_create(name="Payments")[0]
        self.user = User.objects.create_user("mei", "mei@example.org", PASSWORD)
        Membership.objects.create(user=self.user, group=self.group, role=Role.OPERATOR)
        self.stores = {region: self.store(region) for region in (SOURCE, TARGET, FAR)}

    def store(self, region: str) -> Store:
        return Store.objects.create(
            region_id=region, url=f"file:///srv/{region}", attached_at=self.now, probed_at=self.now
        )

    def second_store(self) -> Store:
        """A second store beside SOURCE's own, for level-2 backup."""
        return Store.objects.create(
            region_id=SOURCE, role=Store.Role.SECOND, url="file:///srv/second", attached_at=self.now, probed_at=self.now
        )

    def root(self) -> User:
        return User.objects.create_superuser("root", "root@example.org", PASSWORD)

    def instance(self, name: str, **facts: object) -> Instance:
        usual = {
            "group": self.group,
            "region_id": SOURCE,
            "engine": "sqlserver",
            "engine_version": "2022",
            "data_bytes": 312 * GB,
            "prefixes": [f"{name}/"],
        }
        return Instance.objects.create(name=name, **{**usual, **facts})

    def backup(
        self,
        instance: Instance,
        age: timedelta = timedelta(hours=3),
        size: int = 42 * GB,
        kind: str = "full",
        database: str = "orders",
        **facts: object,
    ) -> BackupSet:
        at = self.now - age
        found = BackupSet.objects.create(
            instance=instance,
            database=database,
            kind=kind,
            finished_at=at,
            started_at=at - timedelta(minutes=20),
            discovered_at=at,
            weighed_at=at,
            size_bytes=size,
            has_checksums=True,
            **facts,
        )
        file = BackupFile.objects.create(
            instance=instance,
            store=self.stores[instance.region_id],
            key=f"{instance.name}/{found.pk}.bak",
            size=size,
            etag=f"e{found.pk}",
            modified_at=at,
            state=BackupFile.State.SETTLED,
            first_seen_at=at,
            settled_at=at,
        )
        SetFile.objects.create(set=found, file=file)
        return found

    def policy(
        self,
        instance: Instance,
        destination: str = TARGET,
        days: int = 30,
        age: timedelta = 20 * DAY,
        enabled: bool = True,
        **facts: object,
    ) -> CopyPolicy:
        target = Region.objects.get(pk=destination)
        acceptance = agreements.accept([instance], target, By(self.user))
        policy = CopyPolicy.objects.create(
            instance=instance,
            source_region=instance.region,
            destination=target,
            enabled=enabled,
            retention_days=days,
            acceptance=acceptance,
            enabled_at=self.now - age,
            **facts,
        )
        if enabled:
            Coverage.objects.create(policy=policy, began_at=self.now - age, route_version=1)
        return policy

    def copy(self, found: BackupSet, policy: CopyPolicy, state: str = CopyState.COMPLETED, **facts: object) -> Copy:
        done = state in (CopyState.COMPLETED, CopyState.EXPIRED)
        arrived = found.finished_at + timedelta(minutes=12)
        usual = {
            "route_version": policy.route_version,
            "planned_at": found.finished_at,
            "due_at": self.now,
            "expires_at": found.finished_at + policy.retention_days * DAY,
            "total_bytes": found.size_bytes,
            "started_at": found.finished_at,
            "completed_at": arrived if done else None,
            "manifest_key": f"farshore/v1/m/{found.pk}" if done else "",
            "stored_bytes": found.size_bytes if done else 0,
            "verification": "backup checksum" if done else "",
        }
        copy = Copy.objects.create(
            set=found,
            policy=policy,
            state=state,
            **{"destination_store": self.stores[policy.destination_id], **usual, **facts},
        )
        if state == CopyState.COMPLETED:
            StorageSpan.objects.create(copy=copy, bytes=found.size_bytes, began_at=arrived)
        return copy

    def copy_at_second_store(self, policy: CopyPolicy) -> Copy:
        """The newest backup of a level-2 policy's instance, arrived at the second store."""
        found = policy.instance.sets.order_by("-finished_at").first()
        policy.copies.all().delete()  # what the 24-hour check has planned
        return self.copy(found, policy, destination_store=Store.objects.get(role=Store.Role.SECOND))

    def carry(self, copy: Copy, sent: int) -> Transfer:
        """Give a copy an attempt that has brought so many bytes."""
        file = copy.set.files.get()
        transfer = Transfer.objects.create(
            file=file,
            store=copy.destination_store,
            key=f"farshore/v1/{copy.pk}/1",
            state="uploading",
            fence=1,
            size=file.size,
            bytes_sent=sent,
            started_at=self.now,
        )
        CopiedFile.objects.create(copy=copy, file=file, transfer=transfer)
        transfer.parts.create(number=1, offset=0, size=GB, sha256="a" * 64, etag="e1")
        return transfer

    def drill(self, instance: Instance, state: str = "passed", age: timedelta = 3 * DAY, **facts: object) -> Drill:
        """A drill with the evidence that one of its state has."""
        at, copy = self.now - age, Copy.objects.filter(set__instance=instance, state=CopyState.COMPLETED).first()
        is_over, passed = state not in Drill.ACTIVE, state == "passed"
        restored = {
            "set": copy and copy.set,
            "until": copy and copy.set.finished_at,
            "restored_until": copy and copy.set.finished_at,
            "isolation": "namespace",
            "seconds": {"unpack": 31.4, "replay": 7.2, "start": 1.9, "recovery": 41.2, "engine check": 12.5},
            "rows": {"shop.public.orders": 1_204_000, "shop.public.customers": 332},
            "checks": [
                {"name": "pg_amcheck", "passed": True, "findings": []},
                {"name": "rows", "passed": True, "findings": ["1204332 rows in 2 tables"]},
                {"name": "SELECT max(id) FROM orders", "passed": passed, "findings": ["7"], "database": "shop"},
            ],
            "evidence": {
                "host": "worker-1:4711",
                "tables": 2,
                "total_rows": 1_204_332,
                "removed": True,
                "tools": {"pg_amcheck": "PostgreSQL 16.4 on x86_64-pc-linux-gnu"},
                "server_log": "LOG:  database system is ready to accept connections",
                "copies": [{"copy": 1, "set": copy.set_id, "kind": "full", "bytes": GB, "digests": ["ab" * 32]}],
            },
        }
        usual = {
            "store": self.stores[TARGET],
            "asked_at": at,
            "due_at": at,
            "started_at": at,
            "finished_at": at + timedelta(minutes=1) if is_over else None,
            "attempts": 1,
        }
        usual |= restored if state in ("passed", "failed") else {}
        return Drill.objects.create(instance=instance, state=state, **{**usual, **facts})

    def protected(
        self, name: str, destination: str = TARGET, days: int = 30, copies: int = 3, **facts: object
    ) -> Instance:
        instance = self.instance(name, **facts)
        policy = self.policy(instance, destination, days)
        for age in range(copies):
            self.copy(self.backup(instance, age=timedelta(hours=3) + age * DAY), policy)
        return instance

    def everything(self) -> None:
        """Make one of each: what the pictures of the console show."""
        for name in ("archive-2019", "catalog", "notifications", "pricing", "risk-scoring"):
            self.backup(self.instance(name), age=timedelta(hours=30 if name == "archive-2019" else 5))
        self.instance("sandbox", family="shared")
        self.instance("preview", billing_method="serverless")
        self.instance("fleet-telemetry", engine="postgresql", engine_version="16.4", arrival="taken", host="10.0.0.8")
        for name, destination in (("orders-primary", TARGET), ("ledger", FAR), ("loyalty", FAR), ("identity", TARGET)):
            self.protected(name, destination, copies=8 if name == "identity" else 3)
        self._drilled()
        self._hostile()
        self._copying()
        self._troubled()
        self._ended()
        for instance in Instance.objects.all():
            for store in windows.stores_with_copies(instance):
                windows.rebuild(instance, store)

    def _drilled(self) -> None:
        """One drill of every kind, and a question of the team's own."""
        instance = self.protected("fleet-billing", engine="postgresql", engine_version="16.4")
        self.drill(instance)
        self.drill(instance, pick="canary", age=2 * DAY)
        self.drill(instance, "failed", pick="oldest", age=DAY, sentence="SELECT max(id) FROM orders: 7, expected 8")
        self.drill(instance, "skipped", age=2 * timedelta(hours=1), sentence="This worker cannot start it.")
        self.drill(instance, "running", age=timedelta(minutes=1), sentence="replay")
        DrillQuery.objects.create(
            instance=instance, database="shop", sql="SELECT max(id) FROM orders", expected="8", added_at=self.now
        )

    def _hostile(self) -> None:
        """Names that try to break a layout: long without a space, right to left, full of markup."""
        for name in ("w" * 100, "\u202egnorw\u05d0\u05d1", "<b>&amp;\"'"):
            instance = self.protected(name, copies=1)
            self.backup(instance, database="d" * 200, age=timedelta(days=2))
            events.record("set.found", f"The backup was found in {'k' * 300}.bak.", instance=instance)
            alerts.open_alert(
                "no_default_backup", f"instance:{instance.pk}", f"No backup of {name} has arrived.", instance=instance
            )

    def _copying(self) -> None:
        instance = self.protected("crm-core")
        policy = instance.policies.get()
        copy = self.copy(self.backup(instance, age=timedelta(minutes=20)), policy, CopyState.COPYING)
        self.carry(copy, 22 * GB)

    def _troubled(self) -> None:
        instance = self.protected("payments")
        copy = self.copy(
            self.backup(instance, age=timedelta(hours=3, minutes=15)),
            instance.policies.get(),
            CopyState.FAILED,
            error="The store did not answer within 30 s.",
            attempts=3,
            failures=3,
        )
        alerts.open_alert(
            "copy_failed",
            f"copy:{copy.pk}",
            f"The copy of {copy.set} failed: the store did not answer.",
            remedy="It is tried again by itself.",
            instance=instance,
        )
        moved = self.protected("warehouse")
        Instance.objects.filter(pk=moved.pk).update(family="shared")
        CopyPolicy.objects.filter(instance=moved).update(suspended_at=self.now)
        self.policy(self.instance("new-arrival"), age=timedelta(hours=1))

    def _ended(self) -> None:
        released = self.protected("hr-people")
        Instance.objects.filter(pk=released.pk).update(released_at=self.now - 10 * DAY)
        disabled = self.protected("marketing")
        CopyPolicy.objects.filter(instance=disabled).update(enabled=False, ended_at=self.now, end_reason="disabled")
        events.record("policy.disabled", "Cross-region backup was disabled.", by=By(self.user), instance=disabled)
