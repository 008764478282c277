"""This Farshore was brought back: from the manifests of a store, or from a dump of its own database."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Recovery(models.Model):
    """waiting (nothing is expired or erased in its store) ──an administrator confirms──> confirmed

    `lost_sequence` and `lost_hash`: the head of the event log that the store had kept. After a rebuild from manifests
    the log goes on behind it; after a dump they say what the dump did not know yet.
    """

    class Kind(models.TextChoices):
        MANIFESTS = "manifests", "Rebuilt from manifests"
        DUMP = "dump", "Restored from a dump"

    store = models.OneToOneField("regions.Store", models.PROTECT, related_name="recovery")
    kind = models.CharField(max_length=9, choices=Kind)
    recovered_at = models.DateTimeField()
    copies = models.PositiveIntegerField(default=0)
    troubles = models.PositiveIntegerField(default=0)
    lost_sequence = models.BigIntegerField(default=0)
    lost_hash = models.CharField(max_length=64, blank=True)
    confirmed_at = models.DateTimeField(null=True)
    confirmed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")

    class Meta:
        verbose_name_plural = "recoveries"

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.store.region_id}"
