from django.db import migrations, models
from django.db.models import F
from django.db.models.functions import Now


def note_what_is_locked(apps, schema_editor):
    """What locked copies need is found with the next hourly look at dates, which these policies are due for."""
    Copy, CopyPolicy = (apps.get_model("backups", name) for name in ("Copy", "CopyPolicy"))
    locked = Copy.objects.filter(locked_until__isnull=False)
    locked.update(lock_keeps_until=F("locked_until"))
    behind = CopyPolicy.objects.filter(pk__in=locked.values("policy"), dates_behind_since=None)
    behind.update(dates_behind_since=Now())


class Migration(migrations.Migration):
    dependencies = [("backups", "0029_drill_queries")]

    operations = [
        migrations.AddField(
            model_name="copy",
            name="lock_keeps_until",
            field=models.DateTimeField(null=True),
        ),
        migrations.RunPython(note_what_is_locked, migrations.RunPython.noop, elidable=True),
    ]
