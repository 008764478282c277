"""How work is called: Celery rings the bell, the row is the job (design.md §4)."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_process_init

from backups.bell import CONTROL, region_queue
from console.runtime.lifeline import die_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")


class Bells(Celery):
    """Celery with one more verb. Code below the console reaches it as `celery.current_app`."""

    def serve_region(self, region_id: str) -> None:
        """Tell the workers that serve every place to listen for this region too; safe to repeat.

        A worker that is away at this moment learns its regions from the database when it starts.
        """
        queue, queue_type = region_queue(region_id), self.conf.task_create_missing_queue_type
        self.control.add_consumer(
            queue,
            exchange=queue,
            routing_key=queue,
            options={"queue_arguments": {"x-queue-type": queue_type}} if queue_type == "quorum" else {},
            pattern="all@*",
            matcher="glob",
            reply=False,
        )


def transport_options(url: str) -> dict[str, Any]:
    """Short waits everywhere: a web page that rings a dead broker must not hang, and a sweep rings again."""
    if url.startswith("amqp"):
        return {"confirm_publish": True, "max_retries": 1, "interval_start": 0, "interval_max": 0.2}
    if url.startswith("redis"):
        return {
            "socket_connect_timeout": 2,
            "socket_timeout": 5,
            "visibility_timeout": 300,
            "unacked_restore_throttle": 1,
            "max_retries": 1,
            "interval_start": 0,
            "interval_max": 0.2,
        }
    return {}


def broker_settings(url: str) -> dict[str, Any]:
    queue_type = "quorum" if url.startswith("amqp") else "classic"
    return {
        "broker_url": url,
        "broker_transport_options": transport_options(url),
        "broker_connection_timeout": 3,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_default_queue": CONTROL,
        "task_default_queue_type": queue_type,
        "task_create_missing_queue_type": queue_type,
        "worker_detect_quorum_queues": True,
    }


def work_settings() -> dict[str, Any]:
    return {
        "timezone": "UTC",
        "enable_utc": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "result_backend": None,
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_send_task_events": False,
        "task_publish_retry": True,
        "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2},
        "beat_scheduler": "console.runtime.leader.LeaderScheduler",
        "beat_max_loop_interval": 1,
    }


def make_app() -> Bells:
    from django.conf import settings

    bells = Bells("farshore")
    bells.conf.update(**broker_settings(settings.BROKER_URL), **work_settings())
    bells.autodiscover_tasks()
    return bells


app = make_app()
app.set_default()  # for the web's threads too, which would otherwise get an unconfigured Celery


@setup_logging.connect
def keep_djangos_logs(**_: Any) -> None:
    """Being connected is the point: Celery then leaves the log lines as the settings made them."""


@worker_process_init.connect
def end_with_the_worker(**_: Any) -> None:
    """A killed worker must not leave children that go on working beside its successor."""
    die_with_parent()
