"""Ring a task by its name: work modules never import `tasks`. A bell is a hint; a sweep finds what a lost one forgot.

So a bell is never precious: it may be lost, doubled or late.
"""

from __future__ import annotations

import logging
from functools import partial

from celery import current_app
from django.db import transaction
from kombu.exceptions import KombuError

log = logging.getLogger(__name__)

CONTROL = "control"


def region_queue(region_id: str) -> str:
    """Work runs near the bytes: one queue per region (design.md §4)."""
    return f"region.{region_id}"


def ring(task: str, queue: str = CONTROL, *args: object) -> None:
    """Send the task after the transaction commits; never fails the caller, never waits long for a broker."""
    transaction.on_commit(partial(_send, task, queue, args))


def _send(task: str, queue: str, args: tuple) -> None:
    try:
        current_app.send_task(f"backups.tasks.{task}", args=args, queue=queue, expires=300)
    except (KombuError, OSError) as error:
        log.warning("bell not rung", extra={"task": task, "queue": queue, "reason": str(error)})


def ring_planning() -> None:
    ring("plan_copies")


def ring_healing() -> None:
    ring("heal_gaps")


def ring_logs(region_id: str) -> None:
    ring("receive_logs", region_queue(region_id), region_id)


def ring_copies(region_id: str) -> None:
    ring("carry_copies", region_queue(region_id), region_id)


def ring_mending(region_id: str) -> None:
    ring("mend_copies", region_queue(region_id), region_id)


def ring_backups(region_id: str) -> None:
    ring("take_backups", region_queue(region_id), region_id)


def ring_restores(region_id: str) -> None:
    ring("run_restores", region_queue(region_id), region_id)


def ring_drills(region_id: str) -> None:
    ring("run_drills", region_queue(region_id), region_id)


def ring_cleaning(region_id: str) -> None:
    ring("clean_up", region_queue(region_id), region_id)


def ring_state(instance_id: int) -> None:
    ring("write_state", CONTROL, instance_id)


def announce_region(region_id: str) -> None:
    """Tell the workers that serve every place to listen for this region too, once the transaction commits."""
    transaction.on_commit(partial(_announce, region_id))


def _announce(region_id: str) -> None:
    try:
        current_app.serve_region(region_id)
    except (AttributeError, KombuError, OSError) as error:  # AttributeError: a bare Celery, as in a test without ours
        log.warning("region not announced", extra={"region": region_id, "reason": str(error)})
