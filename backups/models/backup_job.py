"""A default backup that Farshore takes: asked for by the timetable, a person, or the 24-hour check."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q


class BackupJob(models.Model):
    """queued ──claim──> running ──> succeeded (`result`) or failed (`error`, tried again at `due_at`) or cancelled.

    At most one is queued or running per (instance, database), whatever is clicked twice (R-6.2); beside it one of the
    log, which goes on while a full backup takes its hours, and one that was waited for in vain: it runs on, another
    full is taken in its place (`overtaken_at`), and it is claimed no more.

    `waits_until`: it is queued while somebody else's job backs the database up, which was last `seen_running_at`.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        SUCCEEDED = "succeeded", "Succeeded"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    class Reason(models.TextChoices):
        TIMETABLE = "timetable", "Timetable"
        ON_DEMAND = "on_demand", "Asked for by a person"
        TWENTY_FOUR_HOURS = "24h", "No valid backup in the last 24 hours"
        LOG_GAP = "log_gap", "A gap in the logs"

    class On(models.TextChoices):
        PRIMARY = "primary", "The primary"
        SECONDARY = "secondary", "The secondary"

    ACTIVE = (State.QUEUED, State.RUNNING)

    instance = models.ForeignKey("backups.Instance", models.PROTECT, related_name="jobs")
    database = models.CharField(max_length=200, blank=True)
    kind = models.CharField(max_length=12, default="full")
    is_copy_only = models.BooleanField(default=False)  # it stands beside the backups of others (R-6.2b, R-9.3)
    on = models.CharField(max_length=9, choices=On, default=On.PRIMARY)
    reason = models.CharField(max_length=12, choices=Reason)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True)
    asked_at = models.DateTimeField()
    due_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    attempts = models.PositiveIntegerField(default=0)
    fence = models.BigIntegerField(default=0)
    leased_until = models.DateTimeField(null=True)
    attempt_key = models.CharField(max_length=500, blank=True)  # journaled before the upload is created
    upload_id = models.CharField(max_length=500, blank=True)
    sent_bytes = models.BigIntegerField(default=0)
    percent = models.PositiveSmallIntegerField(null=True)  # how far the server is, while it writes the backup itself
    waits_until = models.DateTimeField(null=True)
    seen_running_at = models.DateTimeField(null=True)
    overtaken_at = models.DateTimeField(null=True)
    error = models.TextField(blank=True)
    result = models.ForeignKey("backups.BackupSet", models.PROTECT, null=True, related_name="job")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["instance", "database"],
                condition=Q(state__in=["queued", "running"], overtaken_at=None) & ~Q(kind="log"),
                name="one_backup_at_a_time",
            ),
            models.UniqueConstraint(
                fields=["instance", "database"],
                condition=Q(state__in=["queued", "running"], kind="log"),
                name="one_log_backup_at_a_time",
            ),
        ]
        indexes = [models.Index(fields=["due_at"], condition=Q(state__in=["queued", "running"]), name="job_due")]

    def __str__(self) -> str:
        return f"{self.kind} backup of {self.instance.name} ({self.state})"
