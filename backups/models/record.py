"""What happened and what is wrong: events (append-only, sealed), alerts, the service-linked role."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q


class Event(models.Model):
    """Everything that changed, who and why. Append-only: triggers refuse UPDATE, DELETE and TRUNCATE (I16)."""

    at = models.DateTimeField(db_index=True)
    kind = models.CharField(max_length=60)
    sentence = models.TextField()
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    actor_name = models.CharField(max_length=150, default="Farshore")
    address = models.CharField(max_length=64, blank=True)
    group = models.ForeignKey("backups.ResourceGroup", models.PROTECT, null=True, related_name="+")
    instance = models.ForeignKey("backups.Instance", models.PROTECT, null=True, related_name="events")
    set = models.ForeignKey("backups.BackupSet", models.PROTECT, null=True, related_name="events")
    data = models.JSONField(default=dict)

    class Meta:
        indexes = [
            models.Index(fields=["instance", "-id"]),
            models.Index(fields=["group", "-id"]),
            models.Index(fields=["kind", "-id"]),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.at:%Y-%m-%d %H:%M:%S} UTC"


class Seal(models.Model):
    """One link of the hash chain over events, written by the one sealer so that writers never wait for each other."""

    sequence = models.BigIntegerField(primary_key=True)
    event = models.OneToOneField(Event, models.PROTECT, related_name="seal")
    previous = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"seal {self.sequence}"


class Alert(models.Model):
    """Open until its cause ends; on every page and in `status`; mailed as it opens and as it closes (R-19)."""

    code = models.CharField(max_length=40)
    subject = models.CharField(max_length=120)  # what it is about, e.g. instance:12, copy:7, store:3
    sentence = models.TextField()
    remedy = models.TextField(blank=True)
    group = models.ForeignKey("backups.ResourceGroup", models.PROTECT, null=True, related_name="alerts")
    instance = models.ForeignKey("backups.Instance", models.PROTECT, null=True, related_name="alerts")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")  # whose own it is
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    mailed_open_at = models.DateTimeField(null=True)
    mailed_close_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["code", "subject"], condition=Q(closed_at=None), name="one_open_alert"),
        ]
        indexes = [models.Index(fields=["group", "closed_at"])]

    def __str__(self) -> str:
        return f"{self.code}: {self.subject}"


class ServiceLinkedRole(models.Model):
    """AliyunServiceRoleForDBS: the team's standing grant to the copier, created once, at the first use (R-3.3)."""

    name = models.CharField(max_length=60, unique=True)
    created_at = models.DateTimeField()
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")

    def __str__(self) -> str:
        return self.name
