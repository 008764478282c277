"""A whole object read in order: every byte, from exactly that object, held against what was recorded of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from regions.storage import Mismatch, Readable, Storage, StorageError, patience
from regions.storage.mover import Differs, Part
from regions.storage.reading import reader, stretch

BODY = bytes(range(256)) * 4096


def recorded(body: bytes, each: int = 300_000) -> list[Part]:
    cuts = [body[at : at + each] for at in range(0, len(body), each)]
    return [Part(n, (n - 1) * each, len(cut), hashlib.sha256(cut).hexdigest()) for n, cut in enumerate(cuts, 1)]


def test_it_is_read_to_its_end_in_steps_of_any_size(folder: Callable[[str], Storage]) -> None:
    store = folder("a")
    found = store.put("one", BODY)
    with reader(store, found, recorded(BODY)) as file:
        first = file.read(7)
        assert first + file.read() == BODY
        assert file.read() == b""
    with reader(store, found) as file:
        assert b"".join(iter(lambda: file.read(65_537), b"")) == BODY


def test_an_empty_object_has_no_bytes(folder: Callable[[str], Storage]) -> None:
    store = folder("a")
    with reader(store, store.put("none", b"")) as file:
        assert file.read() == b""


def test_a_byte_that_flipped_since_is_noticed(folder: Callable[[str], Storage]) -> None:
    store = folder("a")
    parts = recorded(BODY)
    wrong = replace(parts[2], sha256="0" * 64)
    with reader(store, store.put("one", BODY), [*parts[:2], wrong, *parts[3:]]) as file:
        assert file.read(600_000) == BODY[:600_000]
        with pytest.raises(Differs):
            file.read()


def test_the_last_bytes_of_a_part_that_flipped_are_never_given(folder: Callable[[str], Storage]) -> None:
    store = folder("a")
    parts = recorded(BODY)
    wrong = replace(parts[1], sha256="0" * 64)
    came = b""
    with reader(store, store.put("one", BODY), [parts[0], wrong, *parts[2:]]) as file, pytest.raises(Differs):
        while chunk := file.read(70_000):
            came += chunk
    assert len(came) < 600_000 and BODY.startswith(came)


@pytest.mark.parametrize(
    ("first", "end"), [(0, len(BODY)), (0, 1), (299_999, 300_001), (450_000, 450_000), (7, 900_001)]
)
def test_a_stretch_is_exactly_its_bytes(folder: Callable[[str], Storage], first: int, end: int) -> None:
    store = folder("a")
    found = store.put("one", BODY)
    for parts in (recorded(BODY), []):
        with stretch(store, found, parts, first, end) as file:
            assert file.read() == BODY[first:end]


def test_whole_parts_inside_a_stretch_are_compared(folder: Callable[[str], Storage]) -> None:
    store = folder("a")
    parts = recorded(BODY)
    found = store.put("one", BODY)
    wrong = [parts[0], replace(parts[1], sha256="0" * 64), *parts[2:]]
    with stretch(store, found, wrong, 299_999, 600_001) as file, pytest.raises(Differs):
        file.read()
    with stretch(store, found, wrong, 300_001, 600_001) as file:
        assert file.read() == BODY[300_001:600_001]


def test_another_object_under_its_key_is_not_read(folder: Callable[[str], Storage]) -> None:
    store = folder("a")
    found = store.put("one", BODY)
    store.put("one", BODY[::-1])
    with reader(store, found) as file, pytest.raises(Mismatch):
        file.read()


class BreaksOff:
    """A store whose every read is cut after some bytes."""

    def __init__(self, store: Storage, after: int) -> None:
        self.store, self.after, self.reads = store, after, 0

    @contextmanager
    def open_range(self, *asked: Any) -> Iterator[Any]:
        self.reads += 1
        with self.store.open_range(*asked) as stream:
            yield CutShort(stream, self.after)


class CutShort:
    def __init__(self, stream: Readable, left: int) -> None:
        self.stream, self.left = stream, left

    def readinto(self, buffer: memoryview) -> int:
        if not self.left:
            raise StorageError("The connection was reset.", retry=True)
        count = self.stream.readinto(buffer[: self.left])
        self.left -= count
        return count


def test_a_read_that_breaks_off_goes_on_where_it_was(
    folder: Callable[[str], Storage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "SHORTEST_SECONDS", 0.0)
    monkeypatch.setattr(patience, "LONGEST_SECONDS", 0.0)
    store = folder("a")
    found = store.put("one", BODY)
    broken = BreaksOff(store, 200_000)
    with reader(broken, found, recorded(BODY)) as file:
        assert file.read() == BODY
    assert broken.reads > len(BODY) // 200_000


def test_a_store_that_never_answers_is_an_error_and_not_a_short_file(
    folder: Callable[[str], Storage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "SHORTEST_SECONDS", 0.0)
    monkeypatch.setattr(patience, "LONGEST_SECONDS", 0.0)
    store = folder("a")
    with reader(BreaksOff(store, 0), store.put("one", BODY)) as file, pytest.raises(StorageError):
        file.read()
