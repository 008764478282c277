"""A file of a copy, handed out to a person: the meter of what was delivered, the links to it, and each use of one."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q


class Download(models.Model):
    """One file of a copy for one person: the meter, there before the first byte (R-4.3, I17).

    open ──its last missing byte was delivered──> whole: what is fetched afterwards is another download

    `ranges` are the distinct stretches delivered, [[first, end], …] in order, none touching the next; `delivered_bytes`
    is their sum. New links go on with an open one, so that a download may outlive its first link. What a store hands
    out by itself (`handed_over_at`) is free and nobody counts it.
    """

    class Address(models.TextChoices):
        INTERNET = "internet", "Internet"
        INTERNAL = "internal", "Internal (free)"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    copy = models.ForeignKey("backups.Copy", models.PROTECT, related_name="downloads")
    file = models.ForeignKey("backups.BackupFile", models.PROTECT, related_name="+")
    transfer = models.ForeignKey("backups.Transfer", models.PROTECT, related_name="+")
    address = models.CharField(max_length=8, choices=Address)
    name = models.CharField(max_length=255)  # what the file is called where it arrives
    size = models.BigIntegerField()
    ranges = models.JSONField(default=list)
    delivered_bytes = models.BigIntegerField(default=0)
    asked_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True)
    handed_over_at = models.DateTimeField(null=True)
    whole_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "copy", "file", "address"], condition=Q(whole_at=None), name="one_open_download"
            ),
            models.CheckConstraint(
                condition=Q(whole_at=None) | Q(delivered_bytes=F("size")), name="whole_to_the_last_byte"
            ),
            models.CheckConstraint(
                condition=Q(delivered_bytes__gte=0, delivered_bytes__lte=F("size")), name="delivered_within_size"
            ),
        ]
        indexes = [models.Index(fields=["copy", "-id"]), models.Index(fields=["whole_at"], name="download_whole")]

    def __str__(self) -> str:
        return f"{self.name} for {self.user}"


class DownloadLink(models.Model):
    """An address that hands out one file until it expires; of its token only the hash is kept (I18)."""

    download = models.ForeignKey(Download, models.PROTECT, related_name="links")
    token_hash = models.BinaryField(max_length=32, unique=True)  # SHA-256
    made_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"link {self.pk} to {self.download}"


class DownloadUse(models.Model):
    """One answer to a link: what was asked for, how much may have left us, how much is known to have arrived.

    running ──> ended; one whose process was killed stays running, and another that takes over tells how far it came.

    Bytes `first` to `end` (exclusive) were asked for. `handed`: the network may have the bytes before it (written
    before they are sent); `counted`: those before it are in the meter.
    """

    download = models.ForeignKey(Download, models.PROTECT, related_name="uses")
    link = models.ForeignKey(DownloadLink, models.PROTECT, related_name="uses")
    came_from = models.CharField(max_length=64, blank=True)
    served_by = models.CharField(max_length=120, blank=True)  # host:pid
    first = models.BigIntegerField()
    end = models.BigIntegerField()
    handed = models.BigIntegerField()
    counted = models.BigIntegerField()
    began_at = models.DateTimeField(db_index=True)
    seen_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(first__lte=F("counted"), counted__lte=F("handed"), handed__lte=F("end")),
                name="counted_after_it_was_handed_out",
            ),
        ]
        indexes = [models.Index(fields=["download"], condition=Q(ended_at=None), name="use_running")]

    def __str__(self) -> str:
        return f"use {self.pk} of {self.link}"
