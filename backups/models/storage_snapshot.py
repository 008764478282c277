"""What an attempt at a snapshot backup has suspended, and had the storage take; it stays until both are undone."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class StorageSnapshot(models.Model):
    """One for each attempt, written down before anything is suspended.

    began ──> hook_began_at (from here on the storage may have one) ──> thawed_at ──> recorded_at ──> released_at
      └──> given_up_at, and then thawed_at and released_at, whoever sees to it
    """

    job = models.ForeignKey("backups.BackupJob", models.PROTECT, related_name="storage_snapshots")
    fence = models.BigIntegerField()
    database = models.CharField(max_length=200)
    attempt = models.CharField(max_length=120)  # as its session and its files are called
    metadata = models.CharField(max_length=300)  # the file that the server writes into the share
    handle = models.CharField(max_length=120)  # what the hook is told: the same when it releases
    key = models.CharField(max_length=500, blank=True)  # the first of the objects that it is stored as
    began_at = models.DateTimeField()
    hook_began_at = models.DateTimeField(null=True)
    thawed_at = models.DateTimeField(null=True)
    recorded_at = models.DateTimeField(null=True)
    given_up_at = models.DateTimeField(null=True)
    released_at = models.DateTimeField(null=True)
    tried_at = models.DateTimeField(null=True)  # when it was last seen to that both are undone
    error = models.TextField(blank=True)  # why it is not thawed, or not released, yet

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "fence"], name="one_snapshot_an_attempt"),
            models.CheckConstraint(condition=Q(recorded_at=None) | Q(given_up_at=None), name="recorded_or_given_up"),
        ]
        indexes = [
            models.Index(fields=["job"], condition=Q(thawed_at=None) | Q(released_at=None), name="snapshot_open"),
        ]

    def __str__(self) -> str:
        return self.handle
