import django.contrib.postgres.constraints
import django.core.validators
from django.db import migrations, models

import billing.models


class Migration(migrations.Migration):
    initial = True

    # The exclusion constraint needs btree_gist, which backups brings.
    dependencies = [("backups", "0002_promises")]

    operations = [
        migrations.CreateModel(
            name="Price",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "item_code",
                    models.CharField(
                        choices=[
                            ("DdrOssStorageSize", "Cross-region storage"),
                            ("NetworkOutDuplicationSize", "Cross-region network traffic"),
                            ("NetworkOutSize", "Download over the Internet"),
                        ],
                        max_length=30,
                    ),
                ),
                ("source", models.SlugField(blank=True, db_index=False, verbose_name="source region")),
                (
                    "source_scope",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("mainland", "Chinese mainland"),
                            ("hongkong", "Hong Kong"),
                            ("outside", "Outside China"),
                            ("finance", "Finance Cloud"),
                        ],
                        max_length=10,
                    ),
                ),
                ("destination", models.SlugField(blank=True, db_index=False, verbose_name="destination region")),
                (
                    "amount",
                    models.DecimalField(
                        decimal_places=6,
                        max_digits=12,
                        validators=[django.core.validators.MinValueValidator(0)],
                        verbose_name="amount (USD)",
                    ),
                ),
                (
                    "unit",
                    models.CharField(
                        choices=[("USD/GB-hour", "USD per GB and hour"), ("USD/GB", "USD per GB")], max_length=12
                    ),
                ),
                (
                    "coefficient",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        help_text="Prepaid GB that one GB takes from a network plan: the route's price / 0.12.",
                        max_digits=12,
                        null=True,
                    ),
                ),
                ("valid_from", models.DateTimeField()),
                ("valid_until", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["item_code", "source_scope", "source", "destination", "-valid_from"],
                "constraints": [
                    django.contrib.postgres.constraints.ExclusionConstraint(
                        expressions=[
                            (models.F("item_code"), "="),
                            (models.F("source"), "="),
                            (models.F("source_scope"), "="),
                            (models.F("destination"), "="),
                            (billing.models.Validity("valid_from", "valid_until", models.Value("[)")), "&&"),
                        ],
                        name="one_price_at_a_time",
                        violation_error_message="Another price already holds in this time. End it first.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("valid_until", None), ("valid_until__gt", models.F("valid_from")), _connector="OR"
                        ),
                        name="price_runs_forward",
                        violation_error_message="A price ends after it begins.",
                    ),
                    models.CheckConstraint(condition=models.Q(("amount__gte", 0)), name="price_not_negative"),
                    models.CheckConstraint(
                        condition=models.Q(("source", ""), ("source_scope", ""), _connector="OR"),
                        name="price_for_a_region_or_a_scope",
                        violation_error_message="A price is for one region or for a scope, not for both.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("item_code", "DdrOssStorageSize"), ("unit", "USD/GB-hour")),
                            models.Q(
                                ("item_code__in", ["NetworkOutDuplicationSize", "NetworkOutSize"]), ("unit", "USD/GB")
                            ),
                            _connector="OR",
                        ),
                        name="price_in_its_unit",
                        violation_error_message="Storage is priced per GB and hour, everything else per GB.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("item_code", "NetworkOutDuplicationSize"), _negated=True),
                            models.Q(
                                models.Q(("source", ""), _negated=True), models.Q(("destination", ""), _negated=True)
                            ),
                            _connector="OR",
                        ),
                        name="traffic_price_names_its_route",
                        violation_error_message="A traffic price names both ends of its route.",
                    ),
                ],
            },
        ),
    ]
