from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from backups import restoring
from backups.models import Restore
from console.runtime.lifeline import die_with_parent


class Command(BaseCommand):
    """The child process of held work. When its worker ends, it stops the server and hands the restore back."""

    help = "Build one claimed restore and hold its server (called by a worker, not by people)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("restore", type=int)
        parser.add_argument("fence", type=int)

    def handle(self, *args: Any, restore: int, fence: int, **options: Any) -> None:
        leaving = threading.Event()
        for told in (signal.SIGTERM, signal.SIGINT):
            signal.signal(told, lambda *_: leaving.set())
        die_with_parent(signal.SIGTERM)
        mine = Restore.objects.select_related("instance__group", "region", "asked_by", "landing", "onto")
        row = mine.filter(pk=restore, fence=fence, state__in=Restore.HELD).first()
        if row:
            restoring.run(row, leaving)
