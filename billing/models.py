"""What things cost, and from when until when (R-4.5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import ArrayField, DateTimeRangeField, RangeOperators
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Func, Q, Value

from regions.models import Region


class ItemCode(models.TextChoices):
    """The codes under which the statement's lines stand."""

    STORAGE = "DdrOssStorageSize", "Cross-region storage"
    TRAFFIC = "NetworkOutDuplicationSize", "Cross-region network traffic"
    DOWNLOAD = "NetworkOutSize", "Download over the Internet"


class Unit(models.TextChoices):
    GB_HOUR = "USD/GB-hour", "USD per GB and hour"
    GB = "USD/GB", "USD per GB"


UNITS = {ItemCode.STORAGE: Unit.GB_HOUR, ItemCode.TRAFFIC: Unit.GB, ItemCode.DOWNLOAD: Unit.GB}


class Validity(Func):
    """The stretch of time in which a price holds: from its first moment up to, not including, its last."""

    function = "tstzrange"
    output_field = DateTimeRangeField()


class PriceQuerySet(models.QuerySet["Price"]):
    def at(self, moment: object) -> PriceQuerySet:
        return self.filter(Q(valid_until=None) | Q(valid_until__gt=moment), valid_from__lte=moment)


class Price(models.Model):
    """One price for one place or route, in USD.

    `source` and `destination` are region ids, "" for any; they are words and not references, because the published
    book names routes of regions that an installation may never have. `source_scope` prices all regions of a scope.
    A price is never edited or deleted: it ends (`valid_until`), and another begins (a trigger sees to it). Two prices
    for one key never overlap in time.
    """

    item_code = models.CharField(max_length=30, choices=ItemCode)
    source = models.SlugField("source region", max_length=50, blank=True, db_index=False)
    source_scope = models.CharField(max_length=10, choices=Region.Scope, blank=True)
    destination = models.SlugField("destination region", max_length=50, blank=True, db_index=False)
    amount = models.DecimalField("amount (USD)", max_digits=12, decimal_places=6, validators=[MinValueValidator(0)])
    unit = models.CharField(max_length=12, choices=Unit)
    coefficient = models.DecimalField(
        max_digits=12,
        decimal_places=6,
        null=True,
        blank=True,
        help_text="Prepaid GB that one GB takes from a network plan: the route's price / 0.12.",
    )
    valid_from = models.DateTimeField()
    valid_until = models.DateTimeField(null=True, blank=True)

    objects = PriceQuerySet.as_manager()

    class Meta:
        ordering = ["item_code", "source_scope", "source", "destination", "-valid_from"]
        constraints = [
            ExclusionConstraint(
                name="one_price_at_a_time",
                expressions=[
                    (F("item_code"), RangeOperators.EQUAL),
                    (F("source"), RangeOperators.EQUAL),
                    (F("source_scope"), RangeOperators.EQUAL),
                    (F("destination"), RangeOperators.EQUAL),
                    (Validity("valid_from", "valid_until", Value("[)")), RangeOperators.OVERLAPS),
                ],
                violation_error_message="Another price already holds in this time. End it first.",
            ),
            models.CheckConstraint(
                condition=Q(valid_until=None) | Q(valid_until__gt=F("valid_from")),
                name="price_runs_forward",
                violation_error_message="A price ends after it begins.",
            ),
            models.CheckConstraint(condition=Q(amount__gte=0), name="price_not_negative"),
            models.CheckConstraint(
                condition=Q(source="") | Q(source_scope=""),
                name="price_for_a_region_or_a_scope",
                violation_error_message="A price is for one region or for a scope, not for both.",
            ),
            models.CheckConstraint(
                condition=Q(item_code="DdrOssStorageSize", unit="USD/GB-hour")
                | Q(item_code__in=["NetworkOutDuplicationSize", "NetworkOutSize"], unit="USD/GB"),
                name="price_in_its_unit",
                violation_error_message="Storage is priced per GB and hour, everything else per GB.",
            ),
            models.CheckConstraint(
                condition=~Q(item_code="NetworkOutDuplicationSize") | ~Q(source="") & ~Q(destination=""),
                name="traffic_price_names_its_route",
                violation_error_message="A traffic price names both ends of its route.",
            ),
        ]

    def __str__(self) -> str:
        places = " to ".join(filter(None, [self.source or self.get_source_scope_display(), self.destination]))
        return " ".join(filter(None, [self.get_item_code_display(), places, f"{self.amount} {self.unit}"]))


class DownloadCharge(models.Model):
    """One file that left a store whole, once for each download link (R-4.3); the quota and the price are reckoned.

    Only ever added (a trigger), in the moment the last byte was delivered. What left through the internal address
    stands here too and is free.
    """

    class Address(models.TextChoices):
        INTERNET = "internet", "Internet"
        INTERNAL = "internal", "Internal network"

    link = models.CharField(max_length=64, unique=True)  # what names the download link: each is charged once
    instance = models.ForeignKey("backups.Instance", models.PROTECT, related_name="download_charges")
    set = models.ForeignKey("backups.BackupSet", models.PROTECT, related_name="+")
    copy = models.ForeignKey("backups.Copy", models.PROTECT, null=True, related_name="+")  # None: a default backup
    file = models.ForeignKey("backups.BackupFile", models.PROTECT, related_name="+")
    region = models.ForeignKey("regions.Region", models.PROTECT, related_name="+")  # where the bytes lay
    address = models.CharField(max_length=8, choices=Address)
    bytes = models.BigIntegerField()
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(bytes__gte=0), name="download_not_negative"),
            models.CheckConstraint(condition=Q(address__in=["internet", "internal"]), name="download_address_known"),
        ]
        indexes = [
            models.Index(fields=["instance", "at"], name="download_of_instance"),
            models.Index(fields=["at"], condition=Q(address="internet"), name="download_charged"),
        ]

    def __str__(self) -> str:
        return f"download of {self.set}"


class NetworkPlan(models.Model):
    """Prepaid gigabytes of the whole installation: a year of traffic and Internet downloads, the oldest plan first.

    Only ever added (a trigger): not upgraded, not refunded (R-4.4). What is left of it is reckoned (billing.plans).
    """

    gigabytes = models.PositiveIntegerField("size (GB)")
    reference = models.CharField(max_length=100, blank=True, help_text="Your order number, for your books.")
    bought_at = models.DateTimeField(editable=False)
    valid_until = models.DateTimeField(editable=False)
    bought_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, editable=False, related_name="+")

    class Meta:
        ordering = ["bought_at", "pk"]
        constraints = [
            models.CheckConstraint(condition=Q(gigabytes__gt=0), name="plan_not_empty"),
            models.CheckConstraint(condition=Q(valid_until__gt=F("bought_at")), name="plan_runs_forward"),
        ]

    def __str__(self) -> str:
        return f"{self.gigabytes} GB until {self.valid_until:%Y-%m-%d}"


class ClosedStatement(models.Model):
    """A month that never moves again (R-4.5, I11). Its lines are written first and this row last, in one transaction.

    Triggers refuse any change of it or its lines, and any further line once this row is there.
    """

    month = models.DateField(primary_key=True)  # its first day, UTC
    closed_at = models.DateTimeField()
    lines_count = models.PositiveIntegerField()
    digest = models.CharField(max_length=64)  # of all its lines, so that none can be missing unnoticed

    class Meta:
        ordering = ["-month"]
        constraints = [
            models.CheckConstraint(condition=Q(month__day=1), name="statement_of_a_month"),
        ]

    def __str__(self) -> str:
        return f"statement of {self.month:%Y-%m}"

    @property
    def begins_at(self) -> datetime:
        return datetime(self.month.year, self.month.month, 1, tzinfo=UTC)

    @property
    def ends_at(self) -> datetime:
        """The first moment after it."""
        return (self.begins_at + timedelta(days=32)).replace(day=1)


class StatementLine(models.Model):
    """One line of a closed month: a month, an instance, a route, an item code; its amount was rounded here, once."""

    statement = models.ForeignKey(ClosedStatement, models.PROTECT, related_name="lines")
    instance = models.ForeignKey("backups.Instance", models.PROTECT, related_name="+")
    group = models.ForeignKey("backups.ResourceGroup", models.PROTECT, related_name="+")  # whose it was at the closing
    item_code = models.CharField(max_length=30, choices=ItemCode)
    source = models.SlugField("source region", max_length=50, db_index=False)
    destination = models.SlugField("destination region", max_length=50, blank=True, db_index=False)
    quantity = models.DecimalField(max_digits=30, decimal_places=0)
    charged = models.DecimalField(max_digits=30, decimal_places=0)
    free_bytes = models.BigIntegerField(default=0)
    offset_bytes = models.BigIntegerField(default=0)
    resent_bytes = models.BigIntegerField(default=0)
    prices = ArrayField(models.DecimalField(max_digits=12, decimal_places=6), default=list)
    amount = models.DecimalField(max_digits=20, decimal_places=2, null=True)  # None: no price

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["statement", "instance", "item_code", "source", "destination"], name="line_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_item_code_display()} of {self.instance}"


class PlanUse(models.Model):
    """What a closed month took from a network plan, in prepaid bytes (bytes times their route's coefficient)."""

    statement = models.ForeignKey(ClosedStatement, models.PROTECT, related_name="plan_uses")
    plan = models.ForeignKey(NetworkPlan, models.PROTECT, related_name="uses")
    prepaid_bytes = models.DecimalField(max_digits=30, decimal_places=6)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["statement", "plan"], name="plan_use_once")]

    def __str__(self) -> str:
        return f"{self.plan} in {self.statement_id:%Y-%m}"


def usual_percents() -> list[int]:
    return [80, 100]


class Budget(models.Model):
    """How much a month may cost: the whole fleet (no group) or one resource group, in USD.

    An alert opens at each of `percents` of what was really spent, and with `on_forecast` as soon as the month will
    cost more than the budget (billing.budgets). One budget for each scope; changed and removed with an event.
    """

    MOST_PERCENT = 200

    group = models.ForeignKey("backups.ResourceGroup", models.PROTECT, null=True, blank=True, related_name="budgets")
    amount = models.DecimalField("monthly amount (USD)", max_digits=12, decimal_places=2)
    percents = ArrayField(models.PositiveSmallIntegerField(), default=usual_percents)
    on_forecast = models.BooleanField(default=True)
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField()
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="budget_not_empty"),
            models.UniqueConstraint(fields=["group"], nulls_distinct=False, name="one_budget_of_a_scope"),
        ]

    def __str__(self) -> str:
        return f"budget of {self.group or 'the whole fleet'}"
