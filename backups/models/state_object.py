"""What was last written at a destination of everything that may change after a manifest."""

from __future__ import annotations

from django.db import models


class StateObject(models.Model):
    """One row per (instance, store): the newest state object there, and the oldest one that is still kept.

    `sequence` is journaled before the object is written; `sha256` is of the newest content that arrived.
    """

    instance = models.ForeignKey("backups.Instance", models.PROTECT, related_name="state_objects")
    store = models.ForeignKey("regions.Store", models.PROTECT, related_name="state_objects")
    sequence = models.PositiveBigIntegerField(default=0)
    oldest = models.PositiveBigIntegerField(default=1)
    sha256 = models.CharField(max_length=64, blank=True)
    written_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["instance", "store"], name="state_object_once")]

    def __str__(self) -> str:
        return f"state {self.sequence} of {self.instance.name} in {self.store.region_id}"
