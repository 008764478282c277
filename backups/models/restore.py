"""A new server built from backup sets, and the sets it is built from."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from backups.models.instance import ALPHABET


def new_code() -> str:
    return "rs-" + "".join(secrets.choice(ALPHABET) for _ in range(17))


class Restore(models.Model):
    """queued ──claim──> running (`stage`) ──> ready (its server runs, held by a child under the lease) ──> removed
       ^     └──────────> failed, or cancelled: the engine was proved stopped, and nothing is left behind
    waiting: onto an instance that is there (`onto`), which a second person has to agree to (R-2.3)

    Held work (design.md §4): the child that restores goes on to hold the server. A ready restore whose lease ran out is
    claimed again and its server started again. `until` None: `set` exactly, or as far as the logs go.

    With `landed_as` a ready restore is a database of that name on a landing server (`landing`), or beside those of
    another instance (`onto`), and nobody holds it; `folder` is where its files lie in the share while it is built, ""
    when no attempt has left anything there or on the server.

    ready ──another one takes its instance over (`makes_room_for`)──> aside (stopped, its data kept)
      ^─────────────────────────put back────────────────────────────────┘ └──that one is confirmed──> removed
    """

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting for a second person"
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        READY = "ready", "Ready"
        ASIDE = "aside", "Set aside"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"
        REMOVED = "removed", "Removed"

    class Origin(models.TextChoices):
        COPY = "copy", "From copies in the backup region"
        DEFAULT = "default", "From default backups in the source region"

    ACTIVE = (State.QUEUED, State.RUNNING)
    PENDING = (State.WAITING, *ACTIVE)  # what it reads is kept
    STANDING = (State.READY, State.ASIDE)  # its server lies on a machine's disk
    HELD = (*ACTIVE, *STANDING)

    code = models.CharField(max_length=24, unique=True, default=new_code, editable=False)
    batch = models.CharField(max_length=36, blank=True)  # several instances to one moment, asked for in one go
    instance = models.ForeignKey("backups.Instance", models.PROTECT, related_name="restores")
    region = models.ForeignKey("regions.Region", models.PROTECT, related_name="+")  # where the new server stands
    origin = models.CharField(max_length=8, choices=Origin, default=Origin.COPY)
    database = models.CharField(max_length=200, blank=True)
    set = models.ForeignKey("backups.BackupSet", models.PROTECT, null=True, related_name="restores")
    until = models.DateTimeField(null=True)
    name = models.CharField(max_length=100)
    onto = models.ForeignKey("backups.Instance", models.PROTECT, null=True, related_name="replacements")
    landing = models.ForeignKey("backups.LandingServer", models.PROTECT, null=True, related_name="restores")
    landed_as = models.CharField("database on the landing server", max_length=128, blank=True)
    landed_identity = models.CharField(max_length=100, blank=True)  # as its engine tells it from any other database
    makes_room_for = models.ForeignKey("self", models.PROTECT, null=True, related_name="made_room")
    approved_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    approved_at = models.DateTimeField(null=True)
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    asked_at = models.DateTimeField()

    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    stage = models.CharField(max_length=20, blank=True)
    stage_began_at = models.DateTimeField(null=True)
    done = models.BigIntegerField(default=0)
    total = models.BigIntegerField(null=True)
    due_at = models.DateTimeField()
    fence = models.BigIntegerField(default=0)
    leased_until = models.DateTimeField(null=True)
    leased_by = models.CharField(max_length=120, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    cancel_asked_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    removed_at = models.DateTimeField(null=True)
    error_code = models.CharField(max_length=60, blank=True)
    error = models.TextField(blank=True)
    remedy = models.TextField(blank=True)

    folder = models.CharField(max_length=1000, blank=True)
    host = models.CharField(max_length=255, blank=True)
    port = models.PositiveIntegerField(null=True)
    username = models.CharField(max_length=128, blank=True)
    sealed_password = models.BinaryField(null=True, editable=False)
    restored_until = models.DateTimeField(null=True)
    last_change_at = models.DateTimeField(null=True)
    seconds = models.JSONField(default=dict)  # stage -> seconds
    rows = models.JSONField(default=dict)  # database.schema.table -> rows
    notes = models.JSONField(default=list)
    result = models.ForeignKey("backups.Instance", models.PROTECT, null=True, related_name="restored_from")

    class Meta:
        indexes = [
            models.Index(
                fields=["due_at"], condition=Q(state__in=["queued", "running", "ready", "aside"]), name="restore_due"
            ),
            models.Index(fields=["instance", "-id"], name="restore_of_instance"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["onto"], condition=Q(state__in=["waiting", "queued", "running"]), name="one_restore_onto"
            ),
            models.UniqueConstraint(fields=["result"], condition=Q(state="ready"), name="one_server_of_an_instance"),
            models.UniqueConstraint(
                "landing",
                Lower("landed_as"),
                condition=Q(landing__isnull=False, state__in=["queued", "running", "ready"]),
                name="one_restore_of_a_name",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.code} of {self.instance.name}"

    @property
    def goes_by(self) -> str:
        """The name of what is made: of a database beside others its own, for `name` is then that of their instance."""
        return self.landed_as or self.name

    @property
    def landed_on(self) -> str:
        """The name of the server that its database is on, "" where it is a server of its own."""
        if not self.landed_as:
            return ""
        return self.landing.name if self.landing else self.onto.name


class RestoreSource(models.Model):
    """One set a restore reads, in the order of applying: a copy at the destination, or the set at its own source."""

    restore = models.ForeignKey(Restore, models.CASCADE, related_name="sources")
    order = models.PositiveIntegerField()
    set = models.ForeignKey("backups.BackupSet", models.PROTECT, related_name="+")
    copy = models.ForeignKey("backups.Copy", models.PROTECT, null=True, related_name="+")

    class Meta:
        ordering = ["order"]
        constraints = [models.UniqueConstraint(fields=["restore", "order"], name="restore_source_order")]

    def __str__(self) -> str:
        return f"source {self.order} of restore {self.restore_id}"
