"""How each database of a server stands; shares that a server writes its backups to; backups of logs by a timetable."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import backups.models.fields


class Migration(migrations.Migration):
    dependencies = [
        ("backups", "0015_carried_again"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="ServerDatabase",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=200)),
                ("state", models.CharField(max_length=60)),
                ("is_online", models.BooleanField(default=True)),
                ("recovery_model", models.CharField(blank=True, max_length=20)),
                ("has_logs", models.BooleanField(default=False)),
                ("may_back_up", models.BooleanField(default=True)),
                ("data_bytes", models.BigIntegerField(null=True)),
                ("log_chain_position", backups.models.fields.PositionField(null=True)),
                ("fork", models.CharField(blank=True, max_length=40)),
                ("last_full_at", models.DateTimeField(null=True)),
                ("certificate_thumbprint", models.CharField(blank=True, max_length=64)),
                ("availability_group", models.CharField(blank=True, max_length=40)),
                ("is_primary", models.BooleanField(default=True)),
                ("is_preferred", models.BooleanField(default=True)),
                ("first_seen_at", models.DateTimeField()),
                ("seen_at", models.DateTimeField()),
                ("gone_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name="backupjob",
            name="one_backup_at_a_time",
        ),
        migrations.AddField(
            model_name="backupjob",
            name="is_copy_only",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="instance",
            name="databases_seen_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="instance",
            name="log_every_minutes",
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="instance",
            name="next_log_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="instance",
            name="share_called",
            field=models.CharField(blank=True, max_length=300, verbose_name="share, as the server calls it"),
        ),
        migrations.AddField(
            model_name="instance",
            name="share_folder",
            field=models.CharField(blank=True, max_length=500, verbose_name="the same share, on the worker"),
        ),
        migrations.AddConstraint(
            model_name="backupjob",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ["queued", "running"]), models.Q(("kind", "log"), _negated=True)),
                fields=("instance", "database"),
                name="one_backup_at_a_time",
            ),
        ),
        migrations.AddConstraint(
            model_name="backupjob",
            constraint=models.UniqueConstraint(
                condition=models.Q(("kind", "log"), ("state__in", ["queued", "running"])),
                fields=("instance", "database"),
                name="one_log_backup_at_a_time",
            ),
        ),
        migrations.AddField(
            model_name="serverdatabase",
            name="instance",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="databases", to="backups.instance"
            ),
        ),
        migrations.AddIndex(
            model_name="serverdatabase",
            index=models.Index(condition=models.Q(("gone_at", None)), fields=["instance"], name="database_present"),
        ),
        migrations.AddConstraint(
            model_name="serverdatabase",
            constraint=models.UniqueConstraint(fields=("instance", "name"), name="database_once"),
        ),
    ]
