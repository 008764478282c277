from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from backups import audit
from billing import audit as ledger
from console.management.answers import asked


class Command(BaseCommand):
    help = "Check the live database, stores and ledger against what must always hold; exits 1 on any breach."

    def handle(self, *args: Any, **options: Any) -> None:
        found = asked(self.stderr, lambda: [*audit.breaches(), *ledger.breaches()])
        for name, sentence in found:
            self.stdout.write(f"{name}: {sentence}")
        if found:
            raise SystemExit(1)
        self.stdout.write(f"All {len(audit.CHECKS) + len(ledger.CHECKS)} checks hold.")
