"""A region is a place; a store is the object store in it. One installation is one Farshore."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from regions import secrets
from regions.catalog import FINANCE, HONG_KONG, MAINLAND, OUTSIDE
from regions.storage import Storage, StoreOptions, open_storage


class Installation(models.Model):
    """This Farshore among others: its uuid stands in every object key and in every store's marker. One row."""

    uuid = models.UUIDField(default=uuid.uuid4, editable=False, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="one_installation")]

    def __str__(self) -> str:
        return str(self.uuid)

    @classmethod
    def current(cls) -> Installation:
        return cls.objects.get_or_create(id=1)[0]


class RegionQuerySet(models.QuerySet["Region"]):
    def shown(self) -> RegionQuerySet:
        return self.filter(hidden=False)

    def with_store(self) -> RegionQuerySet:
        """Regions that work: a primary store is attached."""
        return self.filter(stores__in=Store.objects.attached().filter(role=Store.Role.PRIMARY))


class Region(models.Model):
    """A place (R-10). Its id is the slug everybody knows it by, such as `cn-beijing`."""

    class Scope(models.TextChoices):
        MAINLAND = MAINLAND, "Chinese mainland"
        HONG_KONG = HONG_KONG, "Hong Kong"
        OUTSIDE = OUTSIDE, "Outside China"
        FINANCE = FINANCE, "Finance Cloud"

    id = models.SlugField(primary_key=True, max_length=50, allow_unicode=False)
    name = models.CharField(max_length=100, unique=True)
    scope = models.CharField(max_length=10, choices=Scope)
    country = models.CharField(max_length=2, blank=True, help_text="ISO 3166 code; needed outside China.")
    position = models.PositiveSmallIntegerField(default=1000, help_text="Where it stands in lists.")
    hidden = models.BooleanField(default=False)
    is_custom = models.BooleanField(default=False)

    objects = RegionQuerySet.as_manager()

    class Meta:
        ordering = ["position", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(scope__in=[MAINLAND, HONG_KONG, OUTSIDE, FINANCE]), name="region_scope_known"
            ),
            models.CheckConstraint(condition=~Q(scope=OUTSIDE, country=""), name="region_outside_has_country"),
            models.CheckConstraint(condition=Q(country__regex="^([A-Z]{2})?$"), name="region_country_is_iso"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def group(self) -> str:
        """What a border runs between (R-10.3): mainland, hongkong, finance, or the country outside China."""
        return self.country if self.scope == OUTSIDE else self.scope


class StoreQuerySet(models.QuerySet["Store"]):
    def attached(self) -> StoreQuerySet:
        return self.filter(detached_at__isnull=True)


class Store(models.Model):
    """The object store of a region, both the source of its own instances and a destination for others.

        attach -> ok <-> unreachable      (each probe decides)
                  ok  -> refused          (somebody else's marker, a lifecycle rule that would delete our objects)
        any state -> detached             (detached_at is set; the row stays, copies name it)

    `options` and `capabilities` hold what the drivers and the probe say (regions/storage); secrets are only ever in
    `sealed_credentials`, bound to this row by `identity`.
    """

    class Role(models.TextChoices):
        PRIMARY = "primary", "Primary"
        SECOND = "second", "Second (level-2 backup in the same region)"

    class State(models.TextChoices):
        OK = "ok", "OK"
        UNREACHABLE = "unreachable", "Unreachable"
        REFUSED = "refused", "Refused"

    uuid = models.UUIDField(default=uuid.uuid4, editable=False, unique=True)
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="stores")
    role = models.CharField(max_length=10, choices=Role, default=Role.PRIMARY)
    url = models.CharField(max_length=1000)
    options = models.JSONField(default=dict, blank=True)
    sealed_credentials = models.BinaryField(default=bytes, editable=False)
    capabilities = models.JSONField(default=dict, blank=True, editable=False)
    quota_bytes = models.BigIntegerField(
        null=True, blank=True, editable=False, help_text="What a team says it may hold, where the store cannot."
    )
    state = models.CharField(max_length=12, choices=State, default=State.OK, editable=False)
    last_error = models.TextField(blank=True, editable=False)
    probed_at = models.DateTimeField(null=True, blank=True, editable=False)
    attached_at = models.DateTimeField(editable=False)
    attached_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    detached_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = StoreQuerySet.as_manager()

    class Meta:
        ordering = ["region", "role", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["region", "role"], condition=Q(detached_at__isnull=True), name="one_attached_store_per_role"
            ),
            models.CheckConstraint(condition=Q(quota_bytes=None) | Q(quota_bytes__gt=0), name="store_quota_positive"),
            models.CheckConstraint(condition=Q(role__in=["primary", "second"]), name="store_role_known"),
            models.CheckConstraint(condition=Q(state__in=["ok", "unreachable", "refused"]), name="store_state_known"),
        ]

    def __str__(self) -> str:
        return f"{self.region_id}: {self.url}"

    @property
    def identity(self) -> str:
        """What the sealed credentials are bound to; the row's uuid, so that it is known before the first save."""
        return f"store:{self.uuid}"

    @property
    def is_attached(self) -> bool:
        return self.detached_at is None

    def keep_credentials(self, credentials: dict[str, str]) -> None:
        self.sealed_credentials = secrets.seal_json(credentials, self.identity) if credentials else b""

    def credentials(self) -> dict[str, str]:
        return secrets.open_json(bytes(self.sealed_credentials), self.identity) if self.sealed_credentials else {}

    def storage_options(self) -> StoreOptions:
        options: dict[str, Any] = dict(self.options)
        return StoreOptions(url=self.url, options=options, credentials=self.credentials())

    def open(self) -> Storage:
        """Return the driver; opening does not touch the network yet."""
        return open_storage(self.storage_options())
