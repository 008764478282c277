"""What asking a server came to, and the backups that it remembers and Farshore has not found."""

from __future__ import annotations

from django.db import models

from backups.models.backup_job import BackupJob
from backups.models.backup_set import Kind
from backups.models.fields import PositionField


class ServerLook(models.Model):
    """Asking one server of an instance how its databases stand and what it remembers of its backups.

    due (`due_at`) ──it answers──> `answered_at` moves on, due again in a minute
    └──it does not──> `failures` and `error` say so, due again later each time; nothing is concluded (I19)

    `cursor` is how far its history was read; all that it knew at `read_until` has been.
    """

    Side = BackupJob.On

    instance = models.ForeignKey("backups.Instance", models.CASCADE, related_name="server_looks")
    side = models.CharField(max_length=9, choices=Side, default=Side.PRIMARY)
    cursor = models.BigIntegerField(default=0)
    due_at = models.DateTimeField()
    asked_at = models.DateTimeField(null=True)
    answered_at = models.DateTimeField(null=True)
    read_until = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0)
    failing_since = models.DateTimeField(null=True)
    error = models.TextField(blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["instance", "side"], name="look_once_a_side")]
        indexes = [models.Index(fields=["due_at"], name="look_due")]

    def __str__(self) -> str:
        return f"the {self.side} of {self.instance.name}"


class RememberedSet(models.Model):
    """A backup set that an instance's server remembers and that lies, so far, nowhere that Farshore has found.

    remembered ──its file is found, by its header or by this row──> gone, a BackupSet stands for it
    └──five weeks pass, or too many newer ones come──> gone

    `devices`: where its stripes went, as the server calls them: [{"sequence", "name", "type"}]; `stored_bytes` lie on
    them together.
    """

    instance = models.ForeignKey("backups.Instance", models.CASCADE, related_name="remembered_sets")
    database = models.CharField(max_length=200)
    kind = models.CharField(max_length=12, choices=Kind)
    method = models.CharField(max_length=10, default="physical")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    first_position = PositionField(null=True)
    last_position = PositionField(null=True)
    checkpoint_position = PositionField(null=True)
    base_position = PositionField(null=True)
    fork = models.CharField(max_length=40, blank=True)
    set_guid = models.CharField(max_length=40)
    family_guid = models.CharField(max_length=40, blank=True)
    base_guid = models.CharField(max_length=40, blank=True)
    media_set_guid = models.CharField(max_length=40, blank=True)
    family_count = models.PositiveSmallIntegerField(default=1)
    position = models.PositiveIntegerField(default=1)
    is_copy_only = models.BooleanField(default=False)
    has_checksums = models.BooleanField(default=False)
    begins_log_chain = models.BooleanField(default=False)
    is_compressed = models.BooleanField(default=False)
    is_encrypted = models.BooleanField(default=False)
    is_damaged = models.BooleanField(default=False)
    is_foreign = models.BooleanField(default=False)  # it went through another tool's device, or nowhere
    certificate_thumbprint = models.CharField(max_length=64, blank=True)
    server = models.CharField(max_length=200, blank=True)
    software_version = models.CharField(max_length=60, blank=True)
    size_bytes = models.BigIntegerField(default=0)
    stored_bytes = models.BigIntegerField(default=0)
    devices = models.JSONField(default=list)
    taken_by = models.CharField(max_length=200, blank=True)
    called = models.CharField("name given by its job", max_length=200, blank=True)
    remembered_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["instance", "set_guid"], name="remembered_once")]
        indexes = [models.Index(fields=["instance", "database", "finished_at"], name="remembered_of_database")]

    def __str__(self) -> str:
        return f"{self.database} {self.kind} {self.finished_at:%Y-%m-%d %H:%M:%S}"
