"""Whose turn it is to send: a row with a lease, instead of a lock of a connection's."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("console_webhooks", "0002_former_secrets"),
    ]

    operations = [
        migrations.CreateModel(
            name="Turn",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("fence", models.BigIntegerField(default=0)),
                ("leased_until", models.DateTimeField(null=True)),
                ("leased_by", models.CharField(blank=True, max_length=120)),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="webhook_one_turn")],
            },
        ),
    ]
