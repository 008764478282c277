"""Finding default backups that somebody else's job wrote into the source store (design.md §5, I19).

A look lists every prefix of an instance to its end before anything is concluded. A file counts once nothing about it
changed over two looks; then its header is read. Listings never delete and never mark missing by themselves: a file is
gone when the store, which carries our marker, says so when asked for that file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from unicodedata import category

from django.db import DataError, IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, Sum

from backups import bell, events, layout, presence
from backups.copying import cancelling
from backups.engines import engine_of
from backups.engines.facts import Inspection, Method, SetFacts
from backups.events import speakable
from backups.facts_of_sets import columns_of
from backups.models import (
    PENDING,
    Arrival,
    BackupFile,
    BackupSet,
    CancelReason,
    Copy,
    CopyState,
    Instance,
    Kind,
    SetFile,
    SetStatus,
)
from backups.servers import standings
from regions import clock
from regions.models import Store
from regions.refusals import Refusal
from regions.storage import Gone, Mismatch, ObjectInfo, Storage, StorageError
from regions.stores import store_of

log = logging.getLogger(__name__)
LOOKS_APART = timedelta(seconds=10)
CLOCKS_AGREE = timedelta(minutes=5)
LONGEST_KEY = 1024  # bytes, as object stores have it; a folder may hold longer ones, which no index of ours does
HERE = (BackupFile.State.SEEN, BackupFile.State.SETTLED, BackupFile.State.REFUSED)
AWAY = (BackupFile.State.GONE, BackupFile.State.REPLACED, BackupFile.State.ELSEWHERE)


def check_prefixes(instance: Instance) -> Refusal | None:
    """Return why these prefixes cannot be discovered, None when they can: never ours, never another instance's."""
    for prefix in instance.prefixes:
        if _overlap(prefix, layout.ROOT):
            return _refuse(f"The prefix {prefix!r} overlaps {layout.ROOT}, where Farshore itself writes.")
        if why := _why_no_place(prefix):
            return _refuse(f"The prefix {prefix!r} {why}.")
        others = (
            Instance.objects.living().filter(region=instance.region_id, arrival=Arrival.FOUND).exclude(pk=instance.pk)
        )
        for other in others:
            if any(_overlap(prefix, theirs) for theirs in other.prefixes):
                return _refuse(f"The prefix {prefix!r} overlaps one of {other.name}.")
    return None


def _why_no_place(prefix: str) -> str:
    """Return what is wrong with a prefix as such, "" for one under which a store may have objects."""
    folders = prefix.removesuffix("/").split("/")
    if any(category(letter) == "Cc" for letter in prefix):
        return "has a control character in it"
    if prefix.startswith("/"):
        return "begins with a /; it is counted from the top of the store"
    if any(folder in ("..", ".") for folder in folders):
        return "has .. or . as a folder, which leads nowhere in a store"
    return "" if all(folders) else "has a folder without a name in it"


def without_objects(instance: Instance) -> list[str]:
    """Return the prefixes under which the source store has nothing now; [] where it does not answer."""
    store = store_of(instance.region_id)
    if instance.arrival != Arrival.FOUND or store.state != Store.State.OK:
        return []
    try:
        storage = store.open()
        return [prefix for prefix in instance.prefixes if next(iter(storage.list(prefix)), None) is None]
    except (StorageError, Refusal):
        return []


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _refuse(sentence: str) -> Refusal:
    return Refusal(
        "InvalidPrefix", sentence, "Give each instance a folder of its own, such as backups/orders/.", "prefixes"
    )


def due(region_id: str, every: timedelta = LOOKS_APART) -> list[Instance]:
    """Return the instances of a region whose last complete look is a while ago."""
    at = clock.now()
    found = Instance.objects.living().filter(region=region_id, arrival=Arrival.FOUND).exclude(prefixes=[])
    return list(found.filter(Q(looked_at=None) | Q(looked_at__lte=at - every)).order_by("looked_at", "pk"))


def look(instance: Instance) -> int:
    """Look once; return how many new sets were found. Raises StorageError, having concluded nothing, when the store
    does not answer to the end or is not ours."""
    store = store_of(instance.region_id)
    storage = store.open()
    presence.require_ours(store, storage)
    seen = {found.key: found for found in _listing(storage, instance)}
    at = clock.now()
    known = list(BackupFile.objects.filter(instance=instance, store=store, state__in=HERE))
    gone, replaced = _departures(storage, known, seen)
    presence.require_ours(store, storage)  # once more: it may have been unmounted while we looked
    _end(gone, BackupFile.State.GONE, at)
    _end(replaced, BackupFile.State.REPLACED, at)
    settled = {file.key: _identity_of(file) for file in known if file.state != BackupFile.State.SEEN}
    news = [found for found in seen.values() if settled.get(found.key) != _identity(found)]
    count = sum(_note(instance, store, storage, found, at) for found in news)
    Instance.objects.filter(pk=instance.pk).update(looked_at=at)
    _settle_losses(instance)
    if count:
        note_size(instance)
        bell.ring_planning()
    return count


def note_size(instance: Instance) -> None:
    """The newest full of each database says how much data there is."""
    fulls = instance.sets.filter(kind=Kind.FULL, status=SetStatus.SUCCEEDED)
    newest = fulls.order_by("database", "-finished_at").distinct("database")
    size = sum(max(found.size_bytes, found.files.aggregate(n=Sum("size"))["n"] or 0) for found in newest)
    Instance.objects.filter(pk=instance.pk).update(data_bytes=size)


def _listing(storage: Storage, instance: Instance) -> Iterable[ObjectInfo]:
    endings = engine_of(instance.engine).capabilities.file_endings
    for prefix in instance.prefixes:
        for found in storage.list(prefix):
            if not found.key.lower().endswith(endings) or found.key.startswith(layout.ROOT):
                continue
            if len(os.fsencode(found.key)) > LONGEST_KEY:
                log.warning("name too long", extra={"instance": instance.code, "begins": speakable(found.key[:80])})
                continue
            yield found


# ---- files


def _departures(
    storage: Storage, known: list[BackupFile], seen: dict[str, ObjectInfo]
) -> tuple[list[BackupFile], list[BackupFile]]:
    """Return the files that are gone, and those under whose key something else lies now."""
    gone = [file for file in known if file.key not in seen and _is_gone(storage, file.key)]
    replaced = [file for file in known if file.key in seen and _identity(seen[file.key]) != _identity_of(file)]
    return gone, replaced


def _is_gone(storage: Storage, key: str) -> bool:
    try:
        storage.head(key)
    except Gone:
        return True
    except StorageError as error:
        if error.code == "NotRegular":  # a folder or a link has taken its name
            return True
        raise
    return False


def _identity(found: ObjectInfo) -> tuple:
    return (found.etag, found.version, found.size, found.modified_at)


def _identity_of(file: BackupFile) -> tuple:
    return (file.etag, file.version, file.size, file.modified_at)


def _end(files: list[BackupFile], state: str, at: datetime) -> None:
    BackupFile.objects.filter(pk__in=[file.pk for file in files], state__in=HERE).update(state=state, ended_at=at)


def _note(instance: Instance, store: Store, storage: Storage, found: ObjectInfo, at: datetime) -> int:
    """Remember a file on the first look; on a later one that finds it unchanged read what it is."""
    file, _ = BackupFile.objects.get_or_create(
        store=store,
        key=found.key,
        etag=found.etag,
        version=found.version,
        size=found.size,
        modified_at=found.modified_at,
        defaults={"instance": instance, "first_seen_at": at},
    )
    if file.state in AWAY:  # it is back, as it was
        BackupFile.objects.filter(pk=file.pk).update(state=_state_before(file), ended_at=None)
        _owe_again(BackupSet.objects.filter(set_files__file=file))
        return 0
    if file.state != BackupFile.State.SEEN or file.first_seen_at > at - LOOKS_APART:
        return 0
    try:
        inspection = _inspect(instance, storage, found)
    except (Mismatch, Gone):  # it changed under our eyes: the next look sees another file
        return 0
    except StorageError as error:
        if error.retry:
            raise
        _note_unreadable(file, error)
        return 0
    return _settle(file, inspection)


def _state_before(file: BackupFile) -> str:
    """Return what a file was before it went away: one that was refused is no backup now either."""
    if file.settled_at is None:
        return BackupFile.State.SEEN
    was_refused = file.refusal_code and not file.set_files.exists()
    return BackupFile.State.REFUSED if was_refused else BackupFile.State.SETTLED


def _note_unreadable(file: BackupFile, error: StorageError) -> None:
    """This one file may not be read (its permissions, say); it is tried again at every look, the others go on."""
    log.warning("file not readable", extra={"file": file.pk, "code": error.code})
    BackupFile.objects.filter(pk=file.pk).update(refusal_code=error.code, refusal=speakable(error.sentence))


def _inspect(instance: Instance, storage: Storage, found: ObjectInfo) -> Inspection:
    def read(offset: int, length: int) -> bytes:
        buffer = bytearray(length)
        view, filled = memoryview(buffer), 0
        with storage.open_range(found.key, offset, length, found) as stream:
            while filled < length and (count := stream.readinto(view[filled:])):
                filled += count
        if filled != length:
            raise StorageError(f"The store gave {filled} of {length} bytes.", retry=True)
        return bytes(buffer)

    try:
        return engine_of(instance.engine).inspect(read, found.size)
    except StorageError:
        raise
    except Exception:  # a header nobody has thought of: one file must not end the looks at all the others
        log.exception("header not understood", extra={"instance": instance.code})
        return Inspection(refusal=_not_understood())


def _not_understood() -> Refusal:
    return Refusal(
        "HeaderNotUnderstood",
        "Its header holds values that no backup program writes.",
        "Check where this file comes from; RESTORE HEADERONLY shows what the server makes of it.",
    )


def _settle(file: BackupFile, inspection: Inspection) -> int:
    """Write what a file turned out to be, with its sets, in one transaction; return how many sets are new."""
    try:
        return _record(file, inspection)
    except (DataError, IntegrityError, ValueError):  # a NUL in a name, a size beyond every disk, a set twice
        log.exception("header not storable", extra={"file": file.pk})
        return _record(file, Inspection(refusal=_not_understood()))


def _is_backup(facts: SetFacts) -> bool:
    """The metadata of somebody else's snapshot is none: nothing can be restored from it alone (R-7.3)."""
    return facts.method is not Method.SNAPSHOT


def _of_another_tool(what: str = "It is") -> Refusal:
    return Refusal(
        "SnapshotWithoutFiles",
        f"{what} the metadata of a snapshot that another tool took; the data is in that tool's storage.",
        "Let that tool keep it, or let Farshore take the snapshots.",
    )


def _record(file: BackupFile, inspection: Inspection) -> int:
    with transaction.atomic():
        locked = BackupFile.objects.select_for_update(of=("self",)).select_related("instance").get(pk=file.pk)
        if locked.state != BackupFile.State.SEEN:
            return 0
        backups = [facts for facts in inspection.sets if _is_backup(facts)]
        if not backups:
            _refuse_file(locked, inspection.refusal or _of_another_tool())
            return 0
        locked.state, locked.settled_at = BackupFile.State.SETTLED, clock.now()
        locked.media_set_guid = inspection.sets[0].media_set_guid
        locked.save(update_fields=["state", "settled_at", "media_set_guid"])
        if others := [facts for facts in inspection.sets if not _is_backup(facts)]:
            _refuse_sets(locked, others)
        return sum(_record_set(locked, facts) for facts in backups)


def _refuse_file(file: BackupFile, refusal: Refusal) -> None:
    BackupFile.objects.filter(pk=file.pk).update(
        state=BackupFile.State.REFUSED,
        refusal_code=refusal.code,
        refusal=speakable(str(refusal)),
        settled_at=clock.now(),
    )
    events.record(
        "file.refused",
        speakable(f"{file} is not taken for a backup: {refusal.sentence}"),
        instance=file.instance,
        file=file.pk,
        code=refusal.code,
    )


def _refuse_sets(file: BackupFile, others: list[SetFacts]) -> None:
    """Say which sets of a file that holds backups too are none; the words stand with the file, and so with its sets.

    One event, until there are other words: a file that is appended to is another file each time.
    """
    named = [f"set {one.position} of {one.database} ({one.finished_at:%Y-%m-%d %H:%M:%S} UTC)" for one in others]
    refusal = _of_another_tool(f"Not taken for backups: {', '.join(named)}. Each is")
    words = speakable(str(refusal))
    of_its_name = BackupFile.objects.filter(store=file.store_id, key=file.key).exclude(pk=file.pk)
    is_news = not of_its_name.filter(refusal=words).exists()
    BackupFile.objects.filter(pk=file.pk).update(refusal_code=refusal.code, refusal=words)
    if is_news:
        sentence = speakable(f"{file}: {refusal.sentence}")
        events.record("set.refused", sentence, instance=file.instance, file=file.pk, code=refusal.code)


def record_told(file: BackupFile, facts: SetFacts, thumbprint: str) -> bool:
    """Take a refused file for what its server says it is; True when its set is a new one (R-3.5)."""
    with transaction.atomic():
        locked = BackupFile.objects.select_for_update(of=("self",)).select_related("instance").get(pk=file.pk)
        if locked.state != BackupFile.State.REFUSED:
            return False
        locked.state, locked.media_set_guid = BackupFile.State.SETTLED, facts.media_set_guid
        locked.refusal = "Its header cannot be read; what is known of it is what its server remembers."
        locked.save(update_fields=["state", "media_set_guid", "refusal"])
        is_new = _record_set(locked, facts)
        of_the_backup = {"certificate_thumbprint": thumbprint} if thumbprint else {}
        told = BackupSet.objects.filter(instance=locked.instance, set_guid=facts.set_guid)
        told.update(is_told_by_server=True, **of_the_backup)
    return is_new


# ---- sets


def _record_set(file: BackupFile, facts: SetFacts) -> bool:
    """Add the set, or the stripe to the set, or note that a set known from another file lies here too."""
    known = (
        BackupSet.objects.filter(instance=file.instance, set_guid=facts.set_guid).first() if facts.set_guid else None
    )
    found = known or _new_set(file, facts)
    if _place(found, file, facts):
        _owe_again(BackupSet.objects.filter(pk=found.pk))
    complete = _is_complete(found, facts.family_count)
    status = SetStatus.SUCCEEDED if complete else SetStatus.INCOMPLETE
    if found.status != status and found.weighed_at is None:
        BackupSet.objects.filter(pk=found.pk).update(status=status)
    if known is None:
        events.record("set.found", f"The backup {found} was found in {file}.", set=found, file=file.pk)
    return known is None


def _new_set(file: BackupFile, facts: SetFacts) -> BackupSet:
    at = clock.now()
    return BackupSet.objects.create(
        instance=file.instance,
        database=facts.database,
        kind=facts.kind,
        method=facts.method,
        origin="found",
        status=SetStatus.INCOMPLETE,
        discovered_at=at,
        certificate_thumbprint=standings.thumbprint_of(file.instance, facts.database, facts.finished_at),
        **columns_of(facts) | _times_until(at, facts),
    )


def _times_until(at: datetime, facts: SetFacts) -> dict[str, datetime]:
    """Nothing we hold in our hands finishes in the future: such a date would be the newest, and kept, for ever."""
    finished_at = facts.finished_at if facts.finished_at <= at + CLOCKS_AGREE else at
    return {"started_at": min(facts.started_at, finished_at), "finished_at": finished_at}


def _owe_again(sets: QuerySet[BackupSet]) -> None:
    """What was given up because its file had gone is there again (appended to, renamed, mounted): weigh it anew."""
    given_up = Copy.objects.filter(
        set=OuterRef("pk"), state=CopyState.CANCELLED, cancel_reason=CancelReason.SOURCE_GONE
    )
    sets.filter(Exists(given_up)).update(weighed_at=None)


def _place(found: BackupSet, file: BackupFile, facts: SetFacts) -> bool:
    """Say where the set lies; one whose former file was overwritten by a longer one lies in the new file now.

    True when a set that lay elsewhere has moved here.
    """
    here = found.set_files.filter(family_sequence=facts.family_sequence).select_related("file").first()
    if here is None:
        SetFile.objects.create(set=found, file=file, position=facts.position, family_sequence=facts.family_sequence)
    elif here.file_id != file.pk and here.file.state != BackupFile.State.SETTLED:
        return bool(SetFile.objects.filter(pk=here.pk).update(file=file, position=facts.position))
    return False


def _is_complete(found: BackupSet, families: int) -> bool:
    present = found.set_files.filter(family_sequence__lte=families, file__state=BackupFile.State.SETTLED)
    return present.count() == families


def _settle_losses(instance: Instance) -> None:
    """Cancel what is owed of sets whose files are no longer there (R-2.5).

    A file that was replaced is no loss yet while its successor has not settled: most often it was appended to.
    """
    successor = BackupFile.objects.filter(
        store=OuterRef("file__store"), key=OuterRef("file__key"), state=BackupFile.State.SEEN
    )
    replaced = Q(file__state=BackupFile.State.REPLACED) & ~Exists(successor)
    lost = SetFile.objects.filter(Q(file__state=BackupFile.State.GONE) | replaced, set__instance=instance)
    owed = Copy.objects.filter(set__in=lost.values("set"), state__in=PENDING).exclude(state=CopyState.VERIFYING)
    for copy in owed.select_related("set__instance", "policy"):
        cancelling.cancel(copy, CancelReason.SOURCE_GONE)
