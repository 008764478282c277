"""The clock: rings the sweeps by the timetable. Several may run; one ticks."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.core.management.base import BaseCommand

from backups.bell import CONTROL
from console.celery import app


class Command(BaseCommand):
    help = "Ring the sweeps (a child of `up`; any number may run, one of them ticks)."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        app.conf.beat_schedule = schedule(timetable())
        app.Beat(loglevel="INFO", schedule=None, scheduler_cls=app.conf.beat_scheduler).run()


def timetable() -> dict[str, float]:
    """What the rooms want rung: a task's name and every how many seconds."""
    return {
        f"{room}.tasks.{name}": seconds
        for room in ("backups", "billing", "console.openapi", "console.webhooks")
        for name, seconds in import_module(f"{room}.tasks").TIMETABLE.items()
    }


def schedule(times: dict[str, float]) -> dict[str, dict[str, Any]]:
    """A ring nobody answered before two more were due is worth nothing, so it expires."""
    return {
        name: {
            "task": name,
            "schedule": float(seconds),
            "options": {"queue": CONTROL, "expires": max(10, 2 * int(seconds))},
        }
        for name, seconds in times.items()
    }
