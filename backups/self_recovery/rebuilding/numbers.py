"""Object keys are built from rows' numbers: after a recovery, new rows are numbered far behind all that ever were."""

from __future__ import annotations

from django.db import connection
from django.db.models import F, Max

from backups.models import PENDING, BackupFile, BackupJob, BackupSet, Copy

NUMBERS_APART = 1_000_000
ATTEMPTS_APART = 1_000
NUMBERED = (BackupSet, BackupFile, Copy, BackupJob)


def number_on(most: int = 0) -> None:
    """Move the numbers of sets, files, copies and jobs on, well behind `most` and whatever rows there are."""
    highest = max([most, *(model.objects.aggregate(n=Max("pk"))["n"] or 0 for model in NUMBERED)])
    wanted = (highest // NUMBERS_APART + 2) * NUMBERS_APART  # at least that far, and easy to tell by eye
    with connection.cursor() as cursor:
        for model in NUMBERED:
            cursor.execute("SELECT pg_get_serial_sequence(%s, 'id')", [model._meta.db_table])
            sequence = cursor.fetchone()[0]
            cursor.execute(f"SELECT setval(%s, greatest(%s, (SELECT last_value FROM {sequence})))", [sequence, wanted])


def attempt_anew() -> None:
    """What was under way when a dump was made may have gone on: its next attempt takes a number nobody has used."""
    Copy.objects.filter(state__in=PENDING).update(fence=F("fence") + ATTEMPTS_APART, leased_until=None)
    BackupJob.objects.filter(state__in=BackupJob.ACTIVE).update(fence=F("fence") + ATTEMPTS_APART, leased_until=None)
