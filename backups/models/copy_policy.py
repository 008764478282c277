"""Which instance's backups go to which region, for how long."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from regions.models import Store
from regions.stores import store_of


class PolicyKind(models.TextChoices):
    CROSS_REGION = "cross_region", "Cross-region"
    INTRA_REGION = "intra_region", "Intra-region"


class CopyPolicyQuerySet(models.QuerySet):
    def cross_region(self) -> CopyPolicyQuerySet:
        return self.filter(kind=PolicyKind.CROSS_REGION)

    def intra_region(self) -> CopyPolicyQuerySet:
        return self.filter(kind=PolicyKind.INTRA_REGION)

    def enabled(self) -> CopyPolicyQuerySet:
        return self.filter(enabled=True)

    def live(self) -> CopyPolicyQuerySet:
        """Enabled, and the instance has not been released: these keep their last good copy (R-15.6)."""
        return self.filter(enabled=True, instance__released_at=None)


class CopyPolicy(models.Model):
    """One row per (instance, kind, destination); at most one of an instance's is enabled.

    enabled ──Disabled──> ended (`end_reason` disabled) ──Enable──> enabled again, a new route_version
       └──another destination──> ended (destination changed), and the other destination's row is enabled
    `suspended_at` set: enabled, but the instance does not qualify now; nothing new is copied (R-3.4).

    `route_version` fences copies: it changes with Enable, Disabled and the destination, not with a release.
    `terms_version` guards retention and logs against lost updates (I14).
    """

    instance = models.ForeignKey("backups.Instance", models.PROTECT, related_name="policies")
    kind = models.CharField(max_length=12, choices=PolicyKind, default=PolicyKind.CROSS_REGION)
    source_region = models.ForeignKey("regions.Region", models.PROTECT, related_name="+")
    destination = models.ForeignKey("regions.Region", models.PROTECT, related_name="incoming_policies")
    enabled = models.BooleanField(default=False)
    retention_days = models.PositiveIntegerField(default=7)
    logs_enabled = models.BooleanField(default=False)
    route_version = models.PositiveIntegerField(default=1)
    terms_version = models.PositiveIntegerField(default=1)
    acceptance = models.ForeignKey("backups.Acceptance", models.PROTECT, null=True, blank=True, related_name="policies")
    created_at = models.DateTimeField(auto_now_add=True)
    enabled_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    end_reason = models.CharField(max_length=20, blank=True)
    suspended_at = models.DateTimeField(null=True)
    former_retention_days = models.PositiveIntegerField(null=True)  # what Undo brings back after a shortening
    shortened_at = models.DateTimeField(null=True)
    hidden_at = models.DateTimeField(null=True, editable=False)  # a disabled level-2 backup: nothing of it is shown
    dates_behind_since = models.DateTimeField(null=True, editable=False)  # logs came that what they need has no date of

    objects = CopyPolicyQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "copy policies"
        constraints = [
            models.CheckConstraint(
                condition=(Q(kind="cross_region") & ~Q(destination=F("source_region")))
                | (Q(kind="intra_region") & Q(destination=F("source_region"))),
                name="destination_differs_from_source",
            ),
            models.CheckConstraint(
                condition=Q(retention_days__gte=7, retention_days__lte=1825), name="retention_7_to_1825_days"
            ),
            models.CheckConstraint(
                condition=Q(enabled=False) | Q(kind="intra_region") | Q(acceptance__isnull=False),
                name="enabled_only_with_acceptance",
            ),
            models.UniqueConstraint(fields=["instance", "kind", "destination"], name="policy_per_destination"),
            models.UniqueConstraint(fields=["instance", "kind"], condition=Q(enabled=True), name="one_enabled_policy"),
        ]
        indexes = [
            models.Index(
                fields=["dates_behind_since"], condition=Q(dates_behind_since__isnull=False), name="policy_dates_behind"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.instance.name}: {self.source_region_id} to {self.destination_id}"

    @property
    def store(self) -> Store:
        """Return the attached store its copies go to; raises Refusal when there is none."""
        return store_of(self.destination_id, self._role)

    @property
    def last_store(self) -> Store | None:
        """Return the store its copies went to last, also when it is no longer attached."""
        known = Store.objects.filter(region=self.destination_id, role=self._role)
        return known.order_by(F("detached_at").desc(nulls_first=True), "-pk").first()

    @property
    def _role(self) -> str:
        return Store.Role.SECOND if self.kind == PolicyKind.INTRA_REGION else Store.Role.PRIMARY

    @property
    def version(self) -> str:
        """Return what a form carries to notice that somebody else saved first (I14)."""
        return f"{self.pk}.{self.route_version}.{self.terms_version}"


class Coverage(models.Model):
    """A stretch of time whose finished default backups are owed a copy under a policy (I2).

    Opened by enabling and by a suspension's end; closed by disabling, a change of destination, a suspension, a release.
    """

    policy = models.ForeignKey(CopyPolicy, models.PROTECT, related_name="coverage")
    content = models.CharField(max_length=4, default="data")  # data or log
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    route_version = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["policy", "content"], condition=Q(ended_at=None), name="one_open_coverage"),
        ]

    def __str__(self) -> str:
        return f"{self.content} from {self.began_at:%Y-%m-%d %H:%M:%S} UTC"
