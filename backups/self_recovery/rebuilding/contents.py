"""What lies in a store under our prefix, read and held against itself. Nothing here writes: not there, not in rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from backups import layout
from backups.copying import manifest
from backups.self_recovery import state_objects
from backups.self_recovery.rebuilding.report import WRONG, Report
from regions.models import Installation
from regions.refusals import Refusal
from regions.storage import ObjectInfo, Storage, StorageError, mover
from regions.storage.mover import Differs, Part
from regions.storage.reading import reader, whole

AT_ONCE, CHUNK = 8, 500
Document = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a manifest lies, which says what copy it is of; nothing that it says itself is believed against that."""

    info: ObjectInfo
    code: str
    set: int
    copy: int
    attempt: int


@dataclass(frozen=True)
class Find:
    """A manifest that was read and held against its place, and the objects it names as they lie in the store, by key.

    `parts` of all its files: what makes it heavy.
    """

    place: Place
    said: Document
    objects: dict[str, ObjectInfo]
    parts: int


@dataclass
class Contents:
    """Every object of our installation in one store, by what its key says it is."""

    objects: dict[str, ObjectInfo] = field(default_factory=dict)
    manifests: list[Place] = field(default_factory=list)
    states: dict[str, list[ObjectInfo]] = field(default_factory=dict)  # by instance, newest first
    highest: int = 0  # the highest number in any key
    installation: str = field(default_factory=lambda: str(Installation.current().uuid))
    base: str = field(default_factory=layout.base)


def look(storage: Storage) -> Contents:
    found = Contents()
    base = re.escape(found.base)
    of_copy = re.compile(
        rf"{base}/([A-Za-z0-9-]{{1,40}})/(\d{{1,18}})/(\d{{1,18}})/(\d{{1,18}})/(\d{{1,18}}|manifest.json)"
    )
    state = re.compile(rf"{base}/([A-Za-z0-9-]{{1,40}})/{layout.STATE}/\d{{12,18}}\.json")
    for info in storage.list(f"{found.base}/"):
        if match := of_copy.fullmatch(info.key):
            _put_in_its_place(found, info, *match.groups())
        elif match := state.fullmatch(info.key):
            found.states.setdefault(match[1], []).insert(0, info)
    found.manifests.sort(
        key=lambda place: (place.set, place.copy, -place.attempt)
    )  # the newest attempt at a copy first
    return found


def _put_in_its_place(
    found: Contents, info: ObjectInfo, code: str, set_: str, copy: str, attempt: str, name: str
) -> None:
    found.highest = max(found.highest, int(set_), int(copy))
    if name.isdigit():
        found.highest = max(found.highest, int(name))
        found.objects[info.key] = info
    else:
        found.manifests.append(Place(info, code, int(set_), int(copy), int(attempt)))


def number_of(state: ObjectInfo) -> int:
    return int(state.key.rsplit("/", 1)[1].removesuffix(".json"))


# ---- reading


def read_all(storage: Storage, places: Iterable[Place]) -> Iterator[tuple[Place, bytes | StorageError]]:
    """Read manifests, a few at once, in their order."""

    def read(place: Place) -> tuple[Place, bytes | StorageError]:
        try:
            return place, whole(storage, place.info)
        except StorageError as error:
            return place, error

    waiting = iter(places)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="manifests") as crew:
        while chunk := list(islice(waiting, CHUNK)):
            yield from crew.map(read, chunk)


def newest_state(storage: Storage, infos: Iterable[ObjectInfo], report: Report) -> Document | None:
    """Return the newest state object of an instance that can be read; the others are told."""
    for info in infos:
        try:
            return manifest.read(whole(storage, info), state_objects.FORMAT)
        except WRONG as error:
            report.tell(info.key, error)
    return None


def manifest_of(place: Place, body: bytes | StorageError, found: Contents) -> Document:
    """Return a manifest; it is believed only about its own place, and names only objects of its own instance."""
    if isinstance(body, StorageError):
        raise body
    said = manifest.read(body)
    stated = (said["installation"], said["instance"]["code"], said["set"]["id"], said["copy"]["id"])
    if stated != (found.installation, place.code, place.set, place.copy):
        raise _unreadable("It is of another copy than the place it lies in.")
    ours = re.compile(rf"{re.escape(found.base)}/{re.escape(place.code)}/\d+/\d+/\d+/\d+")
    for file in said["files"]:
        if not ours.fullmatch(file["key"]):
            raise _unreadable(f"It names {file['key']}, which is no object of a copy.")
    if not said["files"]:
        raise _unreadable("It names no file.")
    return said


def find_of(place: Place, body: bytes | StorageError, found: Contents, storage: Storage, rehash: bool) -> Find:
    """Return what a manifest says; raises what `report.WRONG` holds unless it and each of its objects fit together."""
    said = manifest_of(place, body, found)
    objects = {file["key"]: object_of(file, found, storage, rehash) for file in said["files"]}
    return Find(place, said, objects, sum(len(file["parts"]) for file in said["files"]))


def _unreadable(sentence: str) -> Refusal:
    return Refusal("ManifestUnreadable", sentence, "")


def parts_of(file: Mapping[str, Any]) -> list[Part]:
    """Return the parts of a file; raises ValueError unless they make up the whole of it."""
    parts, offset = [], 0
    for number, size, sha256 in file["parts"]:
        parts.append(Part(number=number, offset=offset, size=size, sha256=sha256))
        offset += size
    if offset != file["size"] or mover.digest(parts) != file["digest"]:
        raise ValueError("parts that do not make up the file")
    return parts


def object_of(file: Mapping[str, Any], found: Contents, storage: Storage, rehash: bool) -> ObjectInfo:
    """Return the object a manifest means as it lies in the store; raises Refusal for a missing or another one."""
    parts, info = parts_of(file), found.objects.get(file["key"])
    if info is None:
        raise Refusal("ObjectMissing", f"Its object {file['key']} is not in the store.", "")
    if (info.size, info.etag) == (file["size"], file["etag"]):
        return replace(info, version=file.get("version") or "")
    if info.size != file["size"] or not rehash:
        raise replaced(file["key"])
    hold_against(storage, info, parts)
    return info


def hold_against(storage: Storage, info: ObjectInfo, parts: list[Part]) -> None:
    """Read an object whole; raises Refusal where it does not hash to these parts."""
    try:
        with reader(storage, info, parts) as body:
            while body.read(1 << 20):
                pass
    except Differs as error:
        raise Refusal("ObjectReplaced", f"{info.key} does not hash to what was recorded.", "") from error


def replaced(key: str) -> Refusal:
    return Refusal(
        "ObjectReplaced",
        f"Another object lies under {key} than was recorded.",
        "If the store was moved, to another disk say, repeat with --rehash.",
    )
