"""A server in a region on which databases are restored from the copies that lie there (R-17.1, design.md §5)."""

from __future__ import annotations

import secrets

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from backups.models.instance import ALPHABET


def new_code() -> str:
    return "ls-" + "".join(secrets.choice(ALPHABET) for _ in range(17))


class LandingServerQuerySet(models.QuerySet):
    def living(self) -> LandingServerQuerySet:
        return self.filter(retired_at=None)


class LandingServer(models.Model):
    """A server that somebody runs, where Farshore may make new databases from files in a share that both see.

    registered, after a look that proved it ──looked at every minute (`error` says what is wrong)──> retired

    `groups` may restore onto it. What the last look told of it is for looking at: a restore asks the server itself.
    """

    code = models.CharField(max_length=24, unique=True, default=new_code, editable=False)
    name = models.CharField(max_length=100)
    region = models.ForeignKey("regions.Region", models.PROTECT, related_name="landing_servers")
    engine = models.CharField(max_length=20)
    host = models.CharField(max_length=255)
    port = models.PositiveIntegerField()
    username = models.CharField(max_length=128)
    sealed_password = models.BinaryField(null=True, editable=False)
    tls = models.CharField(max_length=12, default="prefer")
    share_called = models.CharField("share, as the server calls it", max_length=300)
    share_folder = models.CharField("the same share, on the worker", max_length=500)
    groups = models.ManyToManyField("backups.ResourceGroup", related_name="landing_servers")

    version = models.CharField(max_length=40, blank=True)
    databases = ArrayField(models.CharField(max_length=200), default=list)
    certificates = ArrayField(models.CharField(max_length=64), default=list)  # thumbprints in lower-case hex
    bytes_free = models.BigIntegerField(null=True)
    notes = models.JSONField(default=list)
    is_simulation = models.BooleanField(default=False)
    looked_at = models.DateTimeField(null=True)
    error = models.TextField(blank=True)
    remedy = models.TextField(blank=True)
    registered_at = models.DateTimeField()
    retired_at = models.DateTimeField(null=True)

    objects = LandingServerQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        constraints = [
            models.UniqueConstraint(Lower("name"), condition=Q(retired_at=None), name="one_landing_server_of_a_name"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.code})"
