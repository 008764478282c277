"""Access keys and what the door of the programming interface keeps of calls: nonces, counts, tokens of clients."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("backups", "0023_server_scripts"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="AccessKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key_id", models.CharField(max_length=40, unique=True, verbose_name="access key ID")),
                ("sealed_secret", models.BinaryField()),
                ("label", models.CharField(blank=True, max_length=100)),
                (
                    "reach",
                    models.CharField(
                        choices=[("viewer", "Looks only"), ("operator", "Looks and operates")],
                        default="operator",
                        max_length=10,
                    ),
                ),
                ("is_limited", models.BooleanField(default=False)),
                (
                    "networks",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=50), blank=True, default=list, size=None
                    ),
                ),
                ("rules_accepted_at", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField()),
                ("rotated_at", models.DateTimeField(null=True)),
                ("last_used_at", models.DateTimeField(null=True)),
                ("last_used_from", models.CharField(blank=True, max_length=64)),
                ("disabled_at", models.DateTimeField(null=True)),
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
                        related_name="access_keys",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["-pk"],
            },
        ),
        migrations.CreateModel(
            name="CallCount",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("what", models.CharField(blank=True, max_length=60)),
                ("began_at", models.DateTimeField()),
                ("calls", models.PositiveIntegerField(default=0)),
                (
                    "key",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="console_openapi.accesskey"
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["began_at"], name="count_by_age")],
                "constraints": [models.UniqueConstraint(fields=("key", "what", "began_at"), name="counted_once")],
            },
        ),
        migrations.CreateModel(
            name="ClientToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("token", models.CharField(max_length=64)),
                ("asked", models.CharField(max_length=64)),
                ("answer", models.JSONField(default=dict)),
                ("made_at", models.DateTimeField()),
                (
                    "key",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="console_openapi.accesskey"
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["made_at"], name="client_token_by_age")],
                "constraints": [
                    models.UniqueConstraint(fields=("key", "token"), name="client_token_once"),
                    models.CheckConstraint(
                        condition=models.Q(("token", ""), _negated=True), name="client_token_says_something"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="UsedNonce",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("nonce", models.CharField(max_length=128)),
                ("used_at", models.DateTimeField()),
                (
                    "key",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="console_openapi.accesskey"
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["used_at"], name="nonce_by_age")],
                "constraints": [models.UniqueConstraint(fields=("key", "nonce"), name="nonce_once")],
            },
        ),
    ]
