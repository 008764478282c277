from django.db import migrations


class Migration(migrations.Migration):
    """A name in the admin; nothing in the database changes."""

    dependencies = [("backups", "0028_how_long_a_store_locks_a_copy")]

    operations = [migrations.AlterModelOptions(name="drillquery", options={"verbose_name_plural": "drill queries"})]
