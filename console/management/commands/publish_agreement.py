from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from backups.events import By
from backups.terms import agreements
from regions.refusals import Refusal


class Command(BaseCommand):
    help = "Publish a new version of the compliance agreement, or a translation of the current one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="the text, in UTF-8")
        parser.add_argument("--user", required=True, help="who publishes it; recorded")
        parser.add_argument("--language", default="en")
        parser.add_argument(
            "--translation", action="store_true", help="of the current version: no new one is asked for"
        )

    def handle(self, *args: Any, file: Path, user: str, language: str, translation: bool, **options: Any) -> None:
        person = User.objects.filter(username=user, is_active=True).first()
        if person is None:
            raise CommandError(f"There is no active user {user}.")
        try:
            version = agreements.current_version() if translation else None
            row = agreements.publish(file.read_text(encoding="utf-8"), By(person), language, version)
        except (Refusal, OSError, UnicodeDecodeError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Published: {row}. It is asked for at the next enabling (R-13.3).")
