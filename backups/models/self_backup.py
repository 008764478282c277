"""A dump of Farshore's own database in one of the attached stores."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class SelfBackup(models.Model):
    """taking ──> kept ──a newer seven are kept──> deleted
       └──> failed (`error`); what it left in the store is removed at the next one

    Its object holds `pg_dump`'s custom format, encrypted; the manifest beside it says of which parts.
    """

    class State(models.TextChoices):
        TAKING = "taking", "Being taken"
        KEPT = "kept", "Kept"
        FAILED = "failed", "Failed"
        DELETED = "deleted", "Deleted"

    store = models.ForeignKey("regions.Store", models.PROTECT, related_name="self_backups")
    key = models.CharField(max_length=500, unique=True)
    state = models.CharField(max_length=8, choices=State, default=State.TAKING)
    began_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    size = models.BigIntegerField(default=0)
    error = models.TextField(blank=True)
    cleaned_at = models.DateTimeField(null=True)  # nothing lies under its keys any more

    class Meta:
        indexes = [
            models.Index(fields=["-began_at"], condition=Q(state="kept"), name="self_backup_newest"),
        ]

    def __str__(self) -> str:
        return f"own database of {self.began_at:%Y-%m-%d %H:%M:%S}"
