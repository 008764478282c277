from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from backups.oversight import status
from console.management.answers import asked


class Command(BaseCommand):
    help = (
        "Say how well everything is protected. Exit code 0: all is well; 1: something needs you; 2: failing now;"
        " 3: the database does not answer."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object, for monitoring")

    def handle(self, *args: Any, **options: Any) -> None:
        found = asked(self.stderr, status.summary)
        self.stdout.write(json.dumps(found, indent=1) if options["json"] else "\n".join(_lines(found)))
        raise SystemExit(status.exit_code(found))


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [
        "Instances  " + _counted(found["instances"]),
        "Copies     " + _counted(found["copies"]),
        f"Behind     {found['furthest_behind_seconds']} s at most",
        "Stores     " + (", ".join(" ".join(pair) for pair in found["stores"].items()) or "none attached"),
    ]
    lines += [f"ALERT      {alert['sentence']} {alert['remedy']}".rstrip() for alert in found["alerts"]]
    return lines


def _counted(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in states.items()) or "none"
