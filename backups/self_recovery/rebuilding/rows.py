"""From what state objects say to rows, each in a transaction of its own; what is known already is left as it is."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.db.models import Field, Model

from backups import events
from backups.models import (
    Copy,
    CopyPolicy,
    Hold,
    Instance,
    PolicyKind,
    ResourceGroup,
    ServerScript,
)
from backups.self_recovery import state_objects
from backups.self_recovery.rebuilding.adopting import know_region
from backups.self_recovery.rebuilding.contents import Document
from backups.self_recovery.rebuilding.report import Report
from backups.terms.policy_settings import LONGEST_DAYS, SHORTEST_DAYS
from regions import clock
from regions.refusals import Refusal

# ---- instances and policies


@transaction.atomic
def describe(code: str, state: Document, report: Report) -> None:
    """Bring back what a state object tells: the instance and its policies, none of them enabled."""
    for facts in state["regions"]:
        know_region(facts)
    if state["instance"]["code"] != code:
        raise Refusal("ManifestUnreadable", f"It is of {state['instance']['code']}.", "")
    instance = Instance.objects.filter(code=code).first()
    if instance is None:
        instance = add_instance(state["instance"], report)
        _remember_agreements(instance, state)
        _bring_script(instance, state.get("server_script"))
    for terms in state["policies"]:
        add_policy(instance, terms, report)


def add_instance(facts: Mapping[str, Any], report: Report) -> Instance:
    """Add an instance as it was; its password lay in the lost database only and has to be entered again."""
    row = Instance(
        **columns(Instance, facts, state_objects.INSTANCE_FIELDS),
        group=ResourceGroup.objects.get_or_create(name=facts.get("group") or "Rebuilt")[0],
        region=know_region({"id": facts["region"]}),
    )
    row.save()
    report.add("instances")
    return row


def _remember_agreements(instance: Instance, state: Document) -> None:
    """Who agreed to what becomes history, not an acceptance in force: that is asked for again (R-13, I12)."""
    for said in state["acceptances"]:
        sentence = f"{said['user']} had accepted the agreement, version {said['text_version']}, for {instance.name}"
        events.record("recovery.agreement", f"{sentence} on {said['at']}.", instance=instance, accepted=said)


def _bring_script(instance: Instance, said: Document | None) -> None:
    """Bring back what stood beside the databases, sealed as it was; it opens with the key ring of that time."""
    if said:
        values = columns(ServerScript, said, state_objects.SCRIPT_FIELDS)
        sealed = b64decode(said["sealed"], validate=True)
        ServerScript.objects.create(instance=instance, sealed=sealed, seen_at=values["first_seen_at"], **values)


def add_policy(instance: Instance, terms: Mapping[str, Any], report: Report) -> CopyPolicy:
    key = {
        "instance": instance,
        "kind": PolicyKind(terms["kind"]),
        "destination": know_region({"id": terms["destination"]}),
    }
    known = CopyPolicy.objects.filter(**key).first()
    if known:
        return known
    if not SHORTEST_DAYS <= terms["retention_days"] <= LONGEST_DAYS:
        raise ValueError(f"a retention of {terms['retention_days']} days")
    values = columns(CopyPolicy, terms, state_objects.POLICY_FIELDS) | key | {"enabled": False, "suspended_at": None}
    row = CopyPolicy(**values, source_region=instance.region)
    row.ended_at = row.ended_at or clock.now()
    row.save()
    report.add("policies")
    return row


def columns(model: type[Model], said: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return a row's values as they were before they became JSON; raises what `report.WRONG` holds for what is none."""
    return {name: _value(model._meta.get_field(name), said[name]) for name in names if name in said}


def _value(column: Field, said: Any) -> Any:
    value = column.to_python(said) if isinstance(said, str) else said
    if column.choices and value not in dict(column.flatchoices):
        raise ValueError(f"{column.name} {value!r:.40}")
    return value


# ---- holds


@transaction.atomic
def hold(said: Mapping[str, Any], report: Report) -> int | None:
    """Place a hold again; return its instance where it is new. Who placed it is somebody who cannot sign in here."""
    copy = Copy.objects.filter(pk=said["copy"], destination_store=report.store).select_related("set").first()
    if copy is None:
        raise Refusal("CopyMissing", f"Copy {said['copy']}, held for case {said['case_number']}, is not there.", "")
    person, _ = get_user_model().objects.get_or_create(
        username=said["placed_by"], defaults={"is_active": False, "password": make_password(None)}
    )
    placed = {"case_number": said["case_number"], "placed_at": moment(said["placed_at"])}
    _, is_new = Hold.objects.get_or_create(copy=copy, **placed, defaults={"placed_by": person})
    if not is_new:
        return None
    report.add("holds")
    return copy.set.instance_id


def moment(said: str | None) -> datetime | None:
    """Return a time as the store says it, None for none; raises ValueError for one without its zone."""
    if not said:
        return None
    read = datetime.fromisoformat(said)
    if read.tzinfo is None:
        raise ValueError("a time without its zone")
    return read
