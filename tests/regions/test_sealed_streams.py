"""What is sealed opens to the last byte, for whom it was sealed; whatever is done to it is noticed."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from regions import secrets
from regions.refusals import Refusal
from regions.sealed_streams import FRAME_BYTES, TAG_BYTES, Opening, Sealing

SIZES = [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES]


@pytest.fixture(autouse=True)
def ring(settings: Any, tmp_path: Path) -> Path:
    settings.FARSHORE_KEYS = tmp_path / "keys"
    return settings.FARSHORE_KEYS


class Trickle(io.BytesIO):
    """A pipe gives what it has, not what was asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 65_537) if size and size > 0 else size)


def seal(plain: bytes, identity: str = "self:1") -> bytes:
    return io.BufferedReader(Sealing(Trickle(plain), identity)).read()


def unseal(sealed: bytes, identity: str = "self:1") -> bytes:
    return io.BufferedReader(Opening(Trickle(sealed), identity)).read()


@pytest.mark.parametrize("size", SIZES)
def test_it_comes_back_byte_for_byte(size: int) -> None:
    plain = os.urandom(size)
    sealed = seal(plain)
    assert unseal(sealed) == plain
    assert seal(plain) != sealed
    assert size < 16 or plain[:64] not in sealed


@pytest.mark.django_db
def test_it_opens_for_its_own_identity_only_and_after_a_rotation_too(ring: Path) -> None:
    sealed = seal(b"bills")
    with pytest.raises(Refusal):
        unseal(sealed, "self:2")
    secrets.rotate()
    assert unseal(sealed) == b"bills"
    ring.unlink()
    with pytest.raises(Refusal) as refused:
        unseal(sealed)
    assert refused.value.code == "KeyMissing"


def frames(sealed: bytes) -> tuple[bytes, list[bytes]]:
    header = sealed.index(b"\n") + 1
    header += 2 + int.from_bytes(sealed[header : header + 2], "big")
    found, at = [], header
    while at < len(sealed):
        end = at + 4 + int.from_bytes(sealed[at : at + 4], "big")
        found.append(sealed[at:end])
        at = end
    return sealed[:header], found


HARM = {
    "cut after a frame": lambda head, all_: head + b"".join(all_[:-1]),
    "cut within a frame": lambda head, all_: head + b"".join(all_)[:-1],
    "cut to its head": lambda head, all_: head,
    "a frame left out": lambda head, all_: head + all_[0] + all_[2],
    "a frame doubled": lambda head, all_: head + all_[0] + all_[0] + all_[1] + all_[2],
    "two frames changed places": lambda head, all_: head + all_[1] + all_[0] + all_[2],
    "a bit flipped": lambda head, all_: head + all_[0][:9] + bytes([all_[0][9] ^ 1]) + all_[0][10:] + all_[1] + all_[2],
    "a bit of its head flipped": lambda head, all_: head[:-1] + bytes([head[-1] ^ 1]) + b"".join(all_),
    "a frame beyond all bounds": lambda head, all_: head + (1 << 31).to_bytes(4, "big") + b"".join(all_),
    "not sealed at all": lambda head, all_: b"PGDMP" * 100,
}


@pytest.mark.parametrize("harm", HARM)
def test_whatever_is_done_to_it_is_noticed(harm: str) -> None:
    head, all_ = frames(seal(os.urandom(2 * FRAME_BYTES + 5)))
    assert len(all_) == 3 and len(all_[0]) == 4 + FRAME_BYTES + TAG_BYTES
    with pytest.raises(Refusal):
        unseal(HARM[harm](head, all_))


def test_what_follows_the_last_frame_is_never_given() -> None:
    assert unseal(seal(b"bills") + b"more") == b"bills"


# ---- the recovery kit


def test_the_kit_opens_on_another_machine_what_was_sealed_on_this_one(settings: Any, tmp_path: Path) -> None:
    sealed, kit = seal(b"bills"), secrets.kit("an-installation")
    settings.FARSHORE_KEYS = tmp_path / "another machine" / "keys"
    secrets.seal(b"", "first start")
    own = secrets.key_ids()
    with pytest.raises(Refusal):
        unseal(sealed)
    kept = secrets.adopt(kit)
    assert unseal(sealed) == b"bills"
    assert secrets.key_ids() == [*kept, *own]
    secrets.adopt(kit)
    assert secrets.key_ids() == [*kept, *own]
    assert settings.FARSHORE_KEYS.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "# nothing but words\n", "abc not-base64!\n", "abc YWJj\n"])
def test_what_is_no_kit_is_refused_and_the_ring_stays(ring: Path, text: str) -> None:
    secrets.seal(b"", "first start")
    before = ring.read_text()
    with pytest.raises(Refusal):
        secrets.adopt(text)
    assert ring.read_text() == before
