"""What failed is counted at every scrape, among rows by the million that arrived."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("console_webhooks", "0003_whose_turn_it_is"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(condition=models.Q(("state", "failed")), fields=["endpoint"], name="webhook_failed"),
        ),
    ]
