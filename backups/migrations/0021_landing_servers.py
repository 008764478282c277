"""Landing servers, on which databases are restored; a restore knows its landing server and what it is called there."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.text
from django.conf import settings
from django.db import migrations, models

import backups.models.landing_server


class Migration(migrations.Migration):
    dependencies = [
        ("backups", "0019_what_a_server_remembers"),
        ("regions", "0002_store_quota"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="restore",
            name="landed_as",
            field=models.CharField(blank=True, max_length=128, verbose_name="database on the landing server"),
        ),
        migrations.AddField(
            model_name="restore",
            name="landed_identity",
            field=models.CharField(blank=True, max_length=100),
        ),
        migrations.CreateModel(
            name="LandingServer",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "code",
                    models.CharField(
                        default=backups.models.landing_server.new_code, editable=False, max_length=24, unique=True
                    ),
                ),
                ("name", models.CharField(max_length=100)),
                ("engine", models.CharField(max_length=20)),
                ("host", models.CharField(max_length=255)),
                ("port", models.PositiveIntegerField()),
                ("username", models.CharField(max_length=128)),
                ("sealed_password", models.BinaryField(null=True)),
                ("tls", models.CharField(default="prefer", max_length=12)),
                ("share_called", models.CharField(max_length=300, verbose_name="share, as the server calls it")),
                ("share_folder", models.CharField(max_length=500, verbose_name="the same share, on the worker")),
                ("version", models.CharField(blank=True, max_length=40)),
                (
                    "databases",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=200), default=list, size=None
                    ),
                ),
                (
                    "certificates",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=64), default=list, size=None
                    ),
                ),
                ("bytes_free", models.BigIntegerField(null=True)),
                ("notes", models.JSONField(default=list)),
                ("is_simulation", models.BooleanField(default=False)),
                ("looked_at", models.DateTimeField(null=True)),
                ("error", models.TextField(blank=True)),
                ("remedy", models.TextField(blank=True)),
                ("registered_at", models.DateTimeField()),
                ("retired_at", models.DateTimeField(null=True)),
                ("groups", models.ManyToManyField(related_name="landing_servers", to="backups.resourcegroup")),
                (
                    "region",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="landing_servers", to="regions.region"
                    ),
                ),
            ],
            options={
                "ordering": ["name", "pk"],
            },
        ),
        migrations.AddField(
            model_name="restore",
            name="landing",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="restores",
                to="backups.landingserver",
            ),
        ),
        migrations.AddConstraint(
            model_name="restore",
            constraint=models.UniqueConstraint(
                models.F("landing"),
                django.db.models.functions.text.Lower("landed_as"),
                condition=models.Q(("landing__isnull", False), ("state__in", ["queued", "running", "ready"])),
                name="one_restore_of_a_name",
            ),
        ),
        migrations.AddConstraint(
            model_name="landingserver",
            constraint=models.UniqueConstraint(
                django.db.models.functions.text.Lower("name"),
                condition=models.Q(("retired_at", None)),
                name="one_landing_server_of_a_name",
            ),
        ),
    ]
