from __future__ import annotations

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from backups import events
from backups.self_recovery import escrow
from console.management.store_arguments import person
from regions import secrets
from regions.models import Installation
from regions.refusals import Refusal


class Command(BaseCommand):
    help = "The key ring: print the recovery kit again, or say that a copy of it is kept elsewhere."

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_subparsers(dest="what", required=True)
        what.add_parser("export", help="print the recovery kit (as root, or as the owner of the key ring)")
        said = what.add_parser("escrowed", help="say that a copy is kept elsewhere; closes the alert")
        said.add_argument("--user", required=True, help="who says so; recorded")

    def handle(self, *args: Any, what: str, user: str = "", **options: Any) -> None:
        try:
            self.export() if what == "export" else self.escrowed(user)
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal

    def export(self) -> None:
        ring = Path(settings.FARSHORE_KEYS)
        if not ring.exists():
            raise CommandError(f"There is no key ring in {ring}.")
        if os.geteuid() not in (0, ring.stat().st_uid):
            raise CommandError("Only root, or who owns the key ring, may print it.")
        events.record("keys.exported", "The recovery kit was printed on the machine itself.", keys=secrets.key_ids())
        self.stdout.write(secrets.kit(str(Installation.current().uuid)))

    def escrowed(self, user: str) -> None:
        escrow.confirm(person(user))
        self.stdout.write("Recorded: a copy of the key ring is kept elsewhere.")
