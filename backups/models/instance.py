"""A database server under protection."""

from __future__ import annotations

import secrets
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

ALPHABET = "abcdefghijkmnpqrstuvwxyz0123456789"


def new_code() -> str:
    """Return an instance id in the field's form: rm- and 17 characters."""
    return "rm-" + "".join(secrets.choice(ALPHABET) for _ in range(17))


def every_day() -> list[int]:
    return [0, 1, 2, 3, 4, 5, 6]


LOG_MINUTES = (5, 15, 30)


class Edition(models.TextChoices):
    BASIC = "basic", "Basic"
    HIGH_AVAILABILITY = "high_availability", "High-availability"
    CLUSTER = "cluster", "Cluster"


class Family(models.TextChoices):
    GENERAL_PURPOSE = "general_purpose", "General-purpose"
    DEDICATED = "dedicated", "Dedicated"
    SHARED = "shared", "Shared"


class BillingMethod(models.TextChoices):
    SUBSCRIPTION = "subscription", "Subscription"
    PAY_AS_YOU_GO = "pay_as_you_go", "Pay-as-you-go"
    SERVERLESS = "serverless", "Serverless"


class BackupMethod(models.TextChoices):
    PHYSICAL = "physical", "Physical"
    LOGICAL = "logical", "Logical"
    SNAPSHOT = "snapshot", "Snapshot"


class Arrival(models.TextChoices):
    """How default backups come to be: Farshore takes them, or somebody else's job writes them and we find them."""

    TAKEN = "taken", "Taken by Farshore"
    FOUND = "found", "Found in the source store"


class InstanceQuerySet(models.QuerySet):
    def living(self) -> InstanceQuerySet:
        return self.filter(released_at=None)


class Instance(models.Model):
    """A database server: who owns it, what it is, how to reach it, how its default backups arrive.

    living ──release──> released (`released_at`); there is no way back (R-2.4).
    """

    code = models.CharField("instance ID", max_length=40, unique=True, default=new_code)
    name = models.CharField(max_length=100)
    group = models.ForeignKey("backups.ResourceGroup", models.PROTECT, related_name="instances")
    region = models.ForeignKey("regions.Region", models.PROTECT, related_name="instances")
    engine = models.CharField(max_length=20)
    engine_version = models.CharField(max_length=40, blank=True)
    edition = models.CharField(max_length=20, choices=Edition, default=Edition.HIGH_AVAILABILITY)
    family = models.CharField("instance family", max_length=20, choices=Family, default=Family.GENERAL_PURPOSE)
    billing_method = models.CharField(max_length=20, choices=BillingMethod, default=BillingMethod.SUBSCRIPTION)
    backup_method = models.CharField(max_length=10, choices=BackupMethod, default=BackupMethod.PHYSICAL)
    arrival = models.CharField("default backups", max_length=5, choices=Arrival, default=Arrival.FOUND)
    default_backup_enabled = models.BooleanField(default=True)

    host = models.CharField(max_length=255, blank=True)
    port = models.PositiveIntegerField(null=True, blank=True)
    username = models.CharField(max_length=128, blank=True)
    dbname = models.CharField("database to connect to", max_length=128, blank=True)
    tls = models.CharField(max_length=12, default="prefer", blank=True)
    sealed_password = models.BinaryField(null=True, blank=True, editable=False)
    secondary_host = models.CharField(max_length=255, blank=True)  # a secondary that backups may be taken from
    secondary_port = models.PositiveIntegerField(null=True, blank=True)
    prefixes = ArrayField(models.CharField(max_length=500), default=list, blank=True)
    certificate_thumbprint = models.CharField(max_length=64, blank=True)
    share_called = models.CharField("share, as the server calls it", max_length=300, blank=True)
    share_folder = models.CharField("the same share, on the worker", max_length=500, blank=True)
    is_simulation = models.BooleanField(default=False)

    timetable_days = ArrayField(models.PositiveSmallIntegerField(), default=every_day, blank=True)  # Monday is 0
    timetable_time = models.TimeField(null=True, blank=True)  # UTC; None: one full a day at no set hour
    next_backup_at = models.DateTimeField(null=True, editable=False)  # None: to be worked out from the timetable
    log_every_minutes = models.PositiveSmallIntegerField(default=0)  # of LOG_MINUTES; 0: Farshore takes no log backups
    next_log_at = models.DateTimeField(null=True, editable=False)
    full_every_days = models.PositiveSmallIntegerField(default=1)  # between two fulls the timetable takes incrementals
    drill_every_days = models.PositiveSmallIntegerField(default=7)  # 0: no drills by the timetable
    next_drill_at = models.DateTimeField(null=True, editable=False)  # None: to be worked out
    default_retention_days = models.PositiveIntegerField(default=7)

    data_bytes = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    released_at = models.DateTimeField(null=True, blank=True)
    looked_at = models.DateTimeField(null=True, blank=True)  # the last complete look into the source store
    databases_seen_at = models.DateTimeField(null=True, editable=False)  # the last complete look at its databases

    objects = InstanceQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        indexes = [
            models.Index(fields=["region", "name", "id"]),
            models.Index(fields=["group"]),
            models.Index(fields=["next_backup_at"], condition=Q(arrival="taken", released_at=None), name="backup_due"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(default_retention_days__gte=7, default_retention_days__lte=730),
                name="default_retention_range",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.code})"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("update_fields") is None:
            self.next_backup_at = self.next_log_at = self.next_drill_at = None  # the timetables may have changed
        self.certificate_thumbprint = self.certificate_thumbprint.lower()
        super().save(*args, **kwargs)

    @property
    def released(self) -> bool:
        return self.released_at is not None

    @property
    def is_looked_at(self) -> bool:
        """Whether anybody will look again for this instance's files."""
        return self.arrival == Arrival.FOUND and bool(self.prefixes) and not self.released
