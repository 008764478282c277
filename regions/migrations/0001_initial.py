import uuid

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Installation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("uuid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="one_installation")],
            },
        ),
        migrations.CreateModel(
            name="Region",
            fields=[
                ("id", models.SlugField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=100, unique=True)),
                (
                    "scope",
                    models.CharField(
                        choices=[
                            ("mainland", "Chinese mainland"),
                            ("hongkong", "Hong Kong"),
                            ("outside", "Outside China"),
                            ("finance", "Finance Cloud"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "country",
                    models.CharField(blank=True, help_text="ISO 3166 code; needed outside China.", max_length=2),
                ),
                ("position", models.PositiveSmallIntegerField(default=1000, help_text="Where it stands in lists.")),
                ("hidden", models.BooleanField(default=False)),
                ("is_custom", models.BooleanField(default=False)),
            ],
            options={
                "ordering": ["position", "id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("scope__in", ["mainland", "hongkong", "outside", "finance"])),
                        name="region_scope_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("country", ""), ("scope", "outside"), _negated=True),
                        name="region_outside_has_country",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("country__regex", "^([A-Z]{2})?$")), name="region_country_is_iso"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Store",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("uuid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                (
                    "role",
                    models.CharField(
                        choices=[("primary", "Primary"), ("second", "Second (level-2 backup in the same region)")],
                        default="primary",
                        max_length=10,
                    ),
                ),
                ("url", models.CharField(max_length=1000)),
                ("options", models.JSONField(blank=True, default=dict)),
                ("sealed_credentials", models.BinaryField(default=bytes)),
                ("capabilities", models.JSONField(blank=True, default=dict, editable=False)),
                (
                    "state",
                    models.CharField(
                        choices=[("ok", "OK"), ("unreachable", "Unreachable"), ("refused", "Refused")],
                        default="ok",
                        editable=False,
                        max_length=12,
                    ),
                ),
                ("last_error", models.TextField(blank=True, editable=False)),
                ("probed_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("attached_at", models.DateTimeField(editable=False)),
                ("detached_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "attached_by",
                    models.ForeignKey(
                        blank=True,
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "region",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="stores", to="regions.region"
                    ),
                ),
            ],
            options={
                "ordering": ["region", "role", "id"],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("detached_at__isnull", True)),
                        fields=("region", "role"),
                        name="one_attached_store_per_role",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("role__in", ["primary", "second"])), name="store_role_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["ok", "unreachable", "refused"])), name="store_state_known"
                    ),
                ],
            },
        ),
    ]
