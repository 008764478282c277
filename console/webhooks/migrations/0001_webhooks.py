"""Webhooks: endpoints, what each is told, and every attempt to tell it."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import console.webhooks.models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("backups", "0024_how_far_a_server_is"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Endpoint",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "code",
                    models.CharField(
                        default=console.webhooks.models.new_code, editable=False, max_length=24, unique=True
                    ),
                ),
                ("name", models.CharField(max_length=100)),
                ("url", models.CharField(max_length=500, verbose_name="URL")),
                (
                    "kinds",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(
                            choices=[
                                ("copy.completed", "A copy was completed"),
                                ("copy.failed", "A copy fails"),
                                ("copy.late", "A copy is late"),
                                ("log_gap.found", "A gap in the logs was found"),
                                ("log_gap.healed", "A gap in the logs was healed"),
                                ("restore.done", "A restore is done"),
                                ("drill.failed", "A drill failed"),
                                ("budget.reached", "A threshold of a budget was reached"),
                                ("ping", "A test"),
                            ],
                            max_length=20,
                        ),
                        size=None,
                    ),
                ),
                ("is_limited", models.BooleanField(default=False)),
                ("sealed_secret", models.BinaryField()),
                ("sealed_former_secret", models.BinaryField(null=True)),
                ("former_until", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField()),
                ("rotated_at", models.DateTimeField(null=True)),
                ("disabled_at", models.DateTimeField(null=True)),
                ("disabled_why", models.TextField(blank=True)),
                ("removed_at", models.DateTimeField(null=True)),
                ("sequence", models.BigIntegerField(default=0)),
                ("since", models.DateTimeField()),
                ("looked_at", models.DateTimeField()),
                ("failures", models.PositiveIntegerField(default=0)),
                ("failing_since", models.DateTimeField(null=True)),
                ("paused_until", models.DateTimeField(null=True)),
                ("last_delivered_at", models.DateTimeField(null=True)),
                (
                    "disabled_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("groups", models.ManyToManyField(blank=True, related_name="+", to="backups.resourcegroup")),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="webhooks",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["-pk"],
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("copy.completed", "A copy was completed"),
                            ("copy.failed", "A copy fails"),
                            ("copy.late", "A copy is late"),
                            ("log_gap.found", "A gap in the logs was found"),
                            ("log_gap.healed", "A gap in the logs was healed"),
                            ("restore.done", "A restore is done"),
                            ("drill.failed", "A drill failed"),
                            ("budget.reached", "A threshold of a budget was reached"),
                            ("ping", "A test"),
                        ],
                        max_length=20,
                    ),
                ),
                ("source", models.CharField(max_length=40)),
                (
                    "message_id",
                    models.CharField(
                        default=console.webhooks.models.new_message_id,
                        editable=False,
                        max_length=40,
                        unique=True,
                        verbose_name="message ID",
                    ),
                ),
                ("occurred_at", models.DateTimeField()),
                ("body", models.TextField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("delivered", "Delivered"),
                            ("failed", "Failed"),
                            ("dropped", "Dropped"),
                        ],
                        default="waiting",
                        max_length=10,
                    ),
                ),
                ("why", models.TextField(blank=True)),
                ("created_at", models.DateTimeField()),
                ("due_at", models.DateTimeField()),
                ("fence", models.BigIntegerField(default=0)),
                ("leased_until", models.DateTimeField(null=True)),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("last_status", models.PositiveIntegerField(null=True)),
                ("last_error", models.CharField(blank=True, max_length=300)),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "group",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="backups.resourcegroup",
                    ),
                ),
                (
                    "instance",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="backups.instance"
                    ),
                ),
                (
                    "endpoint",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="deliveries",
                        to="console_webhooks.endpoint",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "deliveries",
                "ordering": ["-pk"],
            },
        ),
        migrations.CreateModel(
            name="Attempt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("fence", models.BigIntegerField()),
                ("began_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                ("status", models.PositiveIntegerField(null=True)),
                ("milliseconds", models.PositiveIntegerField(null=True)),
                ("error", models.CharField(blank=True, max_length=300)),
                (
                    "delivery",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="tries",
                        to="console_webhooks.delivery",
                    ),
                ),
            ],
            options={
                "ordering": ["-pk"],
                "constraints": [models.UniqueConstraint(fields=("delivery", "fence"), name="webhook_attempt_once")],
            },
        ),
        migrations.AddConstraint(
            model_name="endpoint",
            constraint=models.CheckConstraint(
                condition=models.Q(("kinds", []), _negated=True), name="webhook_hears_of_something"
            ),
        ),
        migrations.AddConstraint(
            model_name="endpoint",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("removed_at", None),
                    models.Q(("disabled_at__isnull", False), ("sealed_former_secret", None), ("sealed_secret", b"")),
                    _connector="OR",
                ),
                name="webhook_removed_knows_nothing",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("state", "waiting")), fields=["endpoint", "due_at"], name="webhook_due"
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(fields=["endpoint", "-id"], name="webhook_log"),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(fields=["created_at"], name="webhook_by_age"),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(fields=("endpoint", "source"), name="webhook_told_once"),
        ),
    ]
