"""The hands: one Celery worker, for every place or for the regions named."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from backups.bell import CONTROL, region_queue
from console.celery import app
from regions.models import Region
from regions.refusals import Refusal


class Command(BaseCommand):
    help = "Do the work: all of it, or near the bytes of the regions named."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--region", nargs="+", action="extend", default=[], metavar="ID")
        parser.add_argument("--concurrency", type=int, default=2, metavar="N")

    def handle(self, *args: Any, region: list[str], concurrency: int, **options: Any) -> None:
        queues = regional_queues(region) if region else all_queues()
        name = ",".join(sorted(region)).replace(",", "+") or "all"
        app.worker_main(
            [
                "worker",
                f"--hostname={name}@%h",
                f"--queues={','.join(queues)}",
                f"--concurrency={concurrency}",
                "--loglevel=INFO",
                "--without-gossip",
                "--without-mingle",
                "--without-heartbeat",
            ]
        )


def all_queues() -> list[str]:
    """Control, and every region with an attached store; a region attached later is announced (Bells.serve_region)."""
    return [CONTROL, *map(region_queue, Region.objects.with_store().values_list("id", flat=True).distinct())]


def regional_queues(ids: list[str]) -> list[str]:
    known = set(Region.objects.filter(id__in=ids).values_list("id", flat=True))
    if unknown := sorted(set(ids) - known):
        raise Refusal("NoSuchRegion", f"There is no region {', '.join(unknown)}.", "See the list under Stores.")
    return [region_queue(region_id) for region_id in sorted(known)]
