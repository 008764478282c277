"""Backups that a server remembers, how asking it went, and certificates that are registered in a region."""

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import backups.models.fields


class Migration(migrations.Migration):
    dependencies = [
        ("backups", "0016_databases_of_a_server"),
        ("regions", "0002_store_quota"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="RegisteredCertificate",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "thumbprint",
                    models.CharField(
                        max_length=64, validators=[django.core.validators.RegexValidator("^[0-9a-f]{8,64}$")]
                    ),
                ),
                ("note", models.CharField(blank=True, max_length=200)),
                ("registered_at", models.DateTimeField()),
                ("withdrawn_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="RememberedSet",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("database", models.CharField(max_length=200)),
                (
                    "kind",
                    models.CharField(
                        choices=[("full", "Full"), ("differential", "Differential"), ("log", "Log")], max_length=12
                    ),
                ),
                ("method", models.CharField(default="physical", max_length=10)),
                ("started_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField()),
                ("first_position", backups.models.fields.PositionField(null=True)),
                ("last_position", backups.models.fields.PositionField(null=True)),
                ("checkpoint_position", backups.models.fields.PositionField(null=True)),
                ("base_position", backups.models.fields.PositionField(null=True)),
                ("fork", models.CharField(blank=True, max_length=40)),
                ("set_guid", models.CharField(max_length=40)),
                ("family_guid", models.CharField(blank=True, max_length=40)),
                ("base_guid", models.CharField(blank=True, max_length=40)),
                ("media_set_guid", models.CharField(blank=True, max_length=40)),
                ("family_count", models.PositiveSmallIntegerField(default=1)),
                ("position", models.PositiveIntegerField(default=1)),
                ("is_copy_only", models.BooleanField(default=False)),
                ("has_checksums", models.BooleanField(default=False)),
                ("begins_log_chain", models.BooleanField(default=False)),
                ("is_compressed", models.BooleanField(default=False)),
                ("is_encrypted", models.BooleanField(default=False)),
                ("is_damaged", models.BooleanField(default=False)),
                ("is_foreign", models.BooleanField(default=False)),
                ("certificate_thumbprint", models.CharField(blank=True, max_length=64)),
                ("server", models.CharField(blank=True, max_length=200)),
                ("software_version", models.CharField(blank=True, max_length=60)),
                ("size_bytes", models.BigIntegerField(default=0)),
                ("stored_bytes", models.BigIntegerField(default=0)),
                ("devices", models.JSONField(default=list)),
                ("taken_by", models.CharField(blank=True, max_length=200)),
                ("called", models.CharField(blank=True, max_length=200, verbose_name="name given by its job")),
                ("remembered_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="ServerLook",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "side",
                    models.CharField(
                        choices=[("primary", "The primary"), ("secondary", "The secondary")],
                        default="primary",
                        max_length=9,
                    ),
                ),
                ("cursor", models.BigIntegerField(default=0)),
                ("due_at", models.DateTimeField()),
                ("asked_at", models.DateTimeField(null=True)),
                ("answered_at", models.DateTimeField(null=True)),
                ("read_until", models.DateTimeField(null=True)),
                ("failures", models.PositiveIntegerField(default=0)),
                ("failing_since", models.DateTimeField(null=True)),
                ("error", models.TextField(blank=True)),
            ],
        ),
        migrations.AddField(
            model_name="backupset",
            name="contradiction",
            field=models.CharField(blank=True, db_default="", default="", max_length=200),
        ),
        migrations.AddField(
            model_name="backupset",
            name="is_told_by_server",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="serverdatabase",
            name="encrypted_since",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="loggap",
            name="broken_by",
            field=models.TextField(blank=True, db_default="", default=""),
        ),
        migrations.AddIndex(
            model_name="backupset",
            index=models.Index(
                condition=models.Q(("contradiction", ""), _negated=True), fields=["id"], name="set_contradicted"
            ),
        ),
        migrations.AddField(
            model_name="registeredcertificate",
            name="region",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="certificates", to="regions.region"
            ),
        ),
        migrations.AddField(
            model_name="registeredcertificate",
            name="registered_by",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="rememberedset",
            name="instance",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="remembered_sets", to="backups.instance"
            ),
        ),
        migrations.AddField(
            model_name="serverlook",
            name="instance",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="server_looks", to="backups.instance"
            ),
        ),
        migrations.AddConstraint(
            model_name="registeredcertificate",
            constraint=models.UniqueConstraint(
                condition=models.Q(("withdrawn_at", None)), fields=("region", "thumbprint"), name="certificate_once"
            ),
        ),
        migrations.AddIndex(
            model_name="rememberedset",
            index=models.Index(fields=["instance", "database", "finished_at"], name="remembered_of_database"),
        ),
        migrations.AddConstraint(
            model_name="rememberedset",
            constraint=models.UniqueConstraint(fields=("instance", "set_guid"), name="remembered_once"),
        ),
        migrations.AddIndex(
            model_name="serverlook",
            index=models.Index(fields=["due_at"], name="look_due"),
        ),
        migrations.AddConstraint(
            model_name="serverlook",
            constraint=models.UniqueConstraint(fields=("instance", "side"), name="look_once_a_side"),
        ),
    ]
