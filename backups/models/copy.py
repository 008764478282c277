"""What is owed to, or present in, a destination; the attempts that brought it; what is charged for it."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models import Q

from backups.models.copy_policy import PolicyKind
from backups.models.fields import StoreKeyField


class CopyState(models.TextChoices):
    PLANNED = "planned", "Waiting"
    COPYING = "copying", "Copying"
    VERIFYING = "verifying", "Verifying"
    COMPLETED = "completed", "Completed"
    EXPIRED = "expired", "Expired"
    DELETED = "deleted", "Deleted"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"
    DAMAGED = "damaged", "Damaged"
    HIDDEN = "hidden", "Hidden"


class CancelReason(models.TextChoices):
    """The closed list of R-5.2."""

    DISABLED = "disabled", "Cross-region backup was disabled"
    DESTINATION_CHANGED = "destination_changed", "The destination was changed"
    SOURCE_GONE = "source_gone", "The file vanished from its source"
    EXPIRED = "expired_before_arrival", "It expired before it arrived"
    PERSON = "by_a_person", "Cancelled by a person"


DAMAGED = "damaged"  # in `verification`: what was proven once no longer holds
PENDING = (CopyState.PLANNED, CopyState.COPYING, CopyState.VERIFYING, CopyState.FAILED)
ENDED = (CopyState.CANCELLED, CopyState.DELETED)
RESTORABLE = (CopyState.COMPLETED,)


class CopyQuerySet(models.QuerySet):
    def pending(self) -> CopyQuerySet:
        return self.filter(state__in=PENDING)

    def live(self) -> CopyQuerySet:
        return self.exclude(state__in=ENDED)

    def restorable(self) -> CopyQuerySet:
        return self.filter(state__in=RESTORABLE)

    def present(self) -> CopyQuerySet:
        """Bytes lie at the destination under our name: listed, though not all are offered."""
        return self.filter(state__in=(CopyState.COMPLETED, CopyState.EXPIRED, CopyState.DAMAGED))

    def visible(self) -> CopyQuerySet:
        """Leave out what a disabled level-2 backup keeps, or once planned (R-18.2)."""
        return self.filter(policy__hidden_at=None)

    def cross_region(self) -> CopyQuerySet:
        return self.filter(policy__kind=PolicyKind.CROSS_REGION)


class Copy(models.Model):
    """planned → copying → verifying → completed → expired → deleted

    Side states: failed (tried again at `due_at`, alert open), cancelled (reason from CancelReason), damaged.
    completed ──its bytes are no longer those──> damaged ──carried again beside them, proven──> completed (mending)
    completed, damaged ──level-2 disabled──> hidden (free, does not age) ──enabled again──> what it was (R-18.2)
    Unique per (set, destination store) while not cancelled or deleted; coming back to a destination adopts the live
    one. `fence` rises with every claim: a worker whose fence is not current commits nothing (I15). A copy commits only
    under the `route_version` it was planned under (I10).
    """

    class Origin(models.TextChoices):
        TRIGGERED = "triggered", "After its default backup"
        TWENTY_FOUR_HOURS = "24h", "The 24-hour check"
        BASE = "base", "A differential needs it"
        PERSON = "person", "Asked for by a person"

    set = models.ForeignKey("backups.BackupSet", models.PROTECT, related_name="copies")
    policy = models.ForeignKey("backups.CopyPolicy", models.PROTECT, related_name="copies")
    destination_store = models.ForeignKey("regions.Store", models.PROTECT, related_name="copies")
    state = models.CharField(max_length=10, choices=CopyState, default=CopyState.PLANNED)
    origin = models.CharField(max_length=10, choices=Origin, default=Origin.TRIGGERED)
    route_version = models.PositiveIntegerField()
    priority = models.PositiveSmallIntegerField(default=10)  # logs 0, bases 5, data 10
    total_bytes = models.BigIntegerField(default=0)
    planned_at = models.DateTimeField()
    due_at = models.DateTimeField()
    fence = models.BigIntegerField(default=0)
    leased_until = models.DateTimeField(null=True)
    leased_by = models.CharField(max_length=120, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    started_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)
    cancel_reason = models.CharField(max_length=24, choices=CancelReason, blank=True)
    completed_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)  # None while held
    kept_for = models.CharField(max_length=20, blank=True)  # why later than its own date: see backups.keeping.retention
    locked_until = models.DateTimeField(null=True)  # how long its store refuses to delete it, as it last said
    lock_keeps_until = models.DateTimeField(null=True)  # the latest lock of it and of what needs it
    expired_at = models.DateTimeField(null=True)
    purge_at = models.DateTimeField(null=True)
    brought_forward_at = models.DateTimeField(null=True)  # a person moved its expiry nearer; the breaker counts these
    brought_forward_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    approved_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    times_damaged = models.PositiveSmallIntegerField(default=0, db_default=0)
    mend_at = models.DateTimeField(null=True)  # a damaged one is carried again then; None: by a person only
    former_manifest_key = models.CharField(
        max_length=500, blank=True, default="", db_default=""
    )  # of the damaged bytes
    hidden_at = models.DateTimeField(null=True)  # since when it does not age: see backups.level2
    hidden_for = models.DurationField(default=timedelta(0))  # how long it did not, before that
    deleting_since = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)
    manifest_key = models.CharField(max_length=500, blank=True)
    manifest_etag = models.CharField(max_length=200, blank=True)
    reference = models.CharField(max_length=20, blank=True)  # what the source said: see backups.copying.verification
    verification = models.CharField(max_length=40, blank=True)  # what the files' own checksums prove
    stored_bytes = models.BigIntegerField(default=0)

    objects = CopyQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "copies"
        constraints = [
            models.UniqueConstraint(
                fields=["set", "destination_store"],
                condition=~Q(state__in=["cancelled", "deleted"]),
                name="one_live_copy",
            ),
            models.CheckConstraint(
                condition=Q(state="cancelled", cancel_reason__in=CancelReason.values)
                | (~Q(state="cancelled") & Q(cancel_reason="")),
                name="cancelled_with_a_reason",
            ),
            models.CheckConstraint(
                condition=~Q(state="completed") | Q(completed_at__isnull=False) & ~Q(manifest_key=""),
                name="completed_with_a_manifest",
            ),
            models.CheckConstraint(
                condition=~Q(state="deleted") | Q(deleted_at__isnull=False, expired_at__isnull=False),
                name="deleted_after_expiring",
            ),
        ]
        indexes = [
            models.Index(
                fields=["destination_store", "priority", "due_at"],
                condition=Q(state__in=["planned", "copying", "verifying", "failed"]),
                name="copy_due",
            ),
            models.Index(fields=["expires_at"], condition=Q(state="completed"), name="copy_expiring"),
            models.Index(fields=["purge_at"], condition=Q(state="expired"), name="copy_purging"),
            models.Index(fields=["policy", "state"]),
            models.Index(
                fields=["set", "destination_store"], condition=Q(verification="damaged"), name="copy_once_damaged"
            ),
            models.Index(fields=["mend_at"], condition=Q(state="damaged"), name="copy_to_mend"),
            models.Index(fields=["destination_store"], condition=~Q(former_manifest_key=""), name="copy_once_mended"),
        ]

    def __str__(self) -> str:
        return f"copy {self.pk} of {self.set}"

    @property
    def is_damaged(self) -> bool:
        """Its bytes no longer are what was verified; this stays so when it has expired, and when that is undone."""
        return self.verification == DAMAGED


class Transfer(models.Model):
    """One attempt to bring one file to one store, under an object key of its own that no other attempt ever uses.

    journaled → uploading → uploaded → verified; or abandoned (its upload aborted, its object removed) → cleaned;
    a verified one ends deleting → deleted with the last copy that needs it. One whose object is no longer what was
    verified is damaged, until the one that `replaces` it is proven; then it is abandoned. Bills traffic.
    """

    class State(models.TextChoices):
        JOURNALED = "journaled", "Journaled"
        UPLOADING = "uploading", "Uploading"
        UPLOADED = "uploaded", "Uploaded"
        VERIFIED = "verified", "Verified"
        ABANDONED = "abandoned", "Abandoned"
        CLEANED = "cleaned", "Cleaned up"
        DELETING = "deleting", "Being deleted"
        DELETED = "deleted", "Deleted"
        DAMAGED = "damaged", "Damaged"

    UNDER_WAY = (State.JOURNALED, State.UPLOADING, State.UPLOADED)

    file = models.ForeignKey("backups.BackupFile", models.PROTECT, related_name="transfers")
    store = models.ForeignKey("regions.Store", models.PROTECT, related_name="transfers")
    replaces = models.ForeignKey("self", models.PROTECT, null=True, related_name="replacements", db_index=False)
    key = StoreKeyField()
    state = models.CharField(max_length=10, choices=State, default=State.JOURNALED)
    fence = models.BigIntegerField()
    upload_id = models.CharField(max_length=500, blank=True)
    size = models.BigIntegerField()
    bytes_sent = models.BigIntegerField(default=0)
    bytes_resent = models.BigIntegerField(default=0)
    bytes_verified = models.BigIntegerField(default=0)
    digest = models.CharField(max_length=64, blank=True)
    reference = models.CharField(max_length=20, blank=True)
    etag = models.CharField(max_length=200, blank=True)
    version = models.CharField(max_length=200, blank=True)
    error = models.TextField(blank=True)
    started_at = models.DateTimeField()
    uploaded_at = models.DateTimeField(null=True)
    verified_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    verification = models.CharField(max_length=40, blank=True)  # what the file's own checksums prove
    verifier_state = models.JSONField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["store", "key"], name="one_row_names_one_object"),
            models.UniqueConstraint(
                fields=["file", "store"],
                condition=Q(state__in=["journaled", "uploading", "uploaded"]),
                name="one_attempt_under_way",
            ),
        ]
        indexes = [
            models.Index(fields=["store"], condition=Q(state="abandoned"), name="transfer_to_clean"),
            models.Index(fields=["verified_at"], condition=Q(replaces__isnull=False), name="transfer_once_more"),
        ]

    def __str__(self) -> str:
        return f"transfer {self.pk} ({self.state})"


class TransferPart(models.Model):
    """One part the destination acknowledged, and later read back."""

    transfer = models.ForeignKey(Transfer, models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField()
    offset = models.BigIntegerField()
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    md5 = models.CharField(max_length=32, blank=True)
    etag = models.CharField(max_length=200)
    sent_at = models.DateTimeField(auto_now_add=True)
    verified_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["transfer", "number"], name="part_once")]
        ordering = ["number"]

    def __str__(self) -> str:
        return f"part {self.number} of transfer {self.transfer_id}"


class CopiedFile(models.Model):
    """Which transfer brought which file of a copy; copies of sets in one file share the transfer."""

    copy = models.ForeignKey(Copy, models.CASCADE, related_name="copied_files")
    file = models.ForeignKey("backups.BackupFile", models.PROTECT, related_name="+")
    transfer = models.ForeignKey(Transfer, models.PROTECT, related_name="copied_files")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["copy", "file"], name="file_of_copy_once")]

    def __str__(self) -> str:
        return f"file {self.file_id} of copy {self.copy_id}"


class StorageSpan(models.Model):
    """A stretch of time in which a copy is charged: opened and closed in the transaction of the state change (R-4.1).

    `ended_at` None: still open; the meter counts until the copy's `expires_at` or now, whichever is first. An exclusion
    constraint (migration) forbids two spans of one copy to overlap.
    """

    copy = models.ForeignKey(Copy, models.PROTECT, related_name="spans")
    bytes = models.BigIntegerField()
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["copy"], condition=Q(ended_at=None), name="one_open_span"),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gte=models.F("began_at")), name="span_runs_forward"
            ),
        ]
        indexes = [
            models.Index(fields=["ended_at"], name="span_by_end"),  # a month's: those that are open or end after it
            models.Index(fields=["began_at"], name="span_by_begin"),
        ]

    def __str__(self) -> str:
        return f"{self.bytes} bytes from {self.began_at:%Y-%m-%d %H:%M:%S} UTC"


class Pin(models.Model):
    """Why bytes must stay for now: a restore, drill, download or re-copy reads them. Never moves an expiry."""

    copy = models.ForeignKey(Copy, models.CASCADE, related_name="pins")
    reason = models.CharField(max_length=20)
    pinned_at = models.DateTimeField()
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"copy {self.copy_id} pinned: {self.reason}"


class Hold(models.Model):
    """A person keeps a copy beyond its date, under a case number, until somebody releases it."""

    copy = models.ForeignKey(Copy, models.CASCADE, related_name="holds")
    case_number = models.CharField(max_length=100)
    placed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    placed_at = models.DateTimeField()
    released_at = models.DateTimeField(null=True)
    released_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")

    def __str__(self) -> str:
        return f"copy {self.copy_id} held under {self.case_number}"
