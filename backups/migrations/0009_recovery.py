import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("backups", "0006_dates_behind"),
        ("regions", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterField(
            model_name="backupfile",
            name="state",
            field=models.CharField(
                choices=[
                    ("seen", "Seen once"),
                    ("settled", "At the source"),
                    ("refused", "Refused"),
                    ("replaced", "Replaced"),
                    ("gone", "Gone"),
                    ("deleted", "Deleted by Farshore"),
                    ("elsewhere", "Known from its copy"),
                ],
                default="seen",
                max_length=10,
            ),
        ),
        migrations.CreateModel(
            name="Recovery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[("manifests", "Rebuilt from manifests"), ("dump", "Restored from a dump")],
                        max_length=9,
                    ),
                ),
                ("recovered_at", models.DateTimeField()),
                ("copies", models.PositiveIntegerField(default=0)),
                ("troubles", models.PositiveIntegerField(default=0)),
                ("lost_sequence", models.BigIntegerField(default=0)),
                ("lost_hash", models.CharField(blank=True, max_length=64)),
                ("confirmed_at", models.DateTimeField(null=True)),
                (
                    "confirmed_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "store",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT, related_name="recovery", to="regions.store"
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "recoveries",
            },
        ),
        migrations.CreateModel(
            name="SelfBackup",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(max_length=500, unique=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("taking", "Being taken"),
                            ("kept", "Kept"),
                            ("failed", "Failed"),
                            ("deleted", "Deleted"),
                        ],
                        default="taking",
                        max_length=8,
                    ),
                ),
                ("began_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(null=True)),
                ("size", models.BigIntegerField(default=0)),
                ("error", models.TextField(blank=True)),
                ("cleaned_at", models.DateTimeField(null=True)),
                (
                    "store",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="self_backups", to="regions.store"
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(condition=models.Q(("state", "kept")), fields=["-began_at"], name="self_backup_newest")
                ],
            },
        ),
        migrations.CreateModel(
            name="SourceOutage",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("began_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "store",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="outages", to="regions.store"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("ended_at", None)), fields=("store",), name="one_open_outage"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("ended_at", None), ("ended_at__gte", models.F("began_at")), _connector="OR"
                        ),
                        name="outage_forward",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="StateObject",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sequence", models.PositiveBigIntegerField(default=0)),
                ("oldest", models.PositiveBigIntegerField(default=1)),
                ("sha256", models.CharField(blank=True, max_length=64)),
                ("written_at", models.DateTimeField(null=True)),
                (
                    "instance",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="state_objects", to="backups.instance"
                    ),
                ),
                (
                    "store",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="state_objects", to="regions.store"
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("instance", "store"), name="state_object_once")],
            },
        ),
    ]
