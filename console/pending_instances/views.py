"""The instances that could be protected and are not (R-11, R-3.4)."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from backups.models import Instance
from backups.terms import eligibility
from console.pending_instances import readiness
from console.pending_instances.tables import AbsentTable, PendingTable
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

    def _absent(self) -> dict[str, Any]:
        """Return how many instances are not listed, and of the first of them every requirement each fails."""
        left_out = absent(instances_here(self.request))
        shown = list(left_out.order_by("name", "pk")[: ABSENT_SHOWN + 1])
        count = left_out.count() if len(shown) > ABSENT_SHOWN else len(shown)
        return {"count": count, "shown": tell_reasons(shown[:ABSENT_SHOWN]), "is_cut": count > ABSENT_SHOWN}


class AbsentList(ListView):
    """Every instance that Pending Instances leaves out, page by page, with all that speaks against it (R-3.4)."""

    page_template = "pending_instances/absent.html"
    table_class = AbsentTable
    filter_class = InstanceFilter
    orders = ORDERS
    usual_sort = "name"

    def rows(self) -> QuerySet[Instance]:
        return absent(instances_here(self.request))

    def dress(self, rows: list[Instance]) -> list[Instance]:
        return tell_reasons(rows)


def tell_reasons(instances: list[Instance]) -> list[Instance]:
    """Give each instance `reasons`: every requirement it fails."""
    for instance in instances:
        instance.reasons = eligibility.reasons(instance)
    return instances
