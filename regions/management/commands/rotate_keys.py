from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from regions import secrets


class Command(BaseCommand):
    help = "Adds a new key to the key ring and seals every stored credential again. Old keys stay in the ring."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"{secrets.rotate()} secrets are now sealed with a new key.")
