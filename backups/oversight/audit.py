"""What must always hold, checked on the live database and stores (invariants.md). Each check yields its breaches."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import timedelta
from itertools import product
from pathlib import Path

from django.db import transaction
from django.db.models import Case, Count, Exists, F, OuterRef, Q, When

from backups import downloads, layout, seals
from backups.chains import log_chain, windows
from backups.chains.log_chain import Gap
from backups.engines import confinement
from backups.engines.chains import ChainRules, ChainSet
from backups.leases import nobodys
from backups.logs import log_gaps
from backups.models import (
    ENDED,
    PENDING,
    Alert,
    BackupFile,
    BackupSet,
    Copy,
    CopyState,
    Coverage,
    Drill,
    Instance,
    Kind,
    LogGap,
    RestorableInterval,
    Restore,
    RestoreSource,
    SetStatus,
    StorageSpan,
    Transfer,
)
from backups.oversight import audit_promises
from backups.restoring import pins
from regions import clock
from regions.models import Store
from regions.storage import Gone, Mismatch, ObjectInfo, StorageError

SLACK = timedelta(minutes=5)
HIDES = Q(policy__hidden_at__isnull=False)


def breaches() -> Iterator[tuple[str, str]]:
    """Yield (invariant, sentence) for everything found wrong; nothing yielded means everything held."""
    for name, check in CHECKS.items():
        for sentence in check():
            yield name, sentence


def unverified_publications() -> Iterator[str]:
    """I1: a completed copy has a manifest, and every file of it a verified transfer whose parts were all read back."""
    for copy in Copy.objects.filter(state=CopyState.COMPLETED).iterator(1000):
        files = set(copy.copied_files.values_list("file", flat=True))
        transfers = Transfer.objects.filter(copied_files__copy=copy)
        if not files or transfers.exclude(state=Transfer.State.VERIFIED).exists():
            yield f"copy {copy.pk} is completed without verified files"
        unread = transfers.filter(parts__verified_at=None, parts__isnull=False)
        if unread.exists():
            yield f"copy {copy.pk} has parts that were never read back"


def missing_objects() -> Iterator[str]:
    """I1: what a completed copy names lies in its store, under the ETag that was committed."""
    for store in Store.objects.attached().filter(state=Store.State.OK):
        storage = store.open()
        held = Transfer.objects.filter(store=store, state=Transfer.State.VERIFIED).order_by("pk")
        for transfer in held.iterator(1000):
            try:
                found: ObjectInfo = storage.head(transfer.key)
            except (Gone, Mismatch):
                yield f"transfer {transfer.pk}: its object is not in the store of {store.region_id}"
                continue
            except StorageError as error:
                yield f"the store of {store.region_id} does not answer: {error.sentence}"
                break
            if (found.size, found.etag) != (transfer.size, transfer.etag):
                yield f"transfer {transfer.pk}: the store holds another object under its key"


def unplanned_sets() -> Iterator[str]:
    """I2: every set finished under a policy has a live copy, or had one, or a cancellation."""
    copies = Copy.objects.filter(set=OuterRef("pk"), policy=OuterRef("policy_pk"))
    received = Q(kind=Kind.LOG, origin="taken")
    came_about = Case(When(received, then=F("discovered_at")), default=F("finished_at"))  # as planning.coverage does
    for span in Coverage.objects.select_related("policy").iterator(1000):
        sets = BackupSet.objects.annotate(came_about=came_about).filter(
            Q(kind=Kind.LOG) if span.content == "log" else ~Q(kind=Kind.LOG),
            instance=span.policy.instance_id,
            status=SetStatus.SUCCEEDED,
            came_about__gte=span.began_at,
            discovered_at__lte=clock.now() - SLACK,
        )
        if span.ended_at:
            sets = sets.filter(came_about__lt=span.ended_at)
        for found in sets.annotate(policy_pk=F("pk") * 0 + span.policy_id).exclude(Exists(copies)):
            yield f"set {found.pk} was finished under policy {span.policy_id} and has no copy"


def forgotten_copies() -> Iterator[str]:
    """I3: a failed copy has a next attempt and an open alert, a damaged one that alert too."""
    for copy in Copy.objects.filter(state__in=(CopyState.FAILED, CopyState.DAMAGED)):
        if not Alert.objects.filter(subject=f"copy:{copy.pk}", closed_at=None).exists():
            yield f"copy {copy.pk} is {copy.state} and no alert says so"


def overdue_copies() -> Iterator[str]:
    """I3, R-2.5: what is past its date and has not arrived was cancelled, unless somebody carries it."""
    at = clock.now()
    late = Copy.objects.pending().filter(nobodys(at), expires_at__lt=at - SLACK)
    for copy in late.iterator(1000):
        yield f"copy {copy.pk} is {copy.state} past its date and was not cancelled"


def pins_and_restores() -> Iterator[str]:
    """I4: every copy that a restore or a download still reads is pinned, no pin outlives its restore; R-2.5: nor is a
    default backup deleted under it."""
    at = clock.now()
    reading = RestoreSource.objects.filter(restore__state__in=Restore.ACTIVE, copy__isnull=False)
    for source in reading.select_related("restore"):
        if not source.copy.pins.filter(reason=pins.reason_of(source.restore), until__gt=at).exists():
            yield f"copy {source.copy_id} is read by {source.restore.code} and not pinned"
    at_source = RestoreSource.objects.filter(restore__state__in=Restore.PENDING, copy=None)
    for source in at_source.filter(set__files__state=BackupFile.State.DELETED).select_related("restore").distinct():
        yield f"default backup {source.set_id} was deleted while {source.restore.code} needs it"
    for pin in pins.outlived():
        yield f"pin {pin.pk} of copy {pin.copy_id} has outlived its restore"
    for download in downloads.unpinned(at):
        yield f"copy {download.copy_id} is read by download {download.pk} and not pinned"


def dead_servers() -> Iterator[str]:
    """I20: a ready restore has a living server, as far as this machine can see, or a lapsed lease; one that is kept
    aside has its data and no server; others have nothing."""
    at, here = clock.now(), Restore.objects.filter(leased_by__startswith=f"{socket.gethostname()}:")
    for restore in here.filter(state=Restore.State.ASIDE, cancel_asked_at=None):
        if not Path(restore.folder).is_dir() or confinement.living_in(Path(restore.folder)):
            yield f"{restore.code} is kept aside, and its data is gone or its server runs"
    for restore in here.filter(state=Restore.State.READY, leased_until__gt=at):
        if not confinement.living_in(Path(restore.folder)):
            yield f"{restore.code} is ready and held, and its server does not run"
    for restore in Restore.objects.exclude(folder="").exclude(state__in=Restore.HELD).iterator(1000):
        if Path(restore.folder).exists():
            yield f"{restore.code} is {restore.state}, and its server's folder is still there"


def broken_chains() -> Iterator[str]:
    """I5: nothing was deleted while a differential or log that needs it is alive."""
    gone = Copy.objects.filter(state=CopyState.DELETED).values_list("set__instance", "destination_store").distinct()
    for instance, store in gone.order_by("set__instance", "destination_store"):
        copies = Copy.objects.filter(set__instance=instance, destination_store=store)
        states = dict(copies.values_list("pk", "state"))
        for rules, sets in windows.chains_among(copies.exclude(state=CopyState.CANCELLED)):
            needs = log_chain.needs(*windows.data_and_logs(sets), rules)
            for needed, needing in log_chain.needed_by(needs).items():
                is_alive = any(states[one] in (*PENDING, CopyState.COMPLETED) for one in needing)
                if states[needed] == CopyState.DELETED and is_alive and not _has_come_back(needed):
                    yield f"copy {needed} was deleted while one needs it that is alive: {min(needing)}"


def _has_come_back(pk: int) -> bool:
    copy = Copy.objects.get(pk=pk)
    return Copy.objects.live().filter(set=copy.set_id, destination_store=copy.destination_store_id).exists()


def wrong_windows() -> Iterator[str]:
    """I7: what is shown as restorable is what the copies come to, and passes no gap."""
    chain = ("set__instance", "destination_store", "set__database")
    known = set(Copy.objects.restorable().order_by().values_list(*chain).distinct())
    known |= set(RestorableInterval.objects.order_by().values_list("instance", "store", "database").distinct())
    instances = Instance.objects.in_bulk({instance for instance, _, _ in known})
    stores = Store.objects.select_related("region").in_bulk({store for _, store, _ in known})
    for instance, store, database in sorted(known):
        yield from _wrong_windows_of(instances[instance], stores[store], database)


def _wrong_windows_of(instance: Instance, store: Store, database: str) -> Iterator[str]:
    with transaction.atomic():
        windows.lock_chain(instance, store, database)
        chain = windows.chain_of(instance, store, database)
        rows = list(RestorableInterval.objects.filter(instance=instance, store=store, database=database))
    whose = f"{instance.code} {database}".strip() + f" in {store.region_id}"
    told = sorted((row.began_at, row.ended_at, row.fork, row.anchor_id, row.reached or 0) for row in rows)
    computed = sorted((one.start, one.end, one.fork, one.anchor.id, one.reached or 0) for one in chain.window())
    if told != computed:
        yield f"{whose}: the stored windows are not what its copies come to"
    anchors = {one.id: one for one in chain.data}
    for row, gap in product([row for row in rows if row.reached is not None], chain.gaps()):
        if (anchor := anchors.get(row.anchor_id)) and _passes(row, anchor, gap, chain.rules):
            yield f"{whose}: the window until {row.ended_at.isoformat()} passes a gap in the logs"


def _passes(row: RestorableInterval, anchor: ChainSet, gap: Gap, rules: ChainRules) -> bool:
    """Whether a window leads from before a gap to behind it; a gap between two forks is one of the second only."""
    is_before = anchor.fork != gap.fork or gap.reached_fork == gap.fork
    start = rules.logs_from(anchor)
    return row.fork == gap.fork and is_before and start is not None and start <= gap.reached < row.reached


def silent_gaps() -> Iterator[str]:
    """I8, R-9.4: how an open gap is healed has been decided, and an alert says so unless logs were not wanted then."""
    for gap in LogGap.objects.filter(healed_at=None, found_at__lte=clock.now() - SLACK).select_related("store__region"):
        if log_gaps.logs_policy(gap.instance, gap.store) is None:
            continue
        if not gap.healing:
            yield f"gap {gap.pk} was found and nobody has decided how it is healed"
        told = Alert.objects.filter(code="log_gap", subject=f"gap:{gap.pk}", closed_at=None)
        if log_gaps.is_news(gap) and not told.exists():
            yield f"gap {gap.pk} is open and no alert says so"


def wrong_spans() -> Iterator[str]:
    """I11: a completed, dated copy has an open span until its date; nothing else has one."""
    at = clock.now()
    open_spans = StorageSpan.objects.filter(ended_at=None)
    for span in open_spans.exclude(copy__state=CopyState.COMPLETED):
        yield f"span {span.pk} is open though its copy is {span.copy.state}"
    for span in open_spans.filter(copy__expires_at__lt=at - SLACK):
        yield f"span {span.pk} is open past its copy's expiry"
    after = StorageSpan.objects.filter(ended_at__gt=F("copy__deleted_at"))
    for span in after.exclude(ended_at=F("began_at")):  # an empty one: the clock was set back
        yield f"span {span.pk} goes on after its copy was deleted"
    charged = Copy.objects.filter(state=CopyState.COMPLETED).filter(Q(expires_at=None) | Q(expires_at__gt=at))
    for copy in charged.exclude(spans__ended_at=None, spans__isnull=False):
        yield f"copy {copy.pk} is completed and nobody meters it"


def shown_though_hidden() -> Iterator[str]:
    """R-18.2: of a disabled level-2 backup nothing is offered, or charged; of an enabled one nothing is hidden."""
    hidden = Q(state=CopyState.HIDDEN)
    for copy in Copy.objects.filter(hidden & Q(policy__hidden_at=None) | Q(state=CopyState.COMPLETED) & HIDES):
        yield f"copy {copy.pk} is {copy.state}, and its level-2 backup is not"


def doubled_copies() -> Iterator[str]:
    """I2: one live copy per set and store (a constraint carries this; the audit would see it broken)."""
    rows = Copy.objects.exclude(state__in=ENDED).values("set", "destination_store").annotate(n=Count("pk"))
    for row in rows.filter(n__gt=1):
        yield f"set {row['set']} has {row['n']} live copies in one store"


def unproven_passes() -> Iterator[str]:
    """A drill that passed rests on a restored moment, counted rows and checks that passed; its server is gone."""
    for drill in Drill.objects.filter(state=Drill.State.PASSED).order_by("pk").iterator(1000):
        if not drill.checks or not all(check.get("passed") is True for check in drill.checks):
            yield f"drill {drill.pk} has passed without checks that passed"
        if not drill.evidence.get("removed"):
            yield f"drill {drill.pk} has passed and nobody saw its server gone"
        if drill.pick == Drill.Pick.CANARY:
            continue
        if drill.restored_until is None or "recovery" not in drill.seconds:
            yield f"drill {drill.pk} has passed without a restored moment and the time it took"
        if not isinstance(drill.evidence.get("total_rows"), int):
            yield f"drill {drill.pk} has passed and its rows were not counted"


def broken_seals() -> Iterator[str]:
    """I16: the event log is what was sealed, up to the newest head any destination has kept."""
    heads = [head for store in Store.objects.attached().filter(state="ok") if (head := seals.kept_head(store.open()))]
    yield from seals.breaches(max(heads, default=None))


def keep_heads() -> None:
    """Send the head of the sealed log to every destination, where our database's owner cannot change it."""
    sequence, digest = seals.head()
    if not sequence:
        return
    body = json.dumps({"format": "farshore-seal/1", "sequence": sequence, "hash": digest}).encode()
    for store in Store.objects.attached().filter(state=Store.State.OK):
        storage = store.open()
        storage.put(layout.head_key(sequence), body)


CHECKS = {
    "I1 verified publish": unverified_publications,
    "I1 objects present": missing_objects,
    "I2 exactly one": unplanned_sets,
    "I2 never doubled": doubled_copies,
    "I3 never skipped": forgotten_copies,
    "I3 too late": overdue_copies,
    "I4 no early delete": audit_promises.early_deletes,
    "I4 pins": pins_and_restores,
    "I5 chains": broken_chains,
    "I6 last good copy": audit_promises.lost_last_copies,
    "I7 windows": wrong_windows,
    "I8 gaps": silent_gaps,
    "I10 nothing after the end": audit_promises.late_commits,
    "I11 spans": wrong_spans,
    "R-18.2 hidden sets": shown_though_hidden,
    "I12 agreement": audit_promises.policies_without_agreement,
    "I16 seals": broken_seals,
    "I20 restored servers": dead_servers,
    "drills proven": unproven_passes,
}
