"""Doors for Celery, on the control queue; safe to run twice, late, or not at all for a while."""

from __future__ import annotations

from celery import shared_task

from billing import budgets, closing, downloads

# name of the task → seconds between two rings
TIMETABLE: dict[str, float] = {
    "close_months": 900,
    "keep_price_alerts": 900,
    "keep_budget_alerts": 900,
    "settle_downloads": 60,
}


@shared_task
def close_months() -> None:
    closing.close_due()


@shared_task
def keep_price_alerts() -> None:
    closing.keep_price_alerts()


@shared_task
def keep_budget_alerts() -> None:
    budgets.keep_alerts()


@shared_task
def settle_downloads() -> None:
    """After a machine that served them died; where its process died, whoever resumes settles it."""
    downloads.settle()
