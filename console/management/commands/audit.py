from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from backups.oversight import audit
from billing import audit as ledger
from console.management.answers import asked
from console.webhooks import audit as webhooks

ROOMS = (audit, ledger, webhooks)


class Command(BaseCommand):
    help = "Check the live database, stores, ledger and webhooks against what must always hold; exits 1 on any breach."

    def handle(self, *args: Any, **options: Any) -> None:
        found = asked(self.stderr, lambda: [breach for room in ROOMS for breach in room.breaches()])
        for name, sentence in found:
            self.stdout.write(f"{name}: {sentence}")
        if found:
            raise SystemExit(1)
        self.stdout.write(f"All {sum(len(room.CHECKS) for room in ROOMS)} checks hold.")
