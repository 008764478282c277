"""Every secret that was replaced signs until its own day is over, however often there is a new one."""

import django.db.models.deletion
from django.db import migrations, models


def into_rows(apps, schema_editor):
    former = apps.get_model("console_webhooks", "FormerSecret")
    rows = apps.get_model("console_webhooks", "Endpoint").objects.exclude(sealed_former_secret=None)
    for row in rows.exclude(former_until=None):
        former.objects.create(endpoint=row, sealed=row.sealed_former_secret, until=row.former_until)


def into_columns(apps, schema_editor):
    endpoints = apps.get_model("console_webhooks", "Endpoint")
    for row in apps.get_model("console_webhooks", "FormerSecret").objects.order_by("pk"):  # the newest of each stays
        endpoints.objects.filter(pk=row.endpoint_id).update(sealed_former_secret=row.sealed, former_until=row.until)


class Migration(migrations.Migration):
    dependencies = [("console_webhooks", "0001_webhooks")]

    operations = [
        migrations.CreateModel(
            name="FormerSecret",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sealed", models.BinaryField()),
                ("until", models.DateTimeField()),
                (
                    "endpoint",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="former_secrets",
                        to="console_webhooks.endpoint",
                    ),
                ),
            ],
            options={"ordering": ["-pk"]},
        ),
        migrations.RunPython(into_rows, into_columns),
        migrations.RemoveConstraint(model_name="endpoint", name="webhook_removed_knows_nothing"),
        migrations.RemoveField(model_name="endpoint", name="sealed_former_secret"),
        migrations.RemoveField(model_name="endpoint", name="former_until"),
        migrations.AddConstraint(
            model_name="endpoint",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("removed_at", None),
                    models.Q(("disabled_at__isnull", False), ("sealed_secret", b"")),
                    _connector="OR",
                ),
                name="webhook_removed_knows_nothing",
            ),
        ),
    ]
