from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from regions import secrets
from regions.models import Region, Store
from regions.refusals import Refusal


@pytest.fixture(autouse=True)
def ring(settings: Any, tmp_path: Path) -> Path:
    settings.FARSHORE_KEYS = tmp_path / "new folder" / "keys"
    return settings.FARSHORE_KEYS


def test_a_secret_opens_for_its_row_and_no_other() -> None:
    sealed = secrets.seal(b"word", "store:1")
    assert secrets.open_sealed(sealed, "store:1") == b"word"
    with pytest.raises(Refusal):
        secrets.open_sealed(sealed, "store:2")


def test_one_changed_byte_is_found() -> None:
    sealed = secrets.seal(b"word", "store:1")
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises((Refusal, UnicodeDecodeError)):
            secrets.open_sealed(changed, "store:1")


def test_the_ring_is_made_for_our_eyes_only(ring: Path) -> None:
    secrets.seal(b"word", "row")
    assert ring.stat().st_mode & 0o777 == 0o600
    assert os.listdir(ring.parent) == ["keys"]


def test_a_key_that_is_missing_is_named(ring: Path) -> None:
    sealed = secrets.seal(b"word", "row")
    ring.unlink()
    with pytest.raises(Refusal) as refused:
        secrets.open_sealed(sealed, "row")
    assert refused.value.code == "KeyMissing"


@pytest.mark.django_db
def test_a_ring_that_another_process_changed_is_seen_at_once(ring: Path) -> None:
    sealed = secrets.seal(b"word", "row")
    kept = ring.read_text()
    for _ in range(5):
        secrets.rotate()
        assert secrets.open_sealed(sealed, "row") == b"word"
    assert secrets.key_ids() == [line.split()[0] for line in ring.read_text().splitlines()]
    other = ring.with_name("other")
    other.write_text("\n".join(ring.read_text().splitlines()[:5]) + "\n")
    os.replace(other, ring)
    with pytest.raises(Refusal):
        secrets.open_sealed(sealed, "row")
    ring.write_text(kept)
    assert secrets.open_sealed(sealed, "row") == b"word"


@pytest.mark.django_db
def test_after_a_rotation_the_old_key_is_no_longer_needed(ring: Path) -> None:
    store = Store(region=Region.objects.get(pk="cn-beijing"), url="s3://bucket", attached_at=timezone.now())
    store.keep_credentials({"access_key_id": "a", "secret_access_key": "b"})
    store.save()
    call_command("rotate_keys", verbosity=0)
    newest = ring.read_text().splitlines()[0]
    assert len(ring.read_text().splitlines()) == 2
    ring.write_text(newest + "\n")
    assert Store.objects.get().credentials() == {"access_key_id": "a", "secret_access_key": "b"}
