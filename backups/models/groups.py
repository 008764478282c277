"""Whose instances these are: membership with a role is the only way to see or touch them (design.md §8)."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Role(models.TextChoices):
    VIEWER = "viewer", "Viewer"
    OPERATOR = "operator", "Operator"
    BILLING = "billing", "Billing"
    APPROVER = "approver", "Approver"
    SECURITY = "security", "Security"


class ResourceGroup(models.Model):
    """A team's set of instances."""

    name = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """One person's role in one group; a person may hold several."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships")
    group = models.ForeignKey(ResourceGroup, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "group", "role"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user}: {self.role} of {self.group}"
