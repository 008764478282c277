"""Default backups that a person wants deleted at their source."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("backups", "0025_storage_snapshots"),
    ]

    operations = [
        migrations.AddField(
            model_name="backupset",
            name="deletion_asked_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddIndex(
            model_name="backupset",
            index=models.Index(
                condition=models.Q(("deleted_at", None), ("deletion_asked_at__isnull", False)),
                fields=["id"],
                name="set_to_delete",
            ),
        ),
    ]
