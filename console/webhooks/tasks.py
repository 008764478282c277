"""Doors for Celery, on the control queue; safe to run twice, late, or not at all for a while."""

from __future__ import annotations

from celery import shared_task

from console.webhooks import delivering, deriving, tidying

# name of the task → seconds between two rings
TIMETABLE: dict[str, float] = {"sweep_webhooks": 5, "tidy_webhooks": 3600}


@shared_task
def sweep_webhooks() -> None:
    """Find what has happened, then send what is due; about a quarter of a minute at most."""
    deriving.derive()
    delivering.deliver_due()


@shared_task
def tidy_webhooks() -> None:
    tidying.forget_old()
