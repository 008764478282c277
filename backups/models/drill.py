"""A rehearsed restore: what was restored from a copy in a throw-away server, what was checked, and what it proves."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q


class Drill(models.Model):
    """queued ──claim──> running ──> passed, failed or skipped (`sentence` says why); the evidence stays.

    A canary drill restores a deliberately damaged clone: it has passed when that restore failed.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        PASSED = "passed", "Passed"
        FAILED = "failed", "Failed"
        SKIPPED = "skipped", "Skipped"

    class Pick(models.TextChoices):
        NEWEST = "newest", "The newest moment"
        OLDEST = "oldest", "The oldest moment"
        RANDOM = "random", "A random moment"
        CANARY = "canary", "A damaged clone that must fail"

    ACTIVE = (State.QUEUED, State.RUNNING)

    instance = models.ForeignKey("backups.Instance", models.PROTECT, related_name="drills")
    store = models.ForeignKey("regions.Store", models.PROTECT, null=True, related_name="+")
    database = models.CharField(max_length=200, blank=True)
    pick = models.CharField(max_length=8, choices=Pick, default=Pick.NEWEST)
    set = models.ForeignKey("backups.BackupSet", models.PROTECT, null=True, related_name="drills")  # its anchor
    until = models.DateTimeField(null=True)
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    asked_at = models.DateTimeField()

    state = models.CharField(max_length=8, choices=State, default=State.QUEUED)
    due_at = models.DateTimeField()
    fence = models.BigIntegerField(default=0)
    leased_until = models.DateTimeField(null=True)
    leased_by = models.CharField(max_length=120, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    sentence = models.TextField(blank=True)
    isolation = models.CharField(max_length=12, blank=True)  # namespace, socket, or landing: beside others
    restored_until = models.DateTimeField(null=True)
    seconds = models.JSONField(default=dict)  # stage -> seconds
    rows = models.JSONField(default=dict)  # database.schema.table -> rows
    checks = models.JSONField(default=list)  # [{"name", "passed", "findings"}]
    evidence = models.JSONField(default=dict)  # which copies with which digests, tools and versions, the server's words

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["instance", "pick"], condition=Q(state__in=["queued", "running"]), name="one_drill_at_a_time"
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(state__in=["queued", "running"]), name="drill_due"),
            models.Index(fields=["instance", "state", "-finished_at"], name="drill_newest"),
        ]

    def __str__(self) -> str:
        return f"drill {self.pk} of {self.instance.name} ({self.state})"


class DrillQuery(models.Model):
    """The team's own question to a restored server, and the answer it must give."""

    instance = models.ForeignKey("backups.Instance", models.CASCADE, related_name="drill_queries")
    database = models.CharField(max_length=200)
    sql = models.TextField()
    expected = models.TextField()
    added_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    added_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "drill queries"

    def __str__(self) -> str:
        return f"{self.database}: {self.sql[:60]}"
