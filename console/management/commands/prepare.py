"""Everything between a database that answers and a console that can open; safe to repeat."""

from __future__ import annotations

import secrets as randomness
from argparse import ArgumentParser
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand

from regions import secrets
from regions.models import Installation
from regions.refusals import Refusal

ADMINISTRATOR = "admin"


class Command(BaseCommand):
    help = "Migrate, collect static files, make the first administrator and the key ring (called by `up`)."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--demo", action="store_true", help="prepare the demonstration fleet too")

    def handle(self, *args: Any, demo: bool, **options: Any) -> None:
        call_command("migrate", verbosity=0, interactive=False)
        call_command("createcachetable", verbosity=0)
        call_command("collectstatic", verbosity=0, interactive=False)
        self.make_key_ring()
        self.make_administrator()
        if demo:
            self.prepare_demo()

    def make_key_ring(self) -> None:
        """The ring is made by its first use, and shown once: to a person at a terminal, never into a log (I18)."""
        if secrets.exists():
            return
        secrets.seal(b"", "first start")
        self.stdout.write(
            "\n  Recovery kit: keep it away from this machine. Without it, nothing that Farshore has sealed"
        )
        self.stdout.write(
            "  (credentials, dumps of its own database) can ever be read again. Then say so on the Stores page.\n"
        )
        if self.stdout.isatty():
            self.stdout.write(secrets.kit(str(Installation.current().uuid)))
        else:
            self.stdout.write("  In a terminal, `python3 manage.py keys export` prints it.\n")

    def make_administrator(self) -> None:
        people = get_user_model().objects
        if people.exists():
            return
        password = randomness.token_urlsafe(15)
        people.create_superuser(ADMINISTRATOR, password=password)
        self.stdout.write(
            f"\n  Sign in as  {ADMINISTRATOR}\n  Password    {password}"
            "\n  (shown this once; `python3 manage.py changepassword admin` sets another)\n\n"
        )

    def prepare_demo(self) -> None:
        try:
            fleet = import_module("demo.fleet")
        except ModuleNotFoundError as missing:
            raise Refusal(
                "NoDemo", f"The demonstration fleet is not here: {missing}.", "Start without --demo."
            ) from None
        fleet.prepare(settings.FARSHORE_DATA)
