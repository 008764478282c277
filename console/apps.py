from __future__ import annotations

import gc

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    """The house itself: its commands. Each tab is an app of its own."""

    name = "console"
    verbose_name = "Console"

    def ready(self) -> None:
        """Whoever rings a bell through `celery.current_app` must find ours."""
        from console import celery  # noqa: F401

        gc.freeze()  # what was loaded stays: no collection need ever look at it
        gc.enable()
