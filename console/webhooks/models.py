"""Events out: who wants to hear of what, what each is told, and every attempt to tell it."""

from __future__ import annotations

import secrets as randomness

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q


class Kind(models.TextChoices):
    """What can happen. The values stand in the body and are a promise to whoever reads it."""

    COPY_COMPLETED = "copy.completed", "A copy was completed"
    COPY_FAILED = "copy.failed", "A copy fails"
    COPY_LATE = "copy.late", "A copy is late"
    GAP_FOUND = "log_gap.found", "A gap in the logs was found"
    GAP_HEALED = "log_gap.healed", "A gap in the logs was healed"
    RESTORE_DONE = "restore.done", "A restore is done"
    DRILL_FAILED = "drill.failed", "A drill failed"
    BUDGET_REACHED = "budget.reached", "A threshold of a budget was reached"
    PING = "ping", "A test"


CHOSEN = [kind for kind in Kind if kind != Kind.PING]  # a test goes wherever it is sent


def new_code() -> str:
    return f"wh-{randomness.token_hex(8)}"


def new_message_id() -> str:
    return f"msg_{randomness.token_hex(16)}"


class EndpointQuerySet(models.QuerySet["Endpoint"]):
    def kept(self) -> EndpointQuerySet:
        return self.filter(removed_at=None)

    def enabled(self) -> EndpointQuerySet:
        return self.kept().filter(disabled_at=None)


class Endpoint(models.Model):
    """An address that is told what happens, in its owner's name: never of what the owner may not see.

    enabled <──enable, disable (a person, a 410, days of failures)──> disabled (`disabled_at`, `disabled_why`)
    Removed (`removed_at`) it is shown to nobody and has no secret any more; events name it. The secret is told once.
    Those before it sign as well for a while: `former_secrets`.
    `sequence`: the last seal whose event was looked at; `looked_at`: when alerts were, none from before `since`.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="webhooks")
    code = models.CharField(max_length=24, unique=True, default=new_code, editable=False)
    name = models.CharField(max_length=100)
    url = models.CharField("URL", max_length=500)
    kinds = ArrayField(models.CharField(max_length=20, choices=Kind))
    is_limited = models.BooleanField(default=False)  # to `groups`, also when none of them is left; else its owner's
    groups = models.ManyToManyField("backups.ResourceGroup", blank=True, related_name="+")
    sealed_secret = models.BinaryField(editable=False)
    created_at = models.DateTimeField()
    rotated_at = models.DateTimeField(null=True)
    disabled_at = models.DateTimeField(null=True)
    disabled_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    disabled_why = models.TextField(blank=True)
    removed_at = models.DateTimeField(null=True)

    sequence = models.BigIntegerField(default=0)
    since = models.DateTimeField()
    looked_at = models.DateTimeField()

    failures = models.PositiveIntegerField(default=0)  # since something was last delivered
    failing_since = models.DateTimeField(null=True)
    paused_until = models.DateTimeField(null=True)
    last_delivered_at = models.DateTimeField(null=True)

    objects = EndpointQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(condition=~Q(kinds=[]), name="webhook_hears_of_something"),
            models.CheckConstraint(
                condition=Q(removed_at=None) | Q(disabled_at__isnull=False, sealed_secret=b""),
                name="webhook_removed_knows_nothing",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.code})"

    @property
    def identity(self) -> str:
        """What the sealed secrets are bound to."""
        return f"webhook:{self.code}"

    @property
    def is_enabled(self) -> bool:
        return self.disabled_at is None and self.removed_at is None


class FormerSecret(models.Model):
    """A secret that another has replaced: it signs beside the newer ones until its own day is over."""

    endpoint = models.ForeignKey(Endpoint, models.CASCADE, related_name="former_secrets")
    sealed = models.BinaryField(editable=False)
    until = models.DateTimeField()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.endpoint} until {self.until:%Y-%m-%d %H:%M} UTC"

    @property
    def identity(self) -> str:
        """What it was sealed for when it was the endpoint's own."""
        return self.endpoint.identity


class Delivery(models.Model):
    """One happening for one endpoint: exactly one row, sent until it is taken or given up.

    waiting ──claim (`fence`, lease), 2xx──> delivered
       ^ └──tried too often──> failed      └──nobody may hear of it any more──> dropped (`why`)
       └──────────── sent again by a person, under the same `message_id` ────────────┘
    `source` names the row it was derived from: event:12, alert:7.
    """

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Failed"
        DROPPED = "dropped", "Dropped"

    endpoint = models.ForeignKey(Endpoint, models.PROTECT, related_name="deliveries")
    kind = models.CharField(max_length=20, choices=Kind)
    source = models.CharField(max_length=40)
    message_id = models.CharField("message ID", max_length=40, unique=True, default=new_message_id, editable=False)
    instance = models.ForeignKey("backups.Instance", models.PROTECT, null=True, related_name="+")
    group = models.ForeignKey("backups.ResourceGroup", models.PROTECT, null=True, related_name="+")  # of a budget
    occurred_at = models.DateTimeField()
    body = models.TextField()
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    why = models.TextField(blank=True)
    created_at = models.DateTimeField()
    due_at = models.DateTimeField()
    fence = models.BigIntegerField(default=0)
    leased_until = models.DateTimeField(null=True)
    attempts = models.PositiveIntegerField(default=0)  # since a person asked last
    last_status = models.PositiveIntegerField(null=True)
    last_error = models.CharField(max_length=300, blank=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ["-pk"]
        constraints = [models.UniqueConstraint(fields=["endpoint", "source"], name="webhook_told_once")]
        indexes = [
            models.Index(fields=["endpoint", "due_at"], condition=Q(state="waiting"), name="webhook_due"),
            models.Index(fields=["endpoint", "-id"], name="webhook_log"),
            models.Index(fields=["created_at"], name="webhook_by_age"),
            models.Index(fields=["endpoint"], condition=Q(state="failed"), name="webhook_failed"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.message_id}"


class Attempt(models.Model):
    """One POST: written down before it begins; `ended_at` None: on its way, or its worker died."""

    delivery = models.ForeignKey(Delivery, models.CASCADE, related_name="tries")
    fence = models.BigIntegerField()
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    status = models.PositiveIntegerField(null=True)
    milliseconds = models.PositiveIntegerField(null=True)
    error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [models.UniqueConstraint(fields=["delivery", "fence"], name="webhook_attempt_once")]

    def __str__(self) -> str:
        return f"{self.delivery}: {self.status or self.error or 'no word'}"


class Turn(models.Model):
    """Whose turn it is to send: one run at a time in the installation, until it ends or its lease does. One row."""

    fence = models.BigIntegerField(default=0)
    leased_until = models.DateTimeField(null=True)
    leased_by = models.CharField(max_length=120, blank=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="webhook_one_turn")]

    def __str__(self) -> str:
        return f"turn {self.fence} of {self.leased_by or 'nobody'}"

    @classmethod
    def current(cls) -> Turn:
        return cls.objects.get_or_create(id=1)[0]
