"""Files whose header cannot be read, and the server's own word for what they are (R-3.5).

An encrypted file is a sound backup that says nothing; its server remembers where it wrote it, how large, and when. The
same name may be written anew every night, so a name alone says nothing either: where more than one set could lie in a
file, or not all that was written is known yet, the file stays refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from backups import bell
from backups.default_backups import discovery
from backups.engines import engine_of
from backups.engines.facts import HistorySet, SetFacts
from backups.models import BackupFile, BackupMethod, Instance, RememberedSet, ServerLook
from backups.servers import remembering
from regions import clock

CLOCKS_AGREE = timedelta(minutes=5)
CLOSE = timedelta(minutes=10)  # a file whose time is its own was last written when its backup ended
ROUGHLY = 1 << 20  # bytes; what a server says it wrote leaves out some of what frames it
SHARE = 20  # or a twentieth


@dataclass(frozen=True)
class LyingFile:
    """What is known of a file without its header: the last part of its name, its size, its time in the store."""

    name: str
    size: int
    modified_at: datetime


@dataclass(frozen=True)
class Spoken:
    """The set that a file holds, and which of its stripes."""

    told: HistorySet
    sequence: int


def adopt(instance: Instance) -> int:
    """Make sets of the refused files that the server speaks for; returns how many sets are new."""
    codes = engine_of(instance.engine).told_by_history
    files = BackupFile.objects.filter(instance=instance, state=BackupFile.State.REFUSED, refusal_code__in=codes)
    files = list(files.filter(settled_at__gt=clock.now() - remembering.KEPT).order_by("modified_at", "pk"))
    told = _told_by_name(instance) if files else {}
    looks, count = list(instance.server_looks.all()), 0
    for file in files:
        named = told.get(last_part(str(file)), [])
        spoken = _spoken_for(file, named, looks)
        if spoken:
            count += discovery.record_told(file, _facts_of(spoken), spoken.told.encryptor_thumbprint)
            named.remove(spoken.told)  # it lies here, so in no other file of that name
    if count:
        remembering.forget_found(instance)
        discovery.note_size(instance)
        bell.ring_planning()
    return count


def _told_by_name(instance: Instance) -> dict[str, list[HistorySet]]:
    """Return what the server remembers by the names of the files it went to."""
    rows = RememberedSet.objects.filter(instance=instance, is_damaged=False).exclude(method=BackupMethod.SNAPSHOT)
    found: dict[str, list[HistorySet]] = defaultdict(list)
    for told in map(remembering.history_set, rows):
        for name in {last_part(device.name) for device in told.devices}:
            found[name].append(told)
    return found


def _facts_of(spoken: Spoken) -> SetFacts:
    return replace(spoken.told.facts, family_sequence=spoken.sequence)


def _spoken_for(file: BackupFile, named: Iterable[HistorySet], looks: Iterable[ServerLook]) -> Spoken | None:
    behind = [look for look in looks if not look.read_until or look.read_until <= file.settled_at]
    if any(look.side == ServerLook.Side.PRIMARY or not look.failures for look in behind):
        return None  # what was written over it last may not have been told yet
    lying = LyingFile(last_part(str(file)), file.size, file.modified_at)
    return what_lies_in(lying, named, only_close=bool(behind))


def what_lies_in(file: LyingFile, told: Iterable[HistorySet], *, only_close: bool = False) -> Spoken | None:
    """Return the one set that a file can hold, None where there is none, or more than one. Pure.

    The set was written to that name, had ended when the file was last written, and is as large. It counts when the
    file's time is the time of its end; else only when nothing newer was written to that name (not with `only_close`).
    A file that sets were appended to holds more than one.
    """
    known = list(told)
    appended = {one.facts.media_set_guid for one in known if one.facts.position > 1}
    alone = [one for one in known if one.facts.media_set_guid not in appended]
    named = [Spoken(one, number) for one in alone if (number := _stripe_named(one, file.name))]
    before = [one for one in named if one.told.facts.finished_at <= file.modified_at + CLOCKS_AGREE]
    fitting = [one for one in before if _fits(file.size, one.told)]
    close = [one for one in fitting if abs(one.told.facts.finished_at - file.modified_at) <= CLOSE]
    if close or only_close:
        return close[0] if len(close) == 1 else None
    newest = max(before, key=lambda one: one.told.facts.finished_at, default=None)
    return newest if fitting == [newest] else None


def last_part(path: str) -> str:
    """Return a file's own name, whichever system wrote its path, as Windows compares names."""
    return path.replace("\\", "/").rpartition("/")[2].casefold()


def _stripe_named(one: HistorySet, name: str) -> int:
    """Return which stripe of a set has this name; 0 for none, and where two have."""
    numbers = [device.sequence for device in one.devices if not device.is_foreign and last_part(device.name) == name]
    return numbers[0] if len(numbers) == 1 else 0


def _fits(size: int, one: HistorySet) -> bool:
    """Whether a file is as large as what the server wrote; of one stripe only the most is known."""
    room = max(ROUGHLY, one.stored_bytes // SHARE)
    is_too_small = len(one.devices) == 1 and size < one.stored_bytes - room
    return size <= one.stored_bytes + room and not is_too_small
