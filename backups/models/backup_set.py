"""One finished default backup and the files it lies in."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from backups.engines import engine_of
from backups.models.fields import PositionField, StoreKeyField


class Kind(models.TextChoices):
    FULL = "full", "Full"
    DIFFERENTIAL = "differential", "Differential"
    LOG = "log", "Log"


class SetStatus(models.TextChoices):
    SUCCEEDED = "succeeded", "Succeeded"
    INCOMPLETE = "incomplete", "Stripe missing"
    DAMAGED = "damaged", "Damaged"


class BackupFile(models.Model):
    """One file of default backups at its source. Another (version, size, mtime) under the same key is another file.

    seen ──second unchanged look──> settled ──> replaced (its key holds something else now) or gone
      └──> refused (not what it claims to be; `refusal_code` and `refusal` say why)
    elsewhere: known from a copy of it only, after the catalogue was rebuilt ──found as it was──> settled
    """

    class State(models.TextChoices):
        SEEN = "seen", "Seen once"
        SETTLED = "settled", "At the source"
        REFUSED = "refused", "Refused"
        REPLACED = "replaced", "Replaced"
        GONE = "gone", "Gone"
        DELETED = "deleted", "Deleted by Farshore"
        ELSEWHERE = "elsewhere", "Known from its copy"

    instance = models.ForeignKey("backups.Instance", models.PROTECT, related_name="files")
    store = models.ForeignKey("regions.Store", models.PROTECT, related_name="files")
    key = StoreKeyField()
    size = models.BigIntegerField()
    etag = models.CharField(max_length=200)
    version = models.CharField(max_length=200, blank=True)
    modified_at = models.DateTimeField()
    state = models.CharField(max_length=10, choices=State, default=State.SEEN)
    is_ours = models.BooleanField(default=False)  # Farshore took it; only such files are ever deleted
    integrity = models.JSONField(default=dict, blank=True)  # {"parts": [[size, sha256], …], "sha256": flat}
    refusal_code = models.CharField(max_length=60, blank=True)
    refusal = models.TextField(blank=True)
    media_set_guid = models.CharField(max_length=36, blank=True)
    first_seen_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["store", "key", "etag", "version", "size", "modified_at"], name="file_seen_once"
            ),
        ]
        indexes = [models.Index(fields=["instance", "state"])]

    def __str__(self) -> str:
        return self.key.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class BackupSetQuerySet(models.QuerySet):
    def valid(self) -> BackupSetQuerySet:
        """Succeeded, not damaged, and every file of it still at its source as recorded (R-6.1)."""
        lost = SetFile.objects.filter(set=models.OuterRef("pk")).exclude(file__state=BackupFile.State.SETTLED)
        return self.filter(status=SetStatus.SUCCEEDED, deleted_at=None).exclude(models.Exists(lost))

    def data(self) -> BackupSetQuerySet:
        return self.exclude(kind=Kind.LOG)


class BackupSet(models.Model):
    """One finished default backup: of one database on SQL Server, of the whole server (`database` "") elsewhere."""

    instance = models.ForeignKey("backups.Instance", models.PROTECT, related_name="sets")
    database = models.CharField(max_length=200, blank=True)
    kind = models.CharField(max_length=12, choices=Kind)
    method = models.CharField(max_length=10, default="physical")
    status = models.CharField(max_length=10, choices=SetStatus, default=SetStatus.SUCCEEDED)
    origin = models.CharField(max_length=5, default="found")  # found or taken
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField()
    first_position = PositionField(null=True)
    last_position = PositionField(null=True)
    checkpoint_position = PositionField(null=True)
    base_position = PositionField(null=True)
    fork = models.CharField(max_length=40, blank=True)
    parent_fork = models.CharField(max_length=40, blank=True)  # which this log's fork left, where and when
    fork_position = PositionField(null=True)
    forked_at = models.DateTimeField(null=True)
    set_guid = models.CharField(max_length=40, blank=True)
    family_guid = models.CharField(max_length=40, blank=True)
    base_guid = models.CharField(max_length=40, blank=True)
    is_copy_only = models.BooleanField(default=False)
    has_checksums = models.BooleanField(default=False)
    is_encrypted = models.BooleanField(default=False)
    certificate_thumbprint = models.CharField(max_length=64, blank=True)
    # Its header cannot be read: these are the words of its server.
    is_told_by_server = models.BooleanField(default=False, db_default=False)
    # The fields that its header and its server tell otherwise.
    contradiction = models.CharField(max_length=200, blank=True, default="", db_default="")
    server = models.CharField(max_length=200, blank=True)
    tool_version = models.CharField(max_length=60, blank=True)
    size_bytes = models.BigIntegerField(default=0)
    run_id = models.CharField(max_length=40, blank=True)
    discovered_at = models.DateTimeField()
    weighed_at = models.DateTimeField(null=True)  # planning has decided whether a copy of it is owed
    deletion_asked_at = models.DateTimeField(null=True)  # a person wants it gone from its source
    deleted_at = models.DateTimeField(null=True)
    files = models.ManyToManyField(BackupFile, through="backups.SetFile", related_name="sets")

    objects = BackupSetQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["instance", "set_guid"], condition=~Q(set_guid=""), name="set_found_once"),
            models.CheckConstraint(
                condition=Q(parent_fork="") | Q(fork_position__isnull=False, forked_at__isnull=False),
                name="fork_left_somewhere",
            ),
        ]
        indexes = [
            models.Index(fields=["instance", "-finished_at", "-id"]),
            models.Index(fields=["-finished_at", "-id"], name="set_by_age"),
            models.Index(fields=["instance", "database", "kind", "-finished_at"], name="set_newest"),
            models.Index(fields=["id"], condition=Q(weighed_at=None), name="set_to_weigh"),
            models.Index(fields=["id"], condition=~Q(contradiction=""), name="set_contradicted"),
            models.Index(
                fields=["id"], condition=Q(deletion_asked_at__isnull=False, deleted_at=None), name="set_to_delete"
            ),
            models.Index(fields=["instance"], condition=Q(first_position__lte=F("fork_position")), name="set_crosses"),
        ]

    def __str__(self) -> str:
        return f"{self.database or self.instance.name} {self.kind_word} {self.finished_at:%Y-%m-%d %H:%M:%S}"

    @property
    def kind_word(self) -> str:
        """The kind as people who know the engine call it, for the middle of a sentence."""
        if self.kind != Kind.DIFFERENTIAL:
            return self.kind
        return engine_of(self.instance.engine).capabilities.differential_label.lower()


class SetFile(models.Model):
    """A set lies in one file, in several stripes, or shares one file with other sets (appended, NOINIT)."""

    set = models.ForeignKey(BackupSet, models.CASCADE, related_name="set_files")
    file = models.ForeignKey(BackupFile, models.PROTECT, related_name="set_files")
    position = models.PositiveIntegerField(default=1)
    family_sequence = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["set", "family_sequence"], name="stripe_once"),
            models.UniqueConstraint(fields=["set", "file"], name="set_in_file_once"),
        ]

    def __str__(self) -> str:
        return f"file {self.file_id} of set {self.set_id}"
