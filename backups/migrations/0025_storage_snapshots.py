"""What attempts at snapshot backups have suspended, and had the storage take (docs/decisions/0080)."""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [
        ("backups", "0024_how_far_a_server_is"),
    ]

    operations = [
        migrations.CreateModel(
            name="StorageSnapshot",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("fence", models.BigIntegerField()),
                ("database", models.CharField(max_length=200)),
                ("attempt", models.CharField(max_length=120)),
                ("metadata", models.CharField(max_length=300)),
                ("handle", models.CharField(max_length=120)),
                ("key", models.CharField(blank=True, max_length=500)),
                ("began_at", models.DateTimeField()),
                ("hook_began_at", models.DateTimeField(null=True)),
                ("thawed_at", models.DateTimeField(null=True)),
                ("recorded_at", models.DateTimeField(null=True)),
                ("given_up_at", models.DateTimeField(null=True)),
                ("released_at", models.DateTimeField(null=True)),
                ("tried_at", models.DateTimeField(null=True)),
                ("error", models.TextField(blank=True)),
                (
                    "job",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="storage_snapshots",
                        to="backups.backupjob",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        fields=["job"], condition=Q(thawed_at=None) | Q(released_at=None), name="snapshot_open"
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("job", "fence"), name="one_snapshot_an_attempt"),
                    models.CheckConstraint(
                        condition=Q(recorded_at=None) | Q(given_up_at=None), name="recorded_or_given_up"
                    ),
                ],
            },
        ),
    ]
