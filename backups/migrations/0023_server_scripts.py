"""What stands beside the databases of a server: sealed scripts of its logins, jobs and linked servers."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("backups", "0021_landing_servers"),
    ]

    operations = [
        migrations.CreateModel(
            name="ServerScript",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sha256", models.CharField(max_length=64)),
                ("sealed", models.BinaryField()),
                ("names", models.JSONField(default=dict)),
                ("notes", models.JSONField(default=list)),
                ("first_seen_at", models.DateTimeField()),
                ("seen_at", models.DateTimeField()),
                (
                    "instance",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="scripts", to="backups.instance"
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["instance", "-first_seen_at", "-id"], name="script_newest")],
            },
        ),
    ]
