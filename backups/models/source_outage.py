"""A stretch of time in which the store of a source region was not there: expiry pauses, and later shows why."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q


class SourceOutage(models.Model):
    """Open from the first look that found the store of a region gone to the first that found it back (I19)."""

    store = models.ForeignKey("regions.Store", models.PROTECT, related_name="outages")
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["store"], condition=Q(ended_at=None), name="one_open_outage"),
            models.CheckConstraint(condition=Q(ended_at=None) | Q(ended_at__gte=F("began_at")), name="outage_forward"),
        ]

    def __str__(self) -> str:
        return f"outage {self.pk} of the store of {self.store.region_id}"
