"""What an endpoint is told of a happening: JSON with our ids, bytes, places and the sentence; no secret, no link."""

from __future__ import annotations

import json
import re
import secrets as randomness
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from backups.models import Alert, Copy, Drill, Event, LogGap, Restore
from billing.models import Budget
from console.webhooks.models import Delivery, Endpoint, Kind, new_message_id
from regions.models import Installation

OF_EVENTS = {
    "copy.completed": Kind.COPY_COMPLETED,
    "log_gap.found": Kind.GAP_FOUND,
    "log_gap.healed": Kind.GAP_HEALED,
    "restore.ready": Kind.RESTORE_DONE,
    "drill.failed": Kind.DRILL_FAILED,
}
OF_ALERTS = {
    "copy_failed": Kind.COPY_FAILED,  # not the event, of which there is one for each attempt
    "copy_late": Kind.COPY_LATE,
    "budget_spent": Kind.BUDGET_REACHED,
}
Facts = dict[str, Any]


def of_events(endpoint: Endpoint, found: Sequence[Event], at: datetime) -> list[Delivery]:
    sender, facts = Sender(endpoint, at), _facts_of_events(found)
    return [sender.delivery(OF_EVENTS[one.kind], f"event:{one.pk}", one, one.at, facts[one.pk]) for one in found]


def of_alerts(endpoint: Endpoint, found: Sequence[Alert], at: datetime) -> list[Delivery]:
    sender, facts = Sender(endpoint, at), _facts_of_alerts(found)
    return [sender.delivery(OF_ALERTS[one.code], f"alert:{one.pk}", one, one.opened_at, facts[one.pk]) for one in found]


def ping(endpoint: Endpoint, at: datetime, by: str) -> Delivery:
    told = Alert(sentence=f"{by} sent a test from Farshore.")
    return Sender(endpoint, at).delivery(Kind.PING, f"ping:{randomness.token_hex(12)}", told, at, {})


class Sender:
    """Who tells an endpoint what at one moment."""

    def __init__(self, endpoint: Endpoint, at: datetime) -> None:
        self.endpoint, self.at, self.installation = endpoint, at, str(Installation.current().uuid)

    def delivery(self, kind: Kind, source: str, told: Event | Alert, occurred_at: datetime, facts: Facts) -> Delivery:
        instance, message_id = told.instance, new_message_id()
        body = {
            "id": message_id,
            "type": kind.value,
            "occurred_at": _time(occurred_at),
            "installation": self.installation,
            "instance": {"code": instance.code, "name": instance.name} if instance else None,
            "region": instance.region_id if instance else None,
            "sentence": told.sentence,
            "data": facts,
        }
        return Delivery(
            endpoint=self.endpoint,
            kind=kind,
            source=source,
            message_id=message_id,
            instance=instance,
            group_id=told.group_id if kind == Kind.BUDGET_REACHED else None,
            occurred_at=occurred_at,
            body=json.dumps(body, ensure_ascii=False),
            created_at=self.at,
            due_at=self.at,
        )


# ---- the facts of each kind


def _facts_of_events(found: Iterable[Event]) -> dict[int, Facts]:
    """Return the facts by the event's id; each noun is read once for all of them, and told empty where it is gone."""
    asked: defaultdict[Read, dict[int, Any]] = defaultdict(dict)
    for event in found:
        read, name = READ[event.kind]
        asked[read][event.pk] = event.data.get(name)
    known = {read: read(set(ids.values())) for read, ids in asked.items()}
    return {pk: known[read].get(of, {}) for read, ids in asked.items() for pk, of in ids.items()}


def _facts_of_alerts(found: Sequence[Alert]) -> dict[int, Facts]:
    about = {one.pk: int(one.subject.removeprefix("copy:")) for one in found if one.subject.startswith("copy:")}
    copies = _of_copies(set(about.values()))
    told = {pk: copies.get(copy, {}) | {"alert": pk} for pk, copy in about.items()}
    return told | {one.pk: _of_budget(one) for one in found if one.pk not in told}


def _of_copies(pks: Collection[Any]) -> dict[Any, Facts]:
    return {
        copy.pk: {
            "copy": copy.pk,
            "set": copy.set_id,
            "database": copy.set.database,
            "kind": copy.set.kind,
            "finished_at": _time(copy.set.finished_at),
            "destination": copy.policy.destination_id,
            "bytes": copy.set.size_bytes,
            "planned_at": _time(copy.planned_at),
            "completed_at": _time(copy.completed_at),
        }
        for copy in Copy.objects.select_related("set", "policy").filter(pk__in=pks)
    }


def _of_gaps(pks: Collection[Any]) -> dict[Any, Facts]:
    return {
        gap.pk: {
            "gap": gap.pk,
            "database": gap.database,
            "destination": gap.store.region_id,
            "from": _time(gap.from_time),
            "until": _time(gap.until_time),
        }
        for gap in LogGap.objects.select_related("store").filter(pk__in=pks)
    }


def _of_restores(codes: Collection[Any]) -> dict[Any, Facts]:
    return {
        restore.code: {
            "restore": restore.code,
            "name": restore.name,
            "into": restore.region_id,
            "set": restore.set_id,
            "database": restore.landed_as or restore.database,
            "asked_until": _time(restore.until),
            "restored_until": _time(restore.restored_until),
            "result": restore.result.code if restore.result else None,
        }
        for restore in Restore.objects.select_related("result").filter(code__in=codes)
    }


def _of_drills(pks: Collection[Any]) -> dict[Any, Facts]:
    return {
        drill.pk: {
            "drill": drill.pk,
            "pick": drill.pick,
            "set": drill.set_id,
            "database": drill.database,
            "destination": drill.store.region_id if drill.store else None,
        }
        for drill in Drill.objects.select_related("store").filter(pk__in=pks)
    }


Read = Callable[[Collection[Any]], dict[Any, Facts]]
READ: dict[str, tuple[Read, str]] = {
    "copy.completed": (_of_copies, "copy"),
    "log_gap.found": (_of_gaps, "gap"),
    "log_gap.healed": (_of_gaps, "gap"),
    "restore.ready": (_of_restores, "restore"),
    "drill.failed": (_of_drills, "drill"),
}
SUBJECT = re.compile(r"budget:(\d+):(\d{4}-\d\d):(\d+)")


def _of_budget(alert: Alert) -> Facts:
    said = SUBJECT.fullmatch(alert.subject)
    if said is None:
        return {}
    pk, month, percent = said.groups()
    budget = Budget.objects.filter(pk=pk).first()
    return {
        "budget": int(pk),
        "group": alert.group.name if alert.group else None,
        "month": month,
        "percent": int(percent),
        "amount_usd": str(budget.amount) if budget else None,
        "alert": alert.pk,
    }


def _time(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None
