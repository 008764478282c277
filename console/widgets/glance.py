"""Protection at a glance: how many are protected, where copies go, whose backup waits longest, what storage costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from django.db.models import Q, QuerySet, Sum
from django.http import HttpRequest

from backups.models import Copy, CopyPolicy, CopyState
from backups.oversight.protection import NEEDS_YOU, PROTECTED, Protection, of_many
from billing.statements import StorageCost, storage_this_month
from console.widgets.instance_lists import backed_up, instances_here, pending
from console.widgets.labels import translated
from console.widgets.states import PROTECTION
from regions import clock
from regions.models import Region

MOST_WEIGHED = 2000
MOST_COUNTED = 1000
ROUTES_SHOWN = 4
WORST = {state: rank for rank, state in enumerate(NEEDS_YOU)}


@dataclass(frozen=True)
class Route:
    name: str
    stored_bytes: int
    share: int
    state: str

    @property
    def look(self) -> object:
        return PROTECTION[self.state]


class Glance:
    """Reckoned lazily, for the instances this person sees in the chosen region."""

    def __init__(self, request: HttpRequest) -> None:
        self.instances = instances_here(request)
        self.at = clock.now()

    @cached_property
    def protections(self) -> list[Protection]:
        return list(of_many(self.instances.living().order_by("name", "pk")[:MOST_WEIGHED], self.at).values())

    @cached_property
    def states(self) -> Counter[str]:
        return Counter(found.state for found in self.protections)

    @property
    def total(self) -> int:
        return len(self.protections)

    @property
    def protected(self) -> int:
        return sum(found.is_protected for found in self.protections)

    @property
    def troubled(self) -> int:
        return sum(self.states[state] for state in NEEDS_YOU)

    @property
    def legend(self) -> list[tuple[object, int]]:
        """Return the states that occur, each with its look, the good ones first."""
        order = [*PROTECTED[::-1], *NEEDS_YOU, "not_set_up", "disabled"]
        return [(PROTECTION[state], self.states[state]) for state in order if self.states[state]]

    @cached_property
    def attention(self) -> list[Protection]:
        """Return the instances that need somebody, the worst first."""
        troubled = [found for found in self.protections if found.state in WORST]
        return sorted(troubled, key=lambda found: (WORST[found.state], -found.behind_seconds, found.instance.name))

    @cached_property
    def waits_longest(self) -> Protection | None:
        behind = [found for found in self.protections if found.behind_seconds]
        return max(behind, key=lambda found: found.behind_seconds, default=None)

    @cached_property
    def routes(self) -> list[Route]:
        """Return where copies go or lie, each with the worst state of the instances that go there: the worst first."""
        worst = self._worst_by_destination()
        stored = self.stored
        most = max(stored.values(), default=0) or 1
        names = {region.pk: translated(region.name) for region in self._destinations()}
        routes = [
            Route(name, stored.get(pk, 0), round(100 * stored.get(pk, 0) / most), worst.get(pk, "in_step"))
            for pk, name in names.items()
        ]
        return sorted(routes, key=lambda route: (WORST.get(route.state, len(WORST)), -route.stored_bytes))

    @property
    def shown_routes(self) -> list[Route]:
        return self.routes[:ROUTES_SHOWN]

    @property
    def more_routes(self) -> int:
        return max(0, len(self.routes) - ROUTES_SHOWN)

    @cached_property
    def storage(self) -> StorageCost:
        return storage_this_month(self.at, self.instances)

    @cached_property
    def stored(self) -> dict[str, int]:
        """Return the bytes of completed copies by backup region."""
        copies = Copy.objects.cross_region().filter(set__instance__in=self.instances, state=CopyState.COMPLETED)
        return dict(copies.values_list("destination_store__region").annotate(bytes=Sum("stored_bytes")).order_by())

    @property
    def stored_bytes(self) -> int:
        return sum(self.stored.values())

    @cached_property
    def pending(self) -> str:
        return _bounded(pending(self.instances))

    @cached_property
    def backed_up(self) -> str:
        return _bounded(backed_up(self.instances))

    def _destinations(self) -> QuerySet[Region]:
        policies = CopyPolicy.objects.cross_region().enabled().filter(instance__in=self.instances.living())
        return Region.objects.filter(Q(pk__in=policies.values("destination")) | Q(pk__in=list(self.stored)))

    def _worst_by_destination(self) -> dict[str, str]:
        worst: dict[str, str] = {}
        for found in self.attention:
            if found.policy:
                worst.setdefault(found.policy.destination_id, found.state)
        return worst


def _bounded(rows: QuerySet) -> str:
    """Count no further than a page of a list is worth."""
    n = rows.order_by()[: MOST_COUNTED + 1].count()
    return f"{MOST_COUNTED}+" if n > MOST_COUNTED else str(n)
