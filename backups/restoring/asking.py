"""Asking for restores, cancelling them, removing what they made. The row is the job; a worker does it (`holding`)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from django.db import transaction

from backups import bell, events
from backups.events import By
from backups.models import (
    BackupFile,
    BackupSet,
    Copy,
    CopyState,
    Instance,
    LandingServer,
    ResourceGroup,
    Restore,
    RestoreSource,
)
from backups.restoring import agreeing, pins
from backups.restoring.checking import preview_of, why_not_called
from backups.restoring.choosing import Choice, Wanted
from backups.restoring.onto import called_beside, why_not_called_beside, why_not_original
from backups.terms import service_role
from backups.terms.policy_settings import Refusals
from regions import clock, secrets
from regions.models import Store
from regions.refusals import Refusal

State = Restore.State
NOT_FOR_LONG = "The backups changed while this was asked for."
STAGES_OF_LANDED = ("download", "full", "differential", "log", "recover")
STAGES = (*STAGES_OF_LANDED, "unpack", "replay", "start", "check", "count", "replace")


# ---- asking


def ask(
    instance: Instance,
    by: By,
    *,
    name: str,
    store: Store | None = None,
    database: str = "",
    until: datetime | None = None,
    copy: Copy | None = None,
    default_set: BackupSet | None = None,
    at_source: bool = False,
    onto: Instance | None = None,
    landing: LandingServer | None = None,
    called: str = "",
    batch: str = "",
) -> Restore:
    """Ask for a new server, or a database on a landing server; raises Refusals with everything that speaks against it.

    What is asked for is told as in `choosing.Wanted`. Copies restore in the region where they lie, a default backup in
    the source region (R-2.3). From here until it is over nothing it reads is deleted. `onto` an instance that is there,
    `name` is what was typed in for its name. The original waits for a second person (`agree`); beside the databases of
    another one it is `called` something that none of them is.
    """
    wanted = Wanted(instance, store, database, until, copy, default_set, at_source, onto, landing, called.strip())
    name = name if onto else name.strip()
    preview, choice = preview_of(wanted, name or " ")
    refusals = [*preview.refusals, *(_nobody(by) if onto else [])]
    if refusals:
        raise Refusals(refusals)
    with transaction.atomic():
        ResourceGroup.objects.select_for_update(no_key=True).get(pk=instance.group_id)  # two who want one name
        if landing:
            LandingServer.objects.select_for_update(no_key=True).get(pk=landing.pk)  # of whatever groups they are
        if refusals := [*_taken(wanted, choice, name), *_lost(choice)]:
            raise Refusals(refusals)
        return _queue(wanted, choice, name, by, batch)


def _taken(wanted: Wanted, choice: Choice, name: str) -> list[Refusal]:
    """Say once more, now that nobody else can ask at the same time, why the place is not free."""
    if wanted.is_beside:
        Instance.objects.select_for_update(no_key=True).get(pk=wanted.onto.pk)
        return why_not_called_beside(wanted.onto, called_beside(wanted, choice))
    return why_not_original(wanted.onto) if wanted.onto else why_not_called(wanted, name)


def _nobody(by: By) -> list[Refusal]:
    if by.user is not None:
        return []
    return [Refusal("PersonNeeded", "A restore onto an instance is asked for by a person.", "Say who asks.", "user")]


def _lost(choice: Choice) -> list[Refusal]:
    """Lock what is to be read; a refusal when something of it is being deleted in this moment."""
    copies = Copy.objects.select_for_update(no_key=True).filter(pk__in=[copy.pk for copy in choice.copies])
    states = [copy.state for copy in copies.order_by("pk")]
    if choice.origin == Restore.Origin.DEFAULT:
        gone = _are_gone(choice.sets)
    else:
        gone = any(state != CopyState.COMPLETED for state in states)
    return [_backup_gone()] if gone else []


def _are_gone(sets: Iterable[BackupSet]) -> bool:
    """Lock default backups; whether a file of them is no longer at its source."""
    wanted = [one.pk for one in sets]
    list(BackupSet.objects.select_for_update(no_key=True).filter(pk__in=wanted).order_by("pk"))
    return BackupFile.objects.filter(sets__in=wanted).exclude(state=BackupFile.State.SETTLED).exists()


def _backup_gone() -> Refusal:
    return Refusal("BackupGone", NOT_FOR_LONG, "Look again at what can be restored.", "set")


def _queue(wanted: Wanted, choice: Choice, name: str, by: By, batch: str) -> Restore:
    at = clock.now()
    service_role.ensure(by)
    restore = Restore.objects.create(
        batch=batch,
        instance=wanted.instance,
        region=choice.region,
        origin=choice.origin,
        database=choice.database,
        set=choice.anchor,
        until=choice.restored_until if wanted.until else None,
        name=name,
        onto=wanted.onto,
        landing=wanted.landing,
        landed_as=_landed_as(wanted, choice, name),
        state=State.WAITING if wanted.onto and not wanted.is_beside else State.QUEUED,
        asked_by=by.user,
        asked_at=at,
        due_at=at,
        total=sum(found.size_bytes for found in choice.data),
    )
    RestoreSource.objects.bulk_create(
        RestoreSource(restore=restore, order=order, set=found, copy=copy)
        for order, (found, copy) in enumerate(zip(choice.sets, choice.copies or [None] * len(choice.sets), strict=True))
    )
    pins.pin(restore, choice.copies, at)
    moment = f"as of {choice.restored_until:%Y-%m-%d %H:%M:%S} UTC"
    where = _where(wanted, choice, name)
    said = f"A restore of {wanted.instance.name} {moment} {where} in {choice.region} was asked for."
    _record("asked", said, restore, by, sources=len(choice.sources))
    if restore.state == State.WAITING:
        agreeing.wait_for_somebody(restore)
    bell.ring_restores(restore.region_id)
    return restore


def _landed_as(wanted: Wanted, choice: Choice, name: str) -> str:
    if wanted.is_beside:
        return called_beside(wanted, choice)
    return name if wanted.landing else ""


def _where(wanted: Wanted, choice: Choice, name: str) -> str:
    if wanted.is_beside:
        return f"beside the databases of {name}, as {called_beside(wanted, choice)},"
    if wanted.landing:
        return f"into {name} on {wanted.landing.name}"
    return f"onto {name} itself" if wanted.onto else f"into {name}"


def _record(what: str, sentence: str, restore: Restore, by: By, **data: object) -> None:
    events.record(f"restore.{what}", sentence, by=by, instance=restore.instance, restore=restore.code, **data)


def ask_databases(
    instance: Instance,
    by: By,
    *,
    landing: LandingServer,
    names: Mapping[str, str],
    until: datetime | None = None,
    store: Store | None = None,
    at_source: bool = False,
    batch: str = "",
) -> list[Restore]:
    """Ask for several databases of an instance on a landing server, to one moment (None: the newest of each).

    `names`: database -> what it is called there. All are asked for or none is: raises Refusals with what speaks
    against any of them.
    """
    common = {"landing": landing, "until": until, "store": store, "at_source": at_source}
    restores, refusals, batch = [], [], batch or str(uuid.uuid4())
    with transaction.atomic():
        for database, name in names.items():
            try:
                restores.append(ask(instance, by, name=name, database=database, batch=batch, **common))
            except Refusals as refused:
                refusals += [replace(one, sentence=f"{database}: {one.sentence}") for one in refused.items]
        if refusals:
            raise Refusals(refusals)
    return restores


# ---- ending


def cancel(restore: Restore, by: By) -> None:
    """Give up a restore that is not ready yet: its worker stops the engine, proves it and leaves nothing.

    One that no worker has, and that left nothing on a landing server, is over at once. Safe to repeat; raises Refusal
    when it is ready, or over.
    """
    with transaction.atomic():
        row = _locked(restore)
        if row.state == State.READY:
            raise Refusal("RestoreReady", f"{row.goes_by} is ready.", "Remove it instead.")
        if row.state not in Restore.PENDING:
            raise Refusal("RestoreOver", f"The restore is {row.get_state_display().lower()}.", "")
        if row.cancel_asked_at:
            return
        if row.state in (State.WAITING, State.QUEUED) and not (row.landed_as and row.folder):
            at = clock.now()
            Restore.objects.filter(pk=row.pk).update(state=State.CANCELLED, cancel_asked_at=at, finished_at=at)
            pins.release(row)
            agreeing.wait_no_more(row)
            _record("cancelled", f"The restore into {row.goes_by} was cancelled before it began.", row, by)
        else:
            _mark(row)
            _record("cancel_asked", f"The restore into {row.goes_by} was asked to stop.", row, by)
    restore.refresh_from_db()


def remove(restore: Restore, by: By) -> None:
    """Stop the restored server and discard it, bytes and all, or drop the restored database; the row stays. The
    instance it became is released; or, where it took the place of a server that is still kept aside, is that one again.

    Safe to repeat; the worker that holds it does it within seconds. Raises Refusal when there is no such server.
    """
    with transaction.atomic():
        row = _locked(restore)
        if row.state in Restore.PENDING:
            raise Refusal("RestoreRunning", f"{row.goes_by} is not ready yet.", "Cancel the restore instead.")
        if row.state != State.READY:
            raise Refusal("RestoreOver", f"The restore is {row.get_state_display().lower()}; no server runs.", "")
        if row.cancel_asked_at:
            return
        _mark(row)
        what = "database" if row.landed_as else "server"
        _record("remove_asked", f"The restored {what} {row.goes_by} was asked to be removed.", row, by)
    restore.refresh_from_db()


def _locked(restore: Restore) -> Restore:
    return Restore.objects.select_for_update(of=("self",)).select_related("instance").get(pk=restore.pk)


def _mark(row: Restore) -> None:
    """Whoever holds it sees this within a second; where nobody does, the bell finds somebody."""
    at = clock.now()
    Restore.objects.filter(pk=row.pk).update(cancel_asked_at=at, due_at=at)
    bell.ring_restores(row.region_id)


# ---- reaching the new server


def identity_of(restore: Restore) -> str:
    """Return what the sealed password is bound to: moving it to another row makes it unreadable."""
    return f"restore:{restore.code}"


def password_of(restore: Restore) -> str:
    """Open the password of a ready server; raises Refusal when there is none."""
    sealed = bytes(restore.sealed_password or b"")
    if not sealed:
        raise Refusal("NoServer", f"The restore is {restore.get_state_display().lower()}; it has no server.", "")
    return secrets.open_sealed(sealed, identity_of(restore)).decode()


def stages_of(restore: Restore) -> dict[str, float]:
    """Return the measured seconds by stage, in the order in which they came."""
    known = [stage for stage in STAGES if stage in restore.seconds]
    return {stage: restore.seconds[stage] for stage in [*known, *sorted(restore.seconds.keys() - set(STAGES))]}


def connection_words(restore: Restore) -> str:
    """Say how to reach a ready server, without its password, or where a restored database is."""
    if restore.landed_as:
        return f"database {restore.landed_as} on {restore.landed_on} ({restore.host}, port {restore.port})"
    return f"{restore.host}, port {restore.port}, user {restore.username}" if restore.port else ""
