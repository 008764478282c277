"""The cross-border compliance agreement and who accepted it, for what. Rows are only ever added (R-13.2)."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q


class AgreementText(models.Model):
    """One version of the text in one language; the highest version is the current one."""

    version = models.PositiveIntegerField()
    language = models.CharField(max_length=10, default="en")
    text = models.TextField()
    sha256 = models.CharField(max_length=64)
    published_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["version", "language"], name="agreement_text_once")]
        ordering = ["-version", "language"]

    def __str__(self) -> str:
        return f"version {self.version} ({self.language})"


class Acceptance(models.Model):
    """Who accepted which text, when, from where, for which route. Append-only.

    `resource_group` set: a standing acceptance for all its instances and the pair of groups; else the instances are
    the rows of AcceptedInstance. It is in force while its text's version is the current one.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="acceptances")
    at = models.DateTimeField()
    address = models.CharField(max_length=64, blank=True)
    text = models.ForeignKey(AgreementText, models.PROTECT)
    text_version = models.PositiveIntegerField()
    text_sha256 = models.CharField(max_length=64)
    language = models.CharField(max_length=10)
    source_region = models.ForeignKey("regions.Region", models.PROTECT, null=True, related_name="+")
    destination_region = models.ForeignKey("regions.Region", models.PROTECT, null=True, related_name="+")
    source_group = models.CharField(max_length=30)
    destination_group = models.CharField(max_length=30)
    crosses_border = models.BooleanField()
    resource_group = models.ForeignKey("backups.ResourceGroup", models.PROTECT, null=True, related_name="acceptances")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(resource_group__isnull=False)
                | Q(source_region__isnull=False, destination_region__isnull=False),
                name="acceptance_names_its_route",
            ),
        ]
        indexes = [models.Index(fields=["-at"])]

    def __str__(self) -> str:
        return f"version {self.text_version} accepted {self.at:%Y-%m-%d %H:%M:%S} UTC"

    @property
    def is_standing(self) -> bool:
        return self.resource_group_id is not None


class AcceptedInstance(models.Model):
    """One instance an acceptance was given for, and the route version it was given under. Append-only."""

    acceptance = models.ForeignKey(Acceptance, models.PROTECT, related_name="accepted")
    instance = models.ForeignKey("backups.Instance", models.PROTECT, related_name="accepted")
    route_version = models.PositiveIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["acceptance", "instance"], name="accepted_once")]

    def __str__(self) -> str:
        return f"instance {self.instance_id} under acceptance {self.acceptance_id}"
