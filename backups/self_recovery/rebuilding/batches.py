"""Many manifests into rows with few statements: what is known is looked up for all at once, new rows go in together.

A batch is one transaction. A manifest that does not fit is told and leaves nothing; where the database refuses the rows
of a batch, its manifests are brought back one by one, so that what is wrong costs itself alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Model

from backups import alerts
from backups.copying import manifest, verification
from backups.keeping import retention
from backups.models import (
    PENDING,
    BackupFile,
    BackupSet,
    CopiedFile,
    Copy,
    CopyPolicy,
    CopyState,
    Instance,
    PolicyKind,
    SetFile,
    StorageSpan,
    Transfer,
    TransferPart,
)
from backups.self_recovery.rebuilding.contents import Document, Find, parts_of
from backups.self_recovery.rebuilding.report import WRONG, Report
from backups.self_recovery.rebuilding.rows import add_instance, add_policy, columns, moment
from backups.terms.policy_settings import LONGEST_DAYS
from regions import clock
from regions.models import Store
from regions.refusals import Refusal
from regions.storage import ObjectInfo

MOST_COPIES, MOST_PARTS = 250, 20_000
ROWS_AT_ONCE = 2_000
Said = Mapping[str, Any]


def is_full(finds: Sequence[Find]) -> bool:
    return len(finds) >= MOST_COPIES or sum(find.parts for find in finds) >= MOST_PARTS


def bring_back(finds: Sequence[Find], report: Report) -> set[int]:
    """Turn manifests into completed copies with their sets, files, transfers and parts; return their instances."""
    if not finds:
        return set()
    told = Report(report.store)
    try:
        with transaction.atomic():
            touched = _Batch(report.store, finds, told).bring_back()
    except WRONG as error:
        if len(finds) == 1:
            report.tell(finds[0].place.info.key, error)
            return set()
        return set().union(*(bring_back([find], report) for find in finds))
    report.take_in(told)
    return touched


class _NotKnown(Exception):
    """An instance, a policy or a store has to be added: the manifest is looked at once more, on its own."""


@dataclass
class _Draft:
    """What one manifest comes to, before anything of it is taken into the batch."""

    find: Find
    set: BackupSet
    copy: Copy
    files: dict[int, BackupFile] = field(default_factory=dict)
    places: dict[int, SetFile] = field(default_factory=dict)  # by file
    transfers: dict[str, Transfer] = field(default_factory=dict)  # by key, in the manifest's order
    carried: dict[int, Transfer] = field(default_factory=dict)  # by file
    parts: dict[str, list[TransferPart]] = field(default_factory=dict)  # by the key of a transfer that is filled


class _Batch:
    """What is known of everything the manifests name, and the rows that are added to it."""

    def __init__(self, store: Store, finds: Sequence[Find], report: Report) -> None:
        self._store, self._finds, self._report, self._may_add = store, finds, report, False
        self._at = clock.now()  # once for all of them: the database is asked for it
        files = [file for find in finds for file in find.said["files"]]
        keys = [file["key"] for file in files]
        places = [find.place for find in finds]
        known = Instance.objects.filter(code__in={place.code for place in places}).select_related("region")
        self.instances = {instance.code: instance for instance in known}
        policies = CopyPolicy.objects.filter(instance__in=[instance.pk for instance in known])
        self.policies = {(row.instance_id, row.kind, row.destination_id): row for row in policies}
        self.sources: dict[tuple[str, str], Store] = {}
        self.sets = BackupSet.objects.in_bulk([place.set for place in places])
        self.copies = Copy.objects.in_bulk([place.copy for place in places])
        live = Copy.objects.live().filter(set__in=[place.set for place in places], destination_store=store)
        self.live = dict(live.values_list("set", "pk"))
        self.files = BackupFile.objects.in_bulk(list(_numbers(files)))
        self.transfers = {row.key: row for row in Transfer.objects.filter(store=store, key__in=keys)}
        laid = SetFile.objects.filter(set__in=list(self.sets), file__in=list(self.files))
        self.places = set(laid.values_list("set", "file"))
        counted = CopiedFile.objects.filter(
            transfer__in=self.transfers.values(), copy__state=CopyState.COMPLETED, copy__stored_bytes__gt=0
        )
        self.counted = set(counted.values_list("transfer__key", flat=True))
        self.new: dict[type[Model], list[Model]] = {}
        self.found_again: list[Copy | Transfer] = []  # known as being under way: a dump was older than the store

    def bring_back(self) -> set[int]:
        touched = set()
        for find in self._finds:
            try:
                draft = self._drafted(find)
                self._count(draft)
            except WRONG as error:
                self._report.tell(find.place.info.key, error)
                self._take_back(find)
                continue
            self._take(draft)
            touched.add(draft.set.instance_id)
        self._write()
        return touched

    def _take_back(self, find: Find) -> None:
        """Undo what a manifest that did not fit has filled in of rows a dump knew."""
        filled = [self.copies.get(find.place.copy), *(self.transfers.get(file["key"]) for file in find.said["files"])]
        for row in filled:
            if row is not None and not row._state.adding and not any(row is one for one in self.found_again):
                row.refresh_from_db()

    def _drafted(self, find: Find) -> _Draft:
        try:
            return self._draft(find)
        except _NotKnown:
            with self._adding():
                return self._draft(find)

    @contextmanager
    def _adding(self) -> Iterator[None]:
        """Let instances, policies and stores be added; of what then fails nothing stays."""
        before = dict(self.instances), dict(self.policies), dict(self.sources)
        self._may_add = True
        try:
            with transaction.atomic():
                yield
        except BaseException:
            self.instances, self.policies, self.sources = before
            raise
        finally:
            self._may_add = False

    # ---- one manifest

    def _draft(self, find: Find) -> _Draft:
        place, said, route = find.place, find.said, find.said["copy"]
        found = self._set_of(find)
        policy = self._policy_of(found.instance, said)
        copy = self._copy_of(find, found)
        at = moment(said.get("written_at")) or place.info.modified_at
        copy.policy, copy.state, copy.completed_at = policy, CopyState.COMPLETED, at
        copy.planned_at = moment(route.get("planned_at")) or at
        copy.due_at, copy.started_at = at, copy.started_at or copy.planned_at
        copy.origin = Copy.Origin(route.get("origin", Copy.Origin.TRIGGERED))
        # Another fence: who carried it by what the dump knew finds it gone (I15).
        copy.route_version, copy.fence = (
            route["route_version"],
            max(place.attempt, copy.fence + 1),
        )  # who carries it finds it gone (I15)
        copy.leased_until, copy.error = None, ""
        copy.manifest_key, copy.manifest_etag = place.info.key, place.info.etag
        copy.expires_at = retention.own_expiry(found.finished_at, policy.retention_days)
        copy.total_bytes = sum(file["size"] for file in said["files"])
        draft = _Draft(find, found, copy)
        for file in said["files"]:
            self._draft_file(draft, file, find.objects[file["key"]], at)
        return draft

    def _set_of(self, find: Find) -> BackupSet:
        place, facts = find.place, find.said["set"]
        instance = self._instance_of(find)
        known = self.sets.get(place.set)
        if known is None:
            values = {"discovered_at": self._at} | columns(BackupSet, facts, manifest.SET_FIELDS)
            # Whether a copy of it is owed was decided by the Farshore that was lost.
            return BackupSet(pk=place.set, instance=instance, **values, weighed_at=self._at)
        if known.instance_id != instance.pk or known.finished_at != moment(facts["finished_at"]):
            raise Refusal("SetKnown", f"Set {place.set} of this catalogue is another backup.", "")
        known.instance = instance
        return known

    def _instance_of(self, find: Find) -> Instance:
        code = find.place.code
        if code not in self.instances:
            self._require_adding()
            self.instances[code] = add_instance(find.said["instance"], self._report)
            self._report.tell(code, "No state object tells of it: only what its manifests say is known.")
        return self.instances[code]

    def _policy_of(self, instance: Instance, said: Document) -> CopyPolicy:
        """Return the policy a copy was made under; where nothing tells how long it is kept, the longest is taken."""
        route = said["copy"]
        terms = {
            "kind": route.get("policy") or PolicyKind.CROSS_REGION,
            "destination": route["destination_region"],
            "retention_days": route.get("retention_days", LONGEST_DAYS),
            "route_version": route["route_version"],
        }
        key = (instance.pk, terms["kind"], terms["destination"])
        if key not in self.policies:
            self._require_adding()
            self.policies[key] = add_policy(instance, terms, self._report)
            if "retention_days" not in route:
                what = f"Nothing tells how long its copies are kept; {LONGEST_DAYS} days are assumed."
                self._report.tell(instance.code, what)
        return self.policies[key]

    def _copy_of(self, find: Find, found: BackupSet) -> Copy:
        """Return the row a manifest fills: a new one, or one that a dump knew as being on its way."""
        place, known = find.place, self.copies.get(find.place.copy)
        where = (found.pk, self._store.pk)
        if known and (known.state not in PENDING or (known.set_id, known.destination_store_id) != where):
            raise Refusal("CopyKnown", f"This catalogue has another copy {known.pk}, which is {known.state}.", "")
        other = self.live.get(found.pk, place.copy)
        if other != place.copy:
            raise Refusal("CopyKnown", f"Copy {other} of the same backup is there too; one is enough.", "")
        if known:
            known.set = found
        return known or Copy(pk=place.copy, set=found, destination_store=self._store)

    def _draft_file(self, draft: _Draft, file: Said, info: ObjectInfo, at: datetime) -> None:
        """Draft the attempt that brought a file, with its parts; copies of sets in one file share it."""
        source = self._file_of(draft, file, at)
        key, uploaded_at = file["key"], moment(file.get("uploaded_at")) or at
        transfer = draft.transfers.get(key) or self.transfers.get(key)
        if transfer is None or (transfer.state in Transfer.UNDER_WAY and key not in draft.parts):
            transfer = transfer or Transfer(
                store=self._store,
                key=key,
                file=source,
                fence=int(key.rsplit("/", 2)[1]),
                size=file["size"],
                started_at=uploaded_at,
            )
            draft.parts[key] = self._filled(transfer, file, info, uploaded_at, at)
        draft.transfers[key] = draft.carried[source.pk] = transfer

    @staticmethod
    def _filled(
        transfer: Transfer, file: Said, info: ObjectInfo, uploaded_at: datetime, at: datetime
    ) -> list[TransferPart]:
        """Fill in what was proved of an attempt; return its parts."""
        transfer.state, transfer.etag, transfer.version = Transfer.State.VERIFIED, info.etag, info.version
        transfer.digest, transfer.reference = file["digest"], file["reference"]
        transfer.verification = file.get("verification") or ""
        transfer.bytes_verified = file["size"]  # not sent by us: that stands in the bills of the one that was lost
        transfer.uploaded_at, transfer.verified_at = uploaded_at, moment(file.get("verified_at")) or at
        return [
            TransferPart(
                transfer=transfer,
                number=part.number,
                offset=part.offset,
                size=part.size,
                sha256=part.sha256,
                verified_at=transfer.verified_at,
            )
            for part in parts_of(file)
        ]

    def _file_of(self, draft: _Draft, file: Said, at: datetime) -> BackupFile:
        """Return the file at its source, known from its copy: whether it still lies there, looks in its region tell."""
        source, number, found = file.get("source") or {}, _number(file), draft.set
        row = draft.files.get(number) or self.files.get(number) or self._new_file(found, number, file, source, at)
        if row.instance_id != found.instance_id:
            raise Refusal("FileKnown", f"File {number} of this catalogue is another instance's.", "")
        draft.files[number] = row
        if (found.pk, row.pk) not in self.places:
            place = {"position": file.get("position", 1), "family_sequence": file.get("family_sequence", 1)}
            draft.places.setdefault(number, SetFile(set=found, file=row, **place))
        return row

    def _new_file(self, found: BackupSet, number: int, file: Said, source: Said, at: datetime) -> BackupFile:
        hashes: dict[str, Any] = {"sha256": file["sha256"]} if file.get("sha256") else {}
        if source.get("is_taken"):
            hashes["parts"] = [[size, sha256] for _, size, sha256 in file["parts"]]
        return BackupFile(
            pk=number,
            instance=found.instance,
            store=self._source_store(found.instance, source),
            key=source.get("key", file["source_key"]),
            size=file["size"],
            etag=source.get("etag", ""),
            version=source.get("version", ""),
            modified_at=moment(source.get("modified_at")) or found.finished_at,
            state=BackupFile.State.ELSEWHERE,
            is_ours=False,  # never deleted by us: nobody has seen what lies there now
            integrity=hashes,
            media_set_guid=source.get("media_set_guid", ""),
            first_seen_at=moment(source.get("first_seen_at")) or at,
            settled_at=moment(source.get("settled_at")) or at,
        )

    def _source_store(self, instance: Instance, source: Said) -> Store:
        """Return the store a file came from: not attached, and the same again once its place is, by its marker."""
        role = source.get("store_role", Store.Role.PRIMARY)
        key = (str(source.get("store") or instance.region_id), str(role))
        if key not in self.sources:
            self._require_adding()
            said = {"uuid": source["store"]} if "store" in source else {"region": instance.region}
            self.sources[key] = Store.objects.filter(**said, role=role).first() or self._add_store(
                said | {"region": instance.region, "role": role, "url": source.get("store_url", "")}
            )
        return self.sources[key]

    def _add_store(self, said: dict[str, Any]) -> Store:
        why = "It is known from the manifests of copies only."
        dated = {"attached_at": self._at, "detached_at": self._at}
        return Store.objects.create(**said, **dated, state=Store.State.UNREACHABLE, last_error=why)

    def _require_adding(self) -> None:
        if not self._may_add:
            raise _NotKnown

    def _count(self, draft: _Draft) -> None:
        """Say what was proved of a copy and whose the bytes are: the first copy that used a file counts them."""
        copy, transfers = draft.copy, list(draft.transfers.values())
        copy.stored_bytes = sum(transfer.size for key, transfer in draft.transfers.items() if key not in self.counted)
        copy.reference = verification.weakest(transfers)
        copy.verification = verification.level_of(transfers)

    # ---- all of them

    def _take(self, draft: _Draft) -> None:
        found, copy = draft.set, draft.copy
        self._add(found, found.pk not in self.sets)
        self._add(copy, copy.pk not in self.copies)
        for number, file in draft.files.items():
            self._add(file, number not in self.files)
        for key, transfer in draft.transfers.items():
            if key in draft.parts:
                self._add(transfer, transfer.pk is None)
        for row in [*draft.places.values(), *(part for parts in draft.parts.values() for part in parts)]:
            self._add(row, True)
        for file, transfer in draft.carried.items():
            self._add(CopiedFile(copy=copy, file=draft.files[file], transfer=transfer), True)
        if copy.expires_at > self._at:  # from now on; what it cost before stands in the bills of the one that was lost
            self._add(StorageSpan(copy=copy, bytes=copy.stored_bytes, began_at=self._at), True)
        self.sets[found.pk], self.copies[copy.pk], self.live[found.pk] = found, copy, copy.pk
        self.files |= draft.files
        self.transfers |= draft.transfers
        self.places |= {(found.pk, number) for number in draft.places}
        self.counted |= draft.transfers.keys() if copy.stored_bytes else set()
        self._report.add("copies")

    def _add(self, row: Model, is_new: bool) -> None:
        if is_new:
            self.new.setdefault(type(row), []).append(row)
            if isinstance(row, BackupSet):
                self._report.add("sets")
        elif isinstance(row, Copy | Transfer):
            self.found_again.append(row)

    def _write(self) -> None:
        """Write what is new, in the order in which rows name each other."""
        for row in self.found_again:
            (row.copied_files if isinstance(row, Copy) else row.parts).all().delete()
            row.save()
            if isinstance(row, Copy):
                alerts.close_alerts_of(f"copy:{row.pk}")  # that it failed, or is late
        for model in (BackupSet, BackupFile, SetFile, Copy, Transfer, TransferPart, CopiedFile, StorageSpan):
            model.objects.bulk_create(self.new.get(model, ()), batch_size=ROWS_AT_ONCE)


def _number(file: Said) -> int:
    return (file.get("source") or {}).get("id") or int(file["key"].rsplit("/", 1)[1])


def _numbers(files: Iterable[Said]) -> Iterator[int]:
    for file in files:
        try:
            number = _number(file)
        except WRONG:
            continue  # what is wrong with it is told when its manifest is looked at
        if isinstance(number, int):
            yield number
