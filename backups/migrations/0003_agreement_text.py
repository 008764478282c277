"""The first version of the agreement, so that a new installation can enable something."""

import hashlib

from django.db import migrations
from django.utils import timezone

from backups.terms.agreement_texts import VERSION_1


def publish(apps, schema_editor):
    apps.get_model("backups", "AgreementText").objects.get_or_create(
        version=1,
        language="en",
        defaults={
            "text": VERSION_1,
            "sha256": hashlib.sha256(VERSION_1.encode()).hexdigest(),
            "published_at": timezone.now(),
        },
    )


class Migration(migrations.Migration):
    dependencies = [("backups", "0002_promises")]

    operations = [migrations.RunPython(publish, migrations.RunPython.noop)]
