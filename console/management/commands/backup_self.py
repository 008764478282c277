from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from backups.self_recovery import self_backup
from console.management.store_arguments import person
from console.runtime.lifeline import die_with_parent
from regions.refusals import Refusal


class Command(BaseCommand):
    help = "Dump Farshore's own database into a store, sealed with the key ring (the timetable does it nightly)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--store", default="", metavar="REGION", help="whose store; else SELF_BACKUP_REGION")
        parser.add_argument("--user", default="", help="who asks; recorded")
        parser.add_argument("--by-timetable", action="store_true", help="as the child of a worker")

    def handle(self, *args: Any, store: str, user: str, by_timetable: bool, **options: Any) -> None:
        if by_timetable:
            die_with_parent()
        try:
            row = self_backup.take(person(user), store)
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(f"{row.size} bytes, read back and opened: {row.key} in the store of {row.store.region}.")
