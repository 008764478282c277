from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from backups.logs import log_receiving
from console.runtime.lifeline import die_with_parent


class Command(BaseCommand):
    """The child process of held work: it lives and dies with the worker that started it."""

    help = "Receive the logs of a region's instances (called by a worker, not by people)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("region")

    def handle(self, *args: Any, region: str, **options: Any) -> None:
        die_with_parent()
        log_receiving.serve(region)
