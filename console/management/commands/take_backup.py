from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from backups import default_backups
from backups.models import BackupJob
from console.runtime.lifeline import die_with_parent


class Command(BaseCommand):
    """The child process of held work: it lives and dies with the worker that claimed the job."""

    help = "Take one claimed default backup (called by a worker, not by people)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", type=int)
        parser.add_argument("fence", type=int)

    def handle(self, *args: Any, job: int, fence: int, **options: Any) -> None:
        die_with_parent()
        row = BackupJob.objects.select_related("instance__region").filter(pk=job, fence=fence, state="running").first()
        if row:
            default_backups.take_and_go_on(row)
