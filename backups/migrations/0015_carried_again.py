"""Damaged copies are carried again: when, how often, beside which object; those that are damaged are due at once."""

import django.db.models.deletion
from django.db import migrations, models

DUE_NOW = """
UPDATE backups_copy SET mend_at = now(), times_damaged = 1 WHERE verification = 'damaged' AND state <> 'deleted';
UPDATE backups_transfer SET state = 'damaged' WHERE state = 'verified' AND id IN (
    SELECT file.transfer_id FROM backups_copiedfile file JOIN backups_copy copy ON copy.id = file.copy_id
     WHERE copy.verification = 'damaged' AND copy.state <> 'deleted');
"""


class Migration(migrations.Migration):
    dependencies = [
        ("backups", "0014_where_a_fork_began"),
    ]

    operations = [
        migrations.AddField(
            model_name="copy",
            name="former_manifest_key",
            field=models.CharField(blank=True, db_default="", default="", max_length=500),
        ),
        migrations.AddField(
            model_name="copy",
            name="mend_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="copy",
            name="times_damaged",
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="transfer",
            name="replaces",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="replacements",
                db_index=False,
                to="backups.transfer",
            ),
        ),
        migrations.AlterField(
            model_name="transfer",
            name="state",
            field=models.CharField(
                choices=[
                    ("journaled", "Journaled"),
                    ("uploading", "Uploading"),
                    ("uploaded", "Uploaded"),
                    ("verified", "Verified"),
                    ("abandoned", "Abandoned"),
                    ("cleaned", "Cleaned up"),
                    ("deleting", "Being deleted"),
                    ("deleted", "Deleted"),
                    ("damaged", "Damaged"),
                ],
                default="journaled",
                max_length=10,
            ),
        ),
        migrations.AddIndex(
            model_name="copy",
            index=models.Index(condition=models.Q(("state", "damaged")), fields=["mend_at"], name="copy_to_mend"),
        ),
        migrations.AddIndex(
            model_name="copy",
            index=models.Index(
                condition=models.Q(("former_manifest_key", ""), _negated=True),
                fields=["destination_store"],
                name="copy_once_mended",
            ),
        ),
        migrations.AddIndex(
            model_name="transfer",
            index=models.Index(
                condition=models.Q(("replaces__isnull", False)), fields=["verified_at"], name="transfer_once_more"
            ),
        ),
        migrations.RunSQL(DUE_NOW, migrations.RunSQL.noop),
    ]
