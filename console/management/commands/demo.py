from __future__ import annotations

import signal
import threading
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Run the demonstration fleet: a PostgreSQL, simulated SQL Server jobs (a child of `up --demo`)."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for told in (signal.SIGINT, signal.SIGTERM):
            signal.signal(told, lambda *_: stop.set())
        import_module("demo.running").run(settings.FARSHORE_DATA, stop)
