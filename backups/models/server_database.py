"""One database of a server, as the server says it stands."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from backups.models.fields import PositionField


class ServerDatabaseQuerySet(models.QuerySet):
    def present(self) -> ServerDatabaseQuerySet:
        return self.filter(gone_at=None)

    def to_back_up(self) -> ServerDatabaseQuerySet:
        """Those a backup can be taken of now."""
        return self.present().filter(is_online=True, may_back_up=True)


class ServerDatabase(models.Model):
    """What the last complete look at an instance's server found of one database, where its engine tells databases
    apart (`engines.facts.DatabaseStanding`).

    present (`seen_at` moves on) ──not among the server's databases──> gone (`gone_at`) ──there again──> present
    """

    instance = models.ForeignKey("backups.Instance", models.PROTECT, related_name="databases")
    name = models.CharField(max_length=200)
    state = models.CharField(max_length=60)
    is_online = models.BooleanField(default=True)
    recovery_model = models.CharField(max_length=20, blank=True)
    has_logs = models.BooleanField(default=False)
    may_back_up = models.BooleanField(default=True)
    data_bytes = models.BigIntegerField(null=True)
    log_chain_position = PositionField(null=True)
    fork = models.CharField(max_length=40, blank=True)
    last_full_at = models.DateTimeField(null=True)
    certificate_thumbprint = models.CharField(max_length=64, blank=True)
    encrypted_since = models.DateTimeField(null=True)  # when it was seen without this certificate last; None: never
    availability_group = models.CharField(max_length=40, blank=True)
    is_primary = models.BooleanField(default=True)
    is_preferred = models.BooleanField(default=True)
    first_seen_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    gone_at = models.DateTimeField(null=True)

    objects = ServerDatabaseQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["instance", "name"], name="database_once")]
        indexes = [models.Index(fields=["instance"], condition=Q(gone_at=None), name="database_present")]

    def __str__(self) -> str:
        return self.name
