"""What the ledger looks for among millions: spans by their ends, copies once damaged, bytes that were sent again."""

from django.conf import settings
from django.db import migrations, models

# Rare, and asked of every month (billing.traffic): Django has no words for this condition.
RESENT = """
CREATE INDEX transfer_resent ON backups_transfer (coalesce(verified_at, ended_at))
    WHERE bytes_sent + bytes_resent > CASE WHEN verified_at IS NULL THEN 0 ELSE size END;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("backups", "0012_onto_the_original"),
        ("regions", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddIndex(
            model_name="copy",
            index=models.Index(
                condition=models.Q(("verification", "damaged")),
                fields=["set", "destination_store"],
                name="copy_once_damaged",
            ),
        ),
        migrations.AddIndex(
            model_name="storagespan",
            index=models.Index(fields=["ended_at"], name="span_by_end"),
        ),
        migrations.AddIndex(
            model_name="storagespan",
            index=models.Index(fields=["began_at"], name="span_by_begin"),
        ),
        migrations.RunSQL(RESENT, "DROP INDEX transfer_resent;"),
    ]
