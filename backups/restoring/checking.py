"""Everything a restore would take and everything that speaks against it, before it is asked for. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Q, QuerySet, Sum, prefetch_related_objects

from backups.engines import engine_of
from backups.models import BackupMethod, BackupSet, Copy, Drill, Instance, Kind, LandingServer, Restore
from backups.restoring import on_landing, onto, registering
from backups.restoring.choosing import Choice, Wanted, choose
from backups.restoring.landing import Landing, landing_of
from regions.built_once import Given, built_once
from regions.models import Region, Store
from regions.refusals import Refusal

LONGEST_NAME = 100
KEPT_LOGS = 3  # so many pieces of log lie unpacked beside the server while it replays
COUNTING = "count"  # goes on beside those who use the server already
MEASURED = 5  # how many former restores and drills an expectation is made from


@dataclass(frozen=True)
class Preview:
    """What a restore would be. Each refusal's field is the argument it is about: store, database, until, set, name.

    `bytes_needed` and `bytes_free` are of the disk it would stand on; `bytes_read` lie in the store, logs often packed.
    `seconds_expected` comes from former restores and drills of the instance, None when nothing was measured.
    """

    refusals: list[Refusal]
    origin: str = Restore.Origin.COPY
    region: Region | None = None
    store: Store | None = None
    database: str = ""
    sources: Sequence[Copy | BackupSet] = ()
    anchor: BackupSet | None = None
    log_count: int = 0
    restored_until: datetime | None = None
    bytes_needed: int = 0
    bytes_free: int | None = None
    bytes_read: int = 0
    seconds_expected: float | None = None
    warnings: list[str] = field(default_factory=list)
    landing: LandingServer | None = None

    @property
    def is_possible(self) -> bool:
        return not self.refusals

    @property
    def gigabytes(self) -> float:
        return self.bytes_read / settings.GB


def checks(
    instance: Instance,
    *,
    store: Store | None = None,
    database: str = "",
    until: datetime | None = None,
    copy: Copy | None = None,
    default_set: BackupSet | None = None,
    at_source: bool = False,
    onto: Instance | None = None,
    landing: LandingServer | None = None,
    called: str = "",
    name: str = "",
) -> Preview:
    """Look at what is asked for (see Wanted); an empty `name` is not looked at yet.

    `name` is the new instance's, on a landing server the new database's; with `onto` it is what was typed in for the
    name of that one.
    """
    wanted = Wanted(instance, store, database, until, copy, default_set, at_source, onto, landing, called)
    return preview_of(wanted, name)[0]


def why_not(wanted: Wanted, name: str = "") -> list[Refusal]:
    """Return what speaks against it, as `checks` would, without working out what it would take."""
    return _looked_at(wanted, name).refusals


def preview_of(wanted: Wanted, name: str) -> tuple[Preview, Choice | None]:
    seen = _looked_at(wanted, name)
    choice = seen.choice
    if choice is None:
        return Preview(seen.refusals), None
    found = Preview(
        seen.refusals,
        origin=choice.origin,
        region=choice.region,
        store=choice.store,
        database=choice.database,
        sources=choice.sources,
        anchor=choice.anchor,
        log_count=len(choice.logs),
        restored_until=choice.restored_until,
        bytes_needed=seen.needed,
        bytes_free=None if seen.free is None else max(seen.free, 0),
        bytes_read=_bytes_read(choice),
        seconds_expected=_seconds_expected(wanted.instance, choice.sets),
        warnings=list(_warnings(wanted, choice)),
        landing=wanted.landing,
    )
    return found, choice


class _Seen(NamedTuple):
    """What speaks against it; what would be read, where that is there; the bytes that are needed and free."""

    refusals: list[Refusal]
    choice: Choice | None = None
    needed: int = 0
    free: int | None = None


def _looked_at(wanted: Wanted, name: str) -> _Seen:
    refusals = [*_refused_by_engine(wanted)]
    if name and wanted.onto is None:
        refusals += why_not_called(wanted, name)
    try:
        choice = choose(wanted)
        needed, free, against = _place_of(wanted, choice)
    except Refusal as refusal:
        return _Seen([*refusals, refusal])
    if wanted.onto:
        refusals += onto.why_not(wanted, choice, name or None)
    return _Seen([*refusals, *_refused_by_sets(choice), *against], choice, needed, free)


def _place_of(wanted: Wanted, choice: Choice) -> tuple[int, int | None, list[Refusal]]:
    """Return the bytes that are needed, those that are free, and what speaks against the place it would stand in."""
    if wanted.landing:
        against = list(on_landing.why_not(choice, wanted.landing, wanted.instance))
        return on_landing.bytes_needed(choice), on_landing.bytes_free(wanted.landing), against
    if wanted.is_beside:
        return on_landing.bytes_needed(choice), None, []  # only its own server knows
    machine = landing_of(choice.region.pk)
    needed, free = bytes_needed(choice.data, choice.logs), machine.bytes_free - _promised(choice.region)
    return needed, free, list(_refused_by_place(choice, machine, needed, free))


# ---- what speaks against it


def _refused_by_engine(wanted: Wanted) -> Iterator[Refusal]:
    engine = engine_of(wanted.instance.engine)
    if wanted.is_beside:
        return  # `onto` says what speaks against it
    if wanted.landing is None and (why := on_landing.why_none(wanted.instance)):
        yield Refusal("RestoreNotOffered", why, "Choose one, or have one registered in the region of the copies.")
    elif wanted.landing is None and engine.restore is None:
        yield Refusal(
            "RestoreNotOffered",
            f"Farshore does not restore {engine.capabilities.label} itself yet.",
            f"Download the set and restore it with the tools of {engine.capabilities.label}.",
        )


def _refused_by_sets(choice: Choice) -> Iterator[Refusal]:
    snapshots = [found for found in choice.data if found.method == BackupMethod.SNAPSHOT]
    if any(found.set_files.count() < 2 for found in snapshots):
        yield Refusal(
            "SnapshotWithoutFiles",
            "Of this snapshot only its metadata is here; its data is in the storage of whoever took it.",
            "Restore it with the tool that took it, or choose another backup.",
            "set",
        )


def _refused_by_place(choice: Choice, landing: Landing, needed: int, free: int) -> Iterator[Refusal]:
    instance, version = choice.anchor.instance, choice.anchor.tool_version
    label = engine_of(instance.engine).capabilities.label
    if not landing.can_start(instance.engine, version):
        known = ", ".join(landing.versions[instance.engine]) or "none"
        yield Refusal(
            "VersionMissing",
            f"No {label} {version} can be started in {choice.region}; it has: {known}.",
            "Install the server package of that version on its worker.",
            "store",
        )
    if needed > free:
        yield Refusal(
            "NoSpace",
            f"The restore needs {needed:,} bytes in {choice.region}, and {max(free, 0):,} are free.",
            "Make room there, or remove a restored server.",
            "store",
        )


def why_not_called(wanted: Wanted, name: str) -> list[Refusal]:
    """Return why what is new may not be called this: an instance, or a database on a landing server."""
    return on_landing.why_not_name(wanted.landing, name) if wanted.landing else why_not_name(wanted.instance, name)


def why_not_name(instance: Instance, name: str) -> list[Refusal]:
    """Return why a new instance may not be called this: names tell the servers of one group apart."""
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        sentence = f"The name has 1 to {LONGEST_NAME} characters, all of them visible."
        return [Refusal("InvalidName", sentence, "Choose another name.", "name")]
    living = Instance.objects.living().filter(group=instance.group_id, name__iexact=name)
    held = Restore.objects.filter(state__in=Restore.HELD, landing=None)
    coming = held.filter(instance__group=instance.group_id, name__iexact=name)
    if living.exists() or coming.exists():
        return [Refusal("NameTaken", f"{name} is there already.", "Choose another name.", "name")]
    return []


def free_name(instance: Instance, beside: str = "restored") -> str:
    """Return a name nobody has yet: orders-restored, orders-restored-2, …"""
    base, number = f"{instance.name[: LONGEST_NAME - 20]}-{beside}", 1
    name = base
    while why_not_name(instance, name):
        number += 1
        name = f"{base}-{number}"
    return name


# ---- what it takes


def bytes_needed(data: Sequence[BackupSet], logs: Sequence[BackupSet]) -> int:
    """Return the room of the new server; differentials are combined with their full, which needs the room twice."""
    room = sum(found.size_bytes for found in data) * (2 if len(data) > 1 else 1)
    return room + sum(sorted((found.size_bytes for found in logs), reverse=True)[:KEPT_LOGS])


def _promised(region: Region) -> int:
    """Return the room that restores on their way there will still take."""
    return max(sum((one.size_bytes or 0) - one.done for one in _unpacking(region=region.pk)), 0)


@built_once
def _unpacking(**given: Given) -> QuerySet[Any]:
    unpacking = Restore.objects.filter(region=given["region"], state__in=Restore.ACTIVE, stage__in=("", "unpack"))
    size = Sum("sources__set__size_bytes", filter=~Q(sources__set__kind=Kind.LOG))
    return unpacking.annotate(size_bytes=size).order_by().values("done", "size_bytes")


def _bytes_read(choice: Choice) -> int:
    if not choice.copies:
        prefetch_related_objects(choice.sets, "files")
    return sum(map(bytes_of, choice.sources))


def bytes_of(source: Copy | BackupSet) -> int:
    """Return what lies in a store of a copy, or of a set at its source: less than its size where that was packed."""
    if isinstance(source, Copy):
        return source.stored_bytes
    return sum(file.size for file in source.files.all())


def _seconds_expected(instance: Instance, sets: Sequence[BackupSet]) -> float | None:
    speed = speed_of(instance)
    return round(sum(found.size_bytes for found in sets) / speed, 1) if speed else None


def speed_of(instance: Instance) -> float | None:
    """Return the bytes a second that the newest restores and drills of an instance came to, None without any."""
    measured = [*_restores_measured(instance), *_drills_measured(instance)]
    total_bytes, total_seconds = (sum(figures) for figures in zip(*measured, strict=True)) if measured else (0, 0.0)
    return total_bytes / total_seconds if total_bytes and total_seconds else None


Measured = tuple[int, float]  # bytes that were restored, and the seconds until their server answered


def _restores_measured(instance: Instance) -> Iterator[Measured]:
    done = Restore.objects.filter(instance=instance, finished_at__isnull=False).exclude(seconds={})
    for restore in done.order_by("-finished_at")[:MEASURED]:
        size = restore.sources.aggregate(total=Sum("set__size_bytes"))["total"] or 0
        yield size, sum(taken for stage, taken in restore.seconds.items() if stage != COUNTING)


def _drills_measured(instance: Instance) -> Iterator[Measured]:
    """What a drill does beside restoring is no part of it; a canary is stopped by its damage."""
    passed = Drill.objects.filter(instance=instance, state=Drill.State.PASSED, seconds__has_key="recovery")
    drills = list(passed.exclude(pick=Drill.Pick.CANARY).order_by("-finished_at")[:MEASURED])
    read = {drill.pk: [copy["set"] for copy in drill.evidence.get("copies", ())] for drill in drills}
    known = BackupSet.objects.filter(pk__in={pk for sets in read.values() for pk in sets})
    sizes = dict(known.values_list("pk", "size_bytes"))
    for drill in drills:
        yield sum(sizes.get(pk, 0) for pk in read[drill.pk]), drill.seconds["recovery"]


def _warnings(wanted: Wanted, choice: Choice) -> Iterator[str]:
    if choice.store and choice.store.state != Store.State.OK:
        yield f"The store of {choice.region} did not answer when it was last asked: {choice.store.last_error}"
    unproven = [copy for copy in choice.copies if copy.reference == "none"]
    if unproven:
        yield f"Of {len(unproven)} copies it is known that they are what was carried, not that the source was whole."
    if wanted.is_beside:
        called = onto.called_beside(wanted, choice)
        yield f"It will be the database {called} beside those that {wanted.onto.name} has; none of them is touched."
    elif wanted.onto:
        yield (
            f"What {wanted.onto.name} holds now is kept aside until the restored server has been confirmed; what was"
            f" written to it after {choice.restored_until:%Y-%m-%d %H:%M:%S} UTC is not in the restored one."
        )
    elif wanted.landing:
        yield f"It will be a database on {wanted.landing.name}, not an instance of its own."
    elif said := registering.why_not_here(wanted.instance):
        yield f"The new server will not be listed as an instance: {said}"
