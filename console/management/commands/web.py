"""The web: gunicorn with threads, loaded once and forked."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from gunicorn.app.base import BaseApplication

from console.openapi import before
from console.runtime import variables


class Console(BaseApplication):
    def __init__(self, chosen: dict[str, Any]) -> None:
        self.chosen = chosen
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.chosen.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        from console.wsgi import application

        return application


class Command(BaseCommand):
    help = "Serve the console (a child of `up`; alone for a fleet)."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--bind", default=variables.text("FARSHORE_BIND", "127.0.0.1"))
        parser.add_argument("--port", type=int, default=variables.number("FARSHORE_PORT", 8000, least=1, most=65_535))
        parser.add_argument("--processes", type=int, default=2)
        parser.add_argument("--threads", type=int, default=4)

    def handle(self, *args: Any, bind: str, port: int, processes: int, threads: int, **options: Any) -> None:
        host = f"[{bind}]" if ":" in bind else bind
        chosen = {
            "bind": f"{host}:{port}",
            "worker_class": "gthread",
            "workers": processes,
            "threads": threads + settings.DOWNLOADS_AT_ONCE,  # so that downloads never take the pages' threads
            "limit_request_line": 8190,  # the most there is: an old SDK's call is one long line
            "preload_app": True,
            "graceful_timeout": 5,
            "timeout": 60,
            "max_requests": 20_000,
            "max_requests_jitter": 2_000,
            "proc_name": "farshore-web",
            "worker_tmp_dir": None,
            "control_socket_disable": True,
            "logconfig_dict": settings.LOGGING,
        }
        before.answer_in_envelopes()
        Console(chosen).run()
