"""What `manage.py status` and a monitor ask: states counted, how far behind, are the stores there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.db.models import Count

from backups.models import Alert, Copy, Instance
from backups.oversight import protection
from regions import clock
from regions.models import Store

CHUNK = 1000


def summary() -> dict[str, Any]:
    """Return instances and copies (state → count), furthest_behind_seconds, stores (region → state), open alerts."""
    states: Counter[str] = Counter()
    furthest = 0
    for one in _protections():
        states[one.state] += 1
        if one.state not in ("released", "disabled", "not_set_up"):
            furthest = max(furthest, one.behind_seconds)
    copies = Copy.objects.values_list("state").annotate(n=Count("pk")).order_by("state")
    stores = Store.objects.attached().filter(role="primary").order_by("region").values_list("region", "state")
    opened = Alert.objects.filter(closed_at=None).order_by("opened_at").values("code", "subject", "sentence", "remedy")
    return {
        "instances": dict(sorted(states.items())),
        "copies": dict(copies),
        "furthest_behind_seconds": furthest,
        "stores": dict(stores),
        "alerts": list(opened),
    }


def _protections() -> Iterator[protection.Protection]:
    rows = Instance.objects.order_by("pk").iterator(CHUNK)
    while chunk := list(islice(rows, CHUNK)):
        yield from protection.of_many(chunk, clock.now()).values()


def exit_code(found: dict[str, Any]) -> int:
    """0: all is well. 1: something needs a person. 2: a store does not answer, or a copy failed."""
    if any(state != Store.State.OK for state in found["stores"].values()) or found["copies"].get("failed"):
        return 2
    if found["alerts"] or any(found["instances"].get(state) for state in protection.NEEDS_YOU):
        return 1
    return 0
