"""One door to secrets: AES-256-GCM under a key ring, each secret bound to the row it belongs to.

The key ring is a small text file (mode 0600), one `<id> <base64 of 32 bytes>` per line. The first key seals, every
key opens, so a rotation never leaves a moment in which something cannot be read.

Sealed bytes: format (1 byte = 1), length of the key id (1 byte), key id, nonce (12 bytes), ciphertext with its tag.
The associated data is the row's identity and the key id, so that a secret copied into another row does not open.
"""

from __future__ import annotations

import base64
import json
import os
import secrets as randomness
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.apps import apps
from django.conf import settings
from django.db import transaction

from regions.refusals import Refusal

FORMAT, NONCE_SIZE, KEY_SIZE = 1, 12, 32


class Key(NamedTuple):
    id: str
    bytes: bytes


class Ring(NamedTuple):
    """A ring that was read, and how its file looked just before. The keys stay in memory: whoever reads that of a
    process which may read the file has them anyway; what they opened never stays."""

    look: tuple[str, int, int, int, int] | None
    keys: list[Key]


@dataclass(frozen=True)
class SealedColumn:
    """A column that holds sealed bytes: `model` as "app.Model", `identity` tells a row's associated data."""

    model: str
    column: str
    identity: Callable[[Any], str]


_columns: dict[tuple[str, str], SealedColumn] = {}
_read = Ring(None, [])


def register(model: str, column: str, identity: Callable[[Any], str]) -> None:
    """Tell `rotate` about a sealed column; called from an app's `ready`."""
    _columns[model, column] = SealedColumn(model, column, identity)


def seal(plain: bytes, identity: str) -> bytes:
    key, nonce = _ring()[0], os.urandom(NONCE_SIZE)
    header = bytes([FORMAT, len(key.id)]) + key.id.encode()
    return header + nonce + AESGCM(key.bytes).encrypt(nonce, plain, _bound_to(identity, key.id))


def open_sealed(sealed: bytes, identity: str) -> bytes:
    """Return what was sealed for exactly this identity; raises Refusal when it cannot be opened."""
    key_id, body = _split(bytes(sealed))
    key = next((key for key in _ring() if key.id == key_id), None)
    if key is None:
        raise Refusal("KeyMissing", f"The key ring has no key {key_id}.", "Put the key back into the key ring file.")
    try:
        return AESGCM(key.bytes).decrypt(body[:NONCE_SIZE], body[NONCE_SIZE:], _bound_to(identity, key_id))
    except InvalidTag:
        raise Refusal(
            "SecretUnreadable", f"The secret of {identity} was changed or belongs to another row.", "Enter it again."
        ) from None


def seal_json(value: Any, identity: str) -> bytes:
    return seal(json.dumps(value).encode(), identity)


def open_json(sealed: bytes, identity: str) -> Any:
    return json.loads(open_sealed(sealed, identity))


def rotate() -> int:
    """Put a new key first and seal every registered column again; returns the number of secrets. Safe to repeat."""
    _write(_path(), [_new_key(), *_ring()])
    return sum(_reseal(column) for column in _columns.values())


# ---- the recovery kit


def exists() -> bool:
    return _path().exists()


def key_ids() -> list[str]:
    """Return the names of the ring's keys, none of them a secret; [] where there is no ring yet."""
    return [key.id for key in _ring()] if exists() else []


def kit(installation: str) -> str:
    """Return what the successor of a lost machine needs to open what was sealed: the ring. Never log it (I18)."""
    lines = [f"# Farshore recovery kit of installation {installation}", *map(_line, _ring())]
    return "\n".join(lines) + "\n"


def adopt(kit_text: str) -> list[str]:
    """Put the keys of a recovery kit first into the ring and keep those it has; return their names. Safe to repeat."""
    lines = [line for line in kit_text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        kept = [_key(line) for line in lines]
    except ValueError as error:
        raise Refusal(
            "KitUnreadable", "This is no recovery kit.", "It has a line of two words for each key."
        ) from error
    if not kept:
        raise Refusal("KitUnreadable", "This recovery kit holds no key.", "It has a line of two words for each key.")
    known = {key.id for key in kept}
    own = [key for key in _ring() if key.id not in known] if exists() else []
    _path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(_path(), [*kept, *own])
    return [key.id for key in kept]


def _reseal(column: SealedColumn) -> int:
    rows, count = apps.get_model(column.model)._base_manager, 0
    for pk in rows.values_list("pk", flat=True).order_by("pk").iterator():
        with transaction.atomic():
            row = rows.select_for_update(of=("self",)).filter(pk=pk).first()
            sealed = row and bytes(getattr(row, column.column) or b"")
            if sealed:
                identity = column.identity(row)
                again = seal(open_sealed(sealed, identity), identity)
                count += rows.filter(pk=pk).update(**{column.column: again})
    return count


def _bound_to(identity: str, key_id: str) -> bytes:
    return f"farshore\0{key_id}\0{identity}".encode()


def _split(sealed: bytes) -> tuple[str, bytes]:
    if len(sealed) < 2 or sealed[0] != FORMAT:
        raise Refusal("SecretUnreadable", "These bytes were not sealed by Farshore.", "Enter the secret again.")
    end = 2 + sealed[1]
    return sealed[2:end].decode(), sealed[end:]


def _path() -> Path:
    return Path(settings.FARSHORE_KEYS)


def _ring() -> list[Key]:
    """Return the ring as it is now: a rotation elsewhere, which puts another file in its place, is seen at once."""
    global _read
    path = _path()
    try:
        look = _look(path)
    except FileNotFoundError:
        _create(path)
        look = _look(path)
    if look != _read.look:
        _read = Ring(look, [_key(line) for line in path.read_text().splitlines() if line.strip()])
    return _read.keys


def _look(path: Path) -> tuple[str, int, int, int, int]:
    """What tells this file from any other that may ever lie there: looking costs a thirtieth of reading."""
    seen = path.stat()
    return str(path), seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _key(line: str) -> Key:
    key_id, _, encoded = line.strip().partition(" ")
    key = Key(key_id, base64.b64decode(encoded))
    if len(key.bytes) != KEY_SIZE:
        raise Refusal("KeyRingBroken", f"Key {key_id} of the key ring is not 256 bits long.", "Restore the file.")
    return key


def _line(key: Key) -> str:
    return f"{key.id} {base64.b64encode(key.bytes).decode()}"


def _new_key() -> Key:
    return Key(randomness.token_hex(4), os.urandom(KEY_SIZE))


def _create(path: Path) -> None:
    """Make the first ring; of two processes that start together one wins and both read its keys."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = _draft(path, [_new_key()])
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _write(path: Path, keys: list[Key]) -> None:
    os.replace(_draft(path, keys), path)


def _draft(path: Path, keys: list[Key]) -> Path:
    draft = path.with_name(f".{path.name}.{randomness.token_hex(4)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{_line(key)}\n" for key in keys)
        file.flush()
        os.fsync(file.fileno())
    return draft
