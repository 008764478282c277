from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from backups.engines import ENGINES


class Command(BaseCommand):
    help = (
        "Print what an administrator of a database server reads, completes with a password and runs, so that Farshore"
        " has a login there with the rights that it uses and no others. It connects to nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        offering = sorted(name for name, engine in ENGINES.items() if engine.login_script)
        parser.add_argument("engine", choices=offering)
        parser.add_argument("--login", default="farshore", help="its name (farshore)")
        parser.add_argument("--database", action="append", default=[], help="one that is backed up; give it for each")
        parser.add_argument("--major", type=int, default=0, help="the server's version, such as 16 for 16.0.4135")
        parser.add_argument("--restores", action="store_true", help="backups are restored on this server too")

        parser.add_argument("--snapshots", action="store_true", help="its databases are suspended for snapshots")

    def handle(self, *args: Any, engine: str, login: str, database: list[str], **options: Any) -> None:
        wanted = {name: options[name] for name in ("major", "restores", "snapshots")}
        script = ENGINES[engine].login_script(login, database, **wanted)
        self.stdout.write(script, ending="")
