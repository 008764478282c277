"""From what the store says to rows, each in a transaction of its own; what is known already is left as it is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.db.models import Field, Model

from backups import events, manifest, retention, state_objects, verification
from backups.models import (
    PENDING,
    BackupFile,
    BackupSet,
    CopiedFile,
    Copy,
    CopyPolicy,
    CopyState,
    Hold,
    Instance,
    PolicyKind,
    ResourceGroup,
    SetFile,
    Transfer,
    TransferPart,
)
from backups.policy_settings import LONGEST_DAYS, SHORTEST_DAYS
from backups.rebuilding.adopting import know_region
from backups.rebuilding.contents import Document, Place, parts_of
from backups.rebuilding.report import Report
from regions import clock
from regions.models import Store
from regions.refusals import Refusal
from regions.storage import ObjectInfo

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
        instance = _add_instance(state["instance"], report)
        _remember_agreements(instance, state)
    for terms in state["policies"]:
        _add_policy(instance, terms, report)


def _add_instance(facts: Mapping[str, Any], report: Report) -> Instance:
    """Add an instance as it was; its password lay in the lost database only and has to be entered again."""
    row = Instance(
        **_columns(Instance, facts, state_objects.INSTANCE_FIELDS),
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


def _add_policy(instance: Instance, terms: Mapping[str, Any], report: Report) -> CopyPolicy:
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
    values = _columns(CopyPolicy, terms, state_objects.POLICY_FIELDS) | key | {"enabled": False, "suspended_at": None}
    row = CopyPolicy(**values, source_region=instance.region)
    row.ended_at = row.ended_at or clock.now()
    row.save()
    report.add("policies")
    return row


def _columns(model: type[Model], said: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return a row's values as they were before they became JSON; raises what `report.WRONG` holds for what is none."""
    return {name: _value(model._meta.get_field(name), said[name]) for name in names if name in said}


def _value(column: Field, said: Any) -> Any:
    value = column.to_python(said) if isinstance(said, str) else said
    if column.choices and value not in dict(column.flatchoices):
        raise ValueError(f"{column.name} {value!r:.40}")
    return value


# ---- copies


@transaction.atomic
def bring_back(place: Place, said: Document, objects: Mapping[str, ObjectInfo], report: Report) -> Copy:
    """Turn a manifest, whose objects were looked at, into a completed copy with its set, files, transfers, parts."""
    found = _set_of(place, said, report)
    policy = _policy_of(found.instance, said, report)
    copy = _copy_of(place, found, report.store)
    route, at = said["copy"], _moment(said.get("written_at")) or place.info.modified_at
    copy.policy, copy.state, copy.completed_at = policy, CopyState.COMPLETED, at
    copy.planned_at = _moment(route.get("planned_at")) or at
    copy.due_at, copy.started_at = at, copy.started_at or copy.planned_at
    copy.origin = Copy.Origin(route.get("origin", Copy.Origin.TRIGGERED))
    copy.route_version, copy.fence = route["route_version"], max(place.attempt, copy.fence)
    copy.leased_until, copy.error = None, ""
    copy.manifest_key, copy.manifest_etag = place.info.key, place.info.etag
    copy.expires_at = retention.own_expiry(found.finished_at, policy.retention_days)
    copy.total_bytes = sum(file["size"] for file in said["files"])
    copy.save()
    transfers = [_transfer_of(copy, file, objects[file["key"]], at) for file in said["files"]]
    _finish(copy, transfers)
    report.add("copies")
    return copy


def _copy_of(place: Place, found: BackupSet, store: Store) -> Copy:
    """Return the row a manifest fills: a new one, or one that a dump knew as being on its way."""
    known = Copy.objects.filter(pk=place.copy).first()
    if known and (known.state not in PENDING or (known.set_id, known.destination_store_id) != (found.pk, store.pk)):
        raise Refusal("CopyKnown", f"This catalogue has another copy {known.pk}, which is {known.state}.", "")
    other = Copy.objects.live().filter(set=found, destination_store=store).exclude(pk=place.copy).first()
    if other:
        raise Refusal("CopyKnown", f"Copy {other.pk} of the same backup is there too; one is enough.", "")
    if known:
        known.copied_files.all().delete()
    return known or Copy(pk=place.copy, set=found, destination_store=store)


def _set_of(place: Place, said: Document, report: Report) -> BackupSet:
    instance = Instance.objects.filter(code=place.code).first()
    if instance is None:
        instance = _add_instance(said["instance"], report)
        report.tell(place.code, "No state object tells of it: only what its manifests say is known.")
    known = BackupSet.objects.filter(pk=place.set).first()
    if known is None:
        return _add_set(place, instance, said["set"], report)
    if known.instance_id != instance.pk or known.finished_at != _moment(said["set"]["finished_at"]):
        raise Refusal("SetKnown", f"Set {place.set} of this catalogue is another backup.", "")
    return known


def _add_set(place: Place, instance: Instance, facts: Mapping[str, Any], report: Report) -> BackupSet:
    """Add a set as it was; whether a copy of it is owed was decided by the Farshore that was lost."""
    at = clock.now()
    values = {"discovered_at": at} | _columns(BackupSet, facts, manifest.SET_FIELDS)
    row = BackupSet(pk=place.set, instance=instance, **values, weighed_at=at)
    row.save(force_insert=True)
    report.add("sets")
    return row


def _policy_of(instance: Instance, said: Document, report: Report) -> CopyPolicy:
    """Return the policy a copy was made under; where nothing tells how long it is kept, the longest is taken."""
    route = said["copy"]
    terms = {
        "kind": route.get("policy") or PolicyKind.CROSS_REGION,
        "destination": route["destination_region"],
        "retention_days": route.get("retention_days", LONGEST_DAYS),
        "route_version": route["route_version"],
    }
    before = report.added.get("policies")
    policy = _add_policy(instance, terms, report)
    if report.added.get("policies") != before and "retention_days" not in route:
        report.tell(instance.code, f"Nothing tells how long its copies are kept; {LONGEST_DAYS} days are assumed.")
    return policy


def _transfer_of(copy: Copy, file: Mapping[str, Any], info: ObjectInfo, at: datetime) -> Transfer:
    """Return the attempt that brought a file, with its parts; copies of sets in one file share it."""
    source = _file_of(copy, file, at)
    uploaded_at = _moment(file.get("uploaded_at")) or at
    transfer, is_new = Transfer.objects.get_or_create(
        store=copy.destination_store,
        key=file["key"],
        defaults={
            "file": source,
            "fence": int(file["key"].rsplit("/", 2)[1]),
            "size": file["size"],
            "started_at": uploaded_at,
        },
    )
    if is_new or transfer.state in Transfer.UNDER_WAY:
        transfer.state, transfer.etag, transfer.version = Transfer.State.VERIFIED, info.etag, info.version
        transfer.digest, transfer.reference = file["digest"], file["reference"]
        transfer.verification = file.get("verification") or ""
        transfer.bytes_verified = file["size"]  # not sent by us: that stands in the bills of the one that was lost
        transfer.uploaded_at, transfer.verified_at = uploaded_at, _moment(file.get("verified_at")) or at
        transfer.save()
        _write_parts(transfer, file)
    CopiedFile.objects.update_or_create(copy=copy, file=source, defaults={"transfer": transfer})
    return transfer


def _write_parts(transfer: Transfer, file: Mapping[str, Any]) -> None:
    transfer.parts.all().delete()
    TransferPart.objects.bulk_create(
        TransferPart(
            transfer=transfer,
            number=part.number,
            offset=part.offset,
            size=part.size,
            sha256=part.sha256,
            verified_at=transfer.verified_at,
        )
        for part in parts_of(file)
    )


def _file_of(copy: Copy, file: Mapping[str, Any], at: datetime) -> BackupFile:
    """Return the file at its source, known from its copy: whether it still lies there, looks in its region tell."""
    source = file.get("source") or {}
    number = source.get("id") or int(file["key"].rsplit("/", 1)[1])
    row = BackupFile.objects.filter(pk=number).first() or _add_file(copy, number, file, source, at)
    if row.instance_id != copy.set.instance_id:
        raise Refusal("FileKnown", f"File {number} of this catalogue is another instance's.", "")
    place = {"position": file.get("position", 1), "family_sequence": file.get("family_sequence", 1)}
    SetFile.objects.get_or_create(set=copy.set, file=row, defaults=place)
    return row


def _add_file(copy: Copy, number: int, file: Mapping[str, Any], source: Mapping[str, Any], at: datetime) -> BackupFile:
    hashes: dict[str, Any] = {"sha256": file["sha256"]} if file.get("sha256") else {}
    if source.get("is_taken"):
        hashes["parts"] = [[size, sha256] for _, size, sha256 in file["parts"]]
    return BackupFile.objects.create(
        pk=number,
        instance=copy.set.instance,
        store=_source_store(copy.set.instance, source),
        key=source.get("key", file["source_key"]),
        size=file["size"],
        etag=source.get("etag", ""),
        version=source.get("version", ""),
        modified_at=_moment(source.get("modified_at")) or copy.set.finished_at,
        state=BackupFile.State.ELSEWHERE,
        is_ours=False,  # never deleted by us: nobody has seen what lies there now
        integrity=hashes,
        media_set_guid=source.get("media_set_guid", ""),
        first_seen_at=_moment(source.get("first_seen_at")) or at,
        settled_at=_moment(source.get("settled_at")) or at,
    )


def _source_store(instance: Instance, source: Mapping[str, Any]) -> Store:
    """Return the store a file came from: not attached, and the same again once its place is, by its marker."""
    said = {"uuid": source["store"]} if "store" in source else {"region": instance.region}
    role = source.get("store_role", Store.Role.PRIMARY)
    at = clock.now()
    return Store.objects.filter(**said, role=role).first() or Store.objects.create(
        **said | {"region": instance.region},
        role=role,
        url=source.get("store_url", ""),
        attached_at=at,
        detached_at=at,
        state=Store.State.UNREACHABLE,
        last_error="It is known from the manifests of copies only.",
    )


def _finish(copy: Copy, transfers: list[Transfer]) -> None:
    """Say what was proved of it and whose the bytes are: the first copy that used a file counts them."""
    counted = CopiedFile.objects.filter(copy__state=CopyState.COMPLETED, copy__stored_bytes__gt=0).exclude(copy=copy)
    copy.stored_bytes = sum(transfer.size for transfer in transfers if not counted.filter(transfer=transfer).exists())
    copy.reference = verification.weakest(transfers)
    copy.verification = verification.level_of(transfers)
    copy.save(update_fields=["stored_bytes", "reference", "verification"])
    at = clock.now()
    if copy.expires_at > at:
        retention.open_span(copy, at)  # from now on; what it cost before stands in the bills of the one that was lost


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
    placed = {"case_number": said["case_number"], "placed_at": _moment(said["placed_at"])}
    _, is_new = Hold.objects.get_or_create(copy=copy, **placed, defaults={"placed_by": person})
    if not is_new:
        return None
    report.add("holds")
    return copy.set.instance_id


def _moment(said: str | None) -> datetime | None:
    if not said:
        return None
    moment = datetime.fromisoformat(said)
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment
