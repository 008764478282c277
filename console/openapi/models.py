"""What the programming interface keeps: access keys, which nonces were used, how often who called, tokens."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q


class Reach(models.TextChoices):
    """How much of what its owner may a key may."""

    LOOKS = "viewer", "Looks only"
    OPERATES = "operator", "Looks and operates"


class AccessKey(models.Model):
    """A program's way in, in its owner's name: never more than the owner may, and less where it says so.

    active <──enable, disable──> disabled (`disabled_at`). Never deleted: events name it. The secret is told once, when
    the key is created and when it is rotated; here it only lies sealed.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="access_keys")
    key_id = models.CharField("access key ID", max_length=40, unique=True)
    sealed_secret = models.BinaryField(editable=False)
    label = models.CharField(max_length=100, blank=True)
    reach = models.CharField(max_length=10, choices=Reach, default=Reach.OPERATES)
    is_limited = models.BooleanField(default=False)  # to `groups`, also when none of them is left; else its owner's
    groups = models.ManyToManyField("backups.ResourceGroup", blank=True, related_name="+")
    networks = ArrayField(models.CharField(max_length=50), default=list, blank=True)  # none: from anywhere
    rules_accepted_at = models.DateTimeField(null=True)  # of downloads; without it no answer holds a link
    created_at = models.DateTimeField()
    rotated_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)  # to the minute
    last_used_from = models.CharField(max_length=64, blank=True)
    disabled_at = models.DateTimeField(null=True)
    disabled_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.label} ({self.key_id})" if self.label else self.key_id

    @property
    def identity(self) -> str:
        """What the sealed secret is bound to."""
        return f"access key:{self.key_id}"

    @property
    def is_active(self) -> bool:
        return self.disabled_at is None


class UsedNonce(models.Model):
    """A nonce is good once per key; a row here is what says so, to every web process. Kept for 30 minutes."""

    key = models.ForeignKey(AccessKey, models.CASCADE, related_name="+")
    nonce = models.CharField(max_length=128)
    used_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "nonce"], name="nonce_once")]
        indexes = [models.Index(fields=["used_at"], name="nonce_by_age")]

    def __str__(self) -> str:
        return self.nonce


class CallCount(models.Model):
    """How often a key called: within a minute whatever it was (`what` ""), and each operation within an hour."""

    key = models.ForeignKey(AccessKey, models.CASCADE, related_name="+")
    what = models.CharField(max_length=60, blank=True)
    began_at = models.DateTimeField()
    calls = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "what", "began_at"], name="counted_once")]
        indexes = [models.Index(fields=["began_at"], name="count_by_age")]

    def __str__(self) -> str:
        return f"{self.calls} × {self.what or 'any'}"


class ClientToken(models.Model):
    """What a call with a ClientToken was answered: the same token again does nothing and answers the same."""

    key = models.ForeignKey(AccessKey, models.CASCADE, related_name="+")
    token = models.CharField(max_length=64)
    asked = models.CharField(max_length=64)  # SHA-256 of operation and parameters
    answer = models.JSONField(default=dict)
    made_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["key", "token"], name="client_token_once"),
            models.CheckConstraint(condition=~Q(token=""), name="client_token_says_something"),
        ]
        indexes = [models.Index(fields=["made_at"], name="client_token_by_age")]

    def __str__(self) -> str:
        return self.token
