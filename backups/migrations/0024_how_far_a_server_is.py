"""How far a server is while it writes a backup itself."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("backups", "0023_server_scripts"),
    ]

    operations = [
        migrations.AddField(
            model_name="backupjob",
            name="percent",
            field=models.PositiveSmallIntegerField(null=True),
        ),
    ]
