"""Carrying a damaged copy again, beside its damaged object, for as long as its set is at the source (I1, I3, R-4.2).

damaged ──at `mend_at`, under a fence──> new attempts with keys of their own, proven like any, and the same bytes as
before ──manifest, then the fact──> completed: a new span, the window whole again, the old object given up to `cleaning`
Until that moment the copy stays damaged and keeps its date, its holds and its old object. What is sent for it is sent
after a fault: shown, not charged.
"""

from __future__ import annotations

import logging
import random
import time
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from backups import alerts, bell, events, layout, presence
from backups.copying import carrying, damage, manifest, replication, verification
from backups.events import By
from backups.keeping import locks, retention
from backups.leases import LeaseLost, next_lease, who
from backups.logs import log_gaps
from backups.models import Alert, BackupSet, CopiedFile, Copy, CopyPolicy, CopyState, Transfer
from regions import clock
from regions.refusals import Refusal
from regions.storage import ObjectInfo, StorageError

log = logging.getLogger(__name__)
LOOK_AGAIN = timedelta(days=1)  # a source may come back: its region was attached anew, or a disk was
SOURCE_IS_GONE = "The set is no longer at its source, so it cannot be carried again."
BACK_UP = "Back the instance up now, so that a sound copy takes its place, and look at that store's disks."
CHARGED = (*replication.KEPT, CopyState.DAMAGED)


def claim(region_id: str) -> Copy | None:
    """Take the damaged copy of a region that is due the longest: a new fence, a lease, and the policy's route."""
    with transaction.atomic():
        at = clock.now()
        due = _due(at).filter(destination_store__region=region_id)
        copy = (
            due.select_for_update(skip_locked=True, of=("self",))
            .select_related("set__instance__region", "policy__destination", "destination_store__region")
            .order_by("priority", "mend_at", "pk")
            .first()
        )
        if copy is None:
            return None
        copy.fence, copy.attempts, copy.route_version = copy.fence + 1, copy.attempts + 1, copy.policy.route_version
        copy.leased_until, copy.leased_by = next_lease(at), who()
        copy.save(update_fields=["fence", "attempts", "route_version", "leased_until", "leased_by"])
        return copy


def _due(at: datetime) -> QuerySet[Copy]:
    return owed(at).filter(Q(leased_until=None) | Q(leased_until__lt=at), mend_at__lte=at)


def owed(at: datetime) -> QuerySet[Copy]:
    """Return the damaged copies that are owed: their policy goes on, and their date has not come."""
    lasts = Q(expires_at=None) | Q(expires_at__gt=at) | Q(kept_for__in=retention.KEPT_PAST)
    wanted = Copy.objects.filter(lasts, state=CopyState.DAMAGED, deleting_since=None, policy__enabled=True)
    return wanted.filter(destination_store__detached_at=None)


def regions_with_work() -> list[str]:
    """Return the regions where a damaged copy is due and nobody's; the sweep rings their bells."""
    return list(_due(clock.now()).values_list("destination_store__region", flat=True).distinct())


def mend_slice(copy: Copy, until: float | None = None) -> bool:
    """Work on a claimed copy until it is sound or time is up; True when it needs another bell."""
    until = until if until is not None else time.monotonic() + settings.SLICE_SECONDS
    try:
        transfers = carrying.bring_files(copy, until) if _is_at_source(copy) else _no_source()
        if transfers is None:
            return _rest(copy)
        _publish(copy, transfers)
    except LeaseLost:
        return False
    except carrying.Busy:
        return _rest(copy, replication.OTHER_WORKER_WAIT)
    except carrying.SourceGone:
        _tell_source_gone(copy)
    except carrying.SourceChanged:
        if copy.set.instance.is_looked_at:
            return _rest(copy, replication.NEXT_LOOKS_WAIT)  # they tell whether the set was appended to, or is lost
        _tell_source_gone(copy)
    except verification.Disagrees as error:
        _fail_of_bytes(copy, str(error))
    except (StorageError, Refusal) as error:
        _fail(copy, str(error))
    except Exception as error:  # a bug or a broken database: never in silence (I3), and with its traceback
        _fail(copy, f"An unexpected error, {type(error).__name__}; the worker's log has it.")
        raise
    return False


def _is_at_source(copy: Copy) -> bool:
    return BackupSet.objects.valid().filter(pk=copy.set_id).exists()


def _no_source() -> list[Transfer]:
    raise carrying.SourceGone


# ---- the fact


def _publish(copy: Copy, transfers: list[Transfer]) -> None:
    """Write the new manifest beside the old one, then the fact; the old one goes with the old object."""
    storage, key = copy.destination_store.open(), layout.manifest_key(copy)
    carrying.renew(copy)
    if copy.former_manifest_key and copy.manifest_key not in (key, copy.former_manifest_key):
        storage.delete(copy.manifest_key)  # a worker died between writing it and the fact
    copy.former_manifest_key = copy.former_manifest_key or copy.manifest_key
    carrying.renew(copy, manifest_key=key, former_manifest_key=copy.former_manifest_key)
    stored = storage.put(key, manifest.build(copy, transfers))
    presence.require_ours(copy.destination_store, storage)
    locked = locks.locked_until(copy.destination_store, storage, [stored.key, *(one.key for one in transfers)])
    _commit(copy, transfers, stored, locked)


def _commit(copy: Copy, transfers: list[Transfer], stored: ObjectInfo, locked: datetime | None) -> None:
    where = copy.set.instance, copy.destination_store, copy.set.database
    with transaction.atomic():
        policy = CopyPolicy.objects.select_for_update(no_key=True).get(pk=copy.policy_id)
        if not policy.enabled or policy.route_version != copy.route_version:
            raise LeaseLost
        retention.lock_copies(copy.set.instance_id, copy.destination_store_id)
        replication.require_sound(transfers)
        at = clock.now()
        mine = owed(at).filter(pk=copy.pk, fence=copy.fence).first()
        if mine is None:
            raise LeaseLost
        _take_their_places(copy, transfers)
        own_bytes = sum(one.size for one in transfers if replication.is_first_to_use(copy, one, CHARGED))
        changes = replication.columns_of(transfers, stored, own_bytes)
        Copy.objects.filter(pk=copy.pk).update(mend_at=None, locked_until=locked, **changes)
        copy.stored_bytes, copy.state = own_bytes, CopyState.COMPLETED
        if mine.expires_at is None or mine.expires_at > at:  # else it is kept past its date, free of charge
            retention.open_span(copy, at)
        if locked != mine.locked_until:
            retention.reschedule(copy.set.instance_id, copy.destination_store_id)
        log_gaps.settle(*where)
        alerts.close_alerts_of(f"copy:{copy.pk}")
        said = f"The copy of {copy.set} in {policy.destination} was carried again and verified; it is sound."
        sent = sum(one.size for one in transfers if one.replaces_id)
        events.record("copy.mended", said, set=copy.set, copy=copy.pk, bytes=own_bytes, bytes_sent_again=sent)
        bell.ring_cleaning(copy.destination_store.region_id)


def _take_their_places(copy: Copy, transfers: list[Transfer]) -> None:
    """Point what lay in a damaged object to the sound one of the same file, also where another copy shares it."""
    former = list(copy.copied_files.values_list("transfer", flat=True))
    for one in transfers:
        worn = Transfer.objects.filter(file=one.file_id, store=one.store_id, state=Transfer.State.DAMAGED)
        CopiedFile.objects.filter(transfer__in=worn).update(transfer=one)
        CopiedFile.objects.update_or_create(copy=copy, file=one.file, defaults={"transfer": one})
    copy.copied_files.exclude(file__in=[one.file_id for one in transfers]).delete()  # found again in another file
    given_up = Transfer.objects.filter(pk__in=former, state=Transfer.State.DAMAGED, copied_files=None)
    given_up.update(state=Transfer.State.ABANDONED, error="It was damaged; a sound one has taken its place.")


# ---- not yet


def _rest(copy: Copy, wait: timedelta = timedelta(0)) -> bool:
    return _put_off(copy, clock.now() + wait)


def _put_off(copy: Copy, until: datetime | None, **changes: object) -> bool:
    """Give the lease back; nothing happens when the copy is no longer ours (I15)."""
    mine = Copy.objects.filter(pk=copy.pk, fence=copy.fence, state=CopyState.DAMAGED)
    return bool(mine.update(leased_until=None, mend_at=until, **changes))


def _tell_source_gone(copy: Copy) -> None:
    """Stay damaged, and say so; a look a day tells whether the source has come back."""
    with transaction.atomic():
        if not _put_off(copy, clock.now() + LOOK_AGAIN, error=SOURCE_IS_GONE):
            return
        begun = Transfer.objects.filter(replaces__copied_files__copy=copy, state__in=Transfer.UNDER_WAY).values("pk")
        Transfer.objects.filter(pk__in=begun).update(state=Transfer.State.ABANDONED, error=SOURCE_IS_GONE)
        if copy.error != SOURCE_IS_GONE:
            damage.tell(copy, SOURCE_IS_GONE, BACK_UP)
            said = f"The damaged copy of {copy.set} cannot be carried again: its source is gone."
            events.record("copy.not_mended", said, set=copy.set, copy=copy.pk)


def _fail(copy: Copy, why: str) -> None:
    """Try again later, each time with more patience, as for a copy that is new."""
    wait = min(replication.LONGEST_WAIT, 30 * 2 ** min(copy.failures, 7)) * random.uniform(0.8, 1.2)
    with transaction.atomic():
        if _put_off(copy, clock.now() + timedelta(seconds=wait), failures=F("failures") + 1, error=_said(why)):
            damage.tell(copy, _said(why), damage.BY_ITSELF)
    log.warning("damaged copy not carried again", extra={"copy": copy.pk, "reason": why})


def _fail_of_bytes(copy: Copy, why: str) -> None:
    """All of it was sent, and was wrong: that counts as one more damage, so that it is not sent for ever."""
    with transaction.atomic():
        if _put_off(copy, None, failures=F("failures") + 1, error=_said(why)):
            copy.mend_at = damage.find_wrong_again(copy, clock.now())
            damage.tell(copy, _said(why), damage.remedy_of(copy))
            said = f"Carrying the copy of {copy.set} again failed: {events.speakable(why)}"
            events.record("copy.not_mended", said, set=copy.set, copy=copy.pk)


def _said(why: str) -> str:
    return f"Carrying it again failed: {events.speakable(why)}"


def give_up() -> int:
    """End what is no longer owed: attempts at copies that have expired, or whose policy has ended (R-15.1, I10).

    A last good copy that will not be mended is none; its date, which is past, counts again. Returns how many attempts.
    """
    at = clock.now()
    _tell_untold()
    past = Copy.objects.filter(state=CopyState.DAMAGED, kept_for=retention.LAST_GOOD)
    ended = Q(policy__enabled=False) | Q(set__instance__released_at__isnull=False) | Q(mend_at=None)
    lost = past.filter(ended | Q(error=SOURCE_IS_GONE)).values("pk")
    Copy.objects.filter(pk__in=lost, state=CopyState.DAMAGED).update(kept_for="")
    states = (*Transfer.UNDER_WAY, Transfer.State.VERIFIED)
    begun = Transfer.objects.filter(replaces__isnull=False, state__in=states, copied_files=None)
    still = CopiedFile.objects.filter(transfer=OuterRef("replaces"), copy__in=owed(at))
    stale = begun.exclude(Exists(still)).values("pk")
    return Transfer.objects.filter(pk__in=stale, state__in=states).update(state=Transfer.State.ABANDONED)


def _tell_untold() -> None:
    """An expired copy whose expiry was undone is damaged as before, and its alert was closed."""
    told = Alert.objects.filter(code="copy_damaged", closed_at=None).values_list("subject", flat=True)
    damaged = Copy.objects.filter(state=CopyState.DAMAGED)
    for pk in set(damaged.values_list("pk", flat=True)) - {int(subject.removeprefix("copy:")) for subject in told}:
        copy = damaged.select_related("set__instance", "policy", "destination_store__region").filter(pk=pk).first()
        if copy:
            damage.tell(copy, copy.error, damage.remedy_of(copy))


# ---- by a person


def why_not(copy: Copy) -> Refusal | None:
    """Return why a person cannot have a damaged copy carried again now; None when it can be."""
    at = clock.now()
    if copy.state != CopyState.DAMAGED:
        return Refusal("CopyNotDamaged", _("The copy is not damaged; there is nothing to carry again."))
    if not copy.policy.enabled:
        return Refusal(
            "BackupDisabled",
            _("Cross-region backup to this region is off, so that nothing is carried there."),
            _("Enable it, or restore from another set."),
        )
    if not owed(at).filter(pk=copy.pk).exists():
        return Refusal("CopyExpired", _("Its date has passed; it is about to expire."), "")
    if not _is_at_source(copy):
        return Refusal(
            "SourceGone",
            _("The set is no longer at its source, so it cannot be carried again."),
            _("Back the instance up now, so that a sound copy takes its place."),
        )
    if copy.leased_until and copy.leased_until > at:
        return Refusal("CopyBeingCarried", _("It is being carried again in this moment."), "")
    return None


def again(copy: Copy, by: By) -> None:
    """Carry a damaged copy again now, whatever wait it is in; raises the Refusal of `why_not`."""
    with transaction.atomic():
        locked = Copy.objects.select_for_update(of=("self",)).select_related("policy", "set").get(pk=copy.pk)
        if refusal := why_not(locked):
            raise refusal
        Copy.objects.filter(pk=copy.pk).update(mend_at=clock.now(), failures=0)
        said = f"The damaged copy of {locked.set} is carried again, asked for by {by.name}."
        events.record("copy.asked_again", said, set=locked.set, by=by, copy=copy.pk)
        bell.ring_mending(locked.destination_store.region_id)
