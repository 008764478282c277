"""Logs on their way, what can be restored because of them, and what cannot: streams, intervals, gaps."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from backups.models.fields import PositionField


class LogStream(models.Model):
    """The receiving of one instance's logs: held work, one row an instance.

    wanted ──claim──> receiving (a child holds the lease) ──lease lost──> wanted again
    no longer wanted ──> ending (the server is told to forget us) ──> ended ──wanted again──> wanted

    Everything committed until `heard_at` lies in delivered pieces; `waiting_bytes` is what the server keeps for us.
    """

    class State(models.TextChoices):
        WANTED = "wanted", "Waiting to receive"
        RECEIVING = "receiving", "Receiving"
        ENDING = "ending", "Ending"
        ENDED = "ended", "Ended"

    ACTIVE = (State.WANTED, State.RECEIVING)

    instance = models.OneToOneField("backups.Instance", models.PROTECT, related_name="log_stream")
    state = models.CharField(max_length=10, choices=State, default=State.WANTED)
    due_at = models.DateTimeField()
    fence = models.BigIntegerField(default=0)
    leased_until = models.DateTimeField(null=True)
    leased_by = models.CharField(max_length=120, blank=True)
    failures = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    notes = ArrayField(models.TextField(), default=list, blank=True)
    started_at = models.DateTimeField(null=True)
    heard_at = models.DateTimeField(null=True)
    fork = models.CharField(max_length=40, blank=True)
    position = PositionField(null=True)
    waiting_bytes = models.BigIntegerField(null=True)
    forget_first = models.BooleanField(default=False)  # another server is the instance now; it may know us from before
    ended_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["due_at"], condition=Q(state__in=["wanted", "receiving", "ending"]), name="stream_due")
        ]

    def __str__(self) -> str:
        return f"logs of {self.instance.name} ({self.state})"


class RestorableInterval(models.Model):
    """Every moment from `began_at` to `ended_at`, both included, can be restored from completed copies (I7).

    Derived from the copies at one destination by `backups.chains.windows`; any run may rebuild it. Equal ends: a single
    point.
    """

    instance = models.ForeignKey("backups.Instance", models.CASCADE, related_name="intervals")
    store = models.ForeignKey("regions.Store", models.CASCADE, related_name="intervals")
    database = models.CharField(max_length=200, blank=True)
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    fork = models.CharField(max_length=40, blank=True)
    anchor = models.ForeignKey("backups.Copy", models.CASCADE, related_name="+")
    reached = PositionField(null=True)

    class Meta:
        ordering = ["began_at", "ended_at", "pk"]
        indexes = [models.Index(fields=["instance", "store", "database", "began_at"], name="interval_of_database")]
        constraints = [models.CheckConstraint(condition=Q(ended_at__gte=F("began_at")), name="interval_runs_forward")]

    def __str__(self) -> str:
        return f"{self.database} from {self.began_at:%Y-%m-%d %H:%M:%S} to {self.ended_at:%Y-%m-%d %H:%M:%S} UTC"


class LogGap(models.Model):
    """Changes that no log at a destination holds: from position `reached` to `begins`. Healed once (I8, R-9.4).

    found ──the missing file is copied (copy), a backup is taken (backup), or a person is asked (person)──> healed
    """

    class Healing(models.TextChoices):
        COPY = "copy", "The missing file is copied"
        BACKUP = "backup", "A backup is taken"
        PERSON = "person", "A person has to act"

    instance = models.ForeignKey("backups.Instance", models.PROTECT, related_name="log_gaps")
    store = models.ForeignKey("regions.Store", models.PROTECT, related_name="log_gaps")
    database = models.CharField(max_length=200, blank=True)
    fork = models.CharField(max_length=40, blank=True)
    reached_fork = models.CharField(max_length=40, blank=True)
    reached = PositionField()
    begins = PositionField()
    from_time = models.DateTimeField()
    until_time = models.DateTimeField()
    found_at = models.DateTimeField()
    healing = models.CharField(max_length=6, choices=Healing, blank=True)
    # Who took what is missing, where the server remembers it.
    broken_by = models.TextField(blank=True, default="", db_default="")
    job = models.ForeignKey("backups.BackupJob", models.PROTECT, null=True, related_name="heals")
    healed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["from_time", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["instance", "store", "database", "fork", "begins"], name="gap_found_once"),
        ]

    def __str__(self) -> str:
        return f"{self.database} from {self.from_time:%Y-%m-%d %H:%M:%S} to {self.until_time:%Y-%m-%d %H:%M:%S} UTC"
