"""The instances that could be protected and are not (R-11, R-3.4)."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from backups import eligibility
from backups.models import Instance
from console.pending_instances import readiness
from console.pending_instances.tables import PendingTable
from console.widgets import proven
from console.widgets.glance import Glance
from console.widgets.instance_lists import (
    ORDERS,
    InstanceFilter,
    absent,
    instances_here,
    mark_operated,
    pending,
    with_last_backup,
)
from console.widgets.listing import ListView
from regions import clock

ABSENT_SHOWN = 100


class PendingList(ListView):
    page_template = "pending_instances/page.html"
    fragments = {"panel": "pending_instances/_panel.html", "rows": "widgets/_rows.html"}
    table_class = PendingTable
    filter_class = InstanceFilter
    orders = ORDERS
    usual_sort = "name"

    def rows(self) -> QuerySet[Instance]:
        return with_last_backup(pending(instances_here(self.request)))

    def dress(self, rows: list[Instance]) -> list[Instance]:
        readiness.tell(rows, clock.now())
        return mark_operated(self.request, proven.tell(rows))

    def context(self) -> dict[str, Any]:
        return {"glance": Glance(self.request), "absent": self._absent}

    def _absent(self) -> list[tuple[Instance, list[Any]]]:
        """Return the instances that are not listed, each with every requirement it fails."""
        left_out = absent(instances_here(self.request)).order_by("name", "pk")[:ABSENT_SHOWN]
        return [(instance, eligibility.reasons(instance)) for instance in left_out]
