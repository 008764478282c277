"""Doors for Celery, on the control queue; safe to run twice, late, or not at all for a while."""

from __future__ import annotations

from celery import shared_task

from console.openapi import tidying

# name of the task → seconds between two rings
TIMETABLE: dict[str, float] = {"tidy_calls": 60}


@shared_task
def tidy_calls() -> None:
    tidying.forget_old()
