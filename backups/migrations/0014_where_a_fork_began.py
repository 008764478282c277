"""Where, and when, the fork of a log left another one: chains lead on across a server's promotion (R-8.3)."""

from django.conf import settings
from django.db import migrations, models

import backups.models.fields


class Migration(migrations.Migration):
    dependencies = [
        ("backups", "0013_ledger_indexes"),
        ("regions", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="backupset",
            name="parent_fork",
            field=models.CharField(blank=True, default="", max_length=40),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="backupset",
            name="fork_position",
            field=backups.models.fields.PositionField(null=True),
        ),
        migrations.AddField(
            model_name="backupset",
            name="forked_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddIndex(
            model_name="backupset",
            index=models.Index(
                condition=models.Q(("first_position__lte", models.F("fork_position"))),
                fields=["instance"],
                name="set_crosses",
            ),
        ),
        migrations.AddConstraint(
            model_name="backupset",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("parent_fork", ""),
                    models.Q(("fork_position__isnull", False), ("forked_at__isnull", False)),
                    _connector="OR",
                ),
                name="fork_left_somewhere",
            ),
        ),
    ]
