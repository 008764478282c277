"""What the console shows and asks when something is lost: the source store, the key ring, the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from backups.models import Alert, Copy, Instance, Recovery, SelfBackup, SourceOutage, StateObject
from backups.oversight import watch
from backups.self_recovery import escrow
from regions import secrets
from regions.models import Store
from regions.storage import StorageError
from tests.console.fleet import DAY, SOURCE, TARGET, Fleet


@pytest.fixture
def ring(settings: Any, tmp_path: Path) -> Path:
    settings.FARSHORE_KEYS = tmp_path / "keys"
    secrets.seal(b"", "first start")
    return settings.FARSHORE_KEYS


# ---- the source region is gone


@pytest.fixture
def gone(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Instance:
    """An instance whose region does not answer; whoever opens its store is caught."""
    instance = fleet.protected("orders")
    Store.objects.filter(region=SOURCE).update(state=Store.State.UNREACHABLE, last_error="No route to host.")

    def open_(store: Store) -> None:
        raise StorageError(f"The store of {store.region_id} was opened.", retry=True)

    monkeypatch.setattr(Store, "open", open_)
    return instance


def pages_of(instance: Instance) -> list[str]:
    copy = Copy.objects.filter(set__instance=instance).first()
    return [
        "/",
        reverse("instances:list"),
        reverse("instances:page", args=[instance.code]),
        reverse("instances:default", args=[instance.code]),
        reverse("backup_instances:list"),
        reverse("backup_sets:list"),
        reverse("backup_sets:page", args=[copy.set_id]),
        reverse("backup_settings:dialog") + f"?pick={instance.pk}",
        reverse("stores:list"),
    ]


def test_pages_of_copies_ask_nothing_of_the_source_store(desk: Client, gone: Instance) -> None:
    """R-1.2: with the source region gone everything can still be listed."""
    for address in pages_of(gone):
        answer = desk.get(address, follow=True)
        assert answer.status_code == 200, address


def test_an_alert_says_that_expiry_pauses_and_the_row_says_why(desk: Client, fleet: Fleet, gone: Instance) -> None:
    watch.watch()
    sentence = Alert.objects.get(code="expiry_paused").sentence
    assert "neither expire nor are erased" in sentence
    copy = Copy.objects.filter(set__instance=gone).first()
    Copy.objects.filter(pk=copy.pk).update(kept_for="source_gone", expires_at=fleet.now - DAY)
    assert "its source region is gone" in desk.get(reverse("backup_sets:page", args=[copy.set_id])).content.decode()


# ---- the key ring


def test_who_runs_the_installation_is_asked_to_keep_the_key_ring_elsewhere(
    client: Client, fleet: Fleet, ring: Path
) -> None:
    root = fleet.root()
    client.force_login(root)
    watch.watch()
    asked = "I keep a copy elsewhere"
    assert asked in client.get(reverse("stores:list")).content.decode()
    answer = client.post(reverse("stores:escrowed"), follow=True)
    assert "you keep a copy of the key ring elsewhere" in answer.content.decode()
    assert asked not in answer.content.decode()
    assert escrow.is_escrowed() and Alert.objects.get(code="keys_not_escrowed").closed_at


def test_nobody_else_is_asked_or_heard(desk: Client, fleet: Fleet, ring: Path) -> None:
    assert "I keep a copy elsewhere" not in desk.get(reverse("stores:list")).content.decode()
    assert desk.post(reverse("stores:escrowed")).status_code == 403
    assert not escrow.is_escrowed()


# ---- the support admin


def test_support_sees_what_was_lost_and_confirms_what_came_back(client: Client, fleet: Fleet) -> None:
    instance, store = fleet.instance("orders"), fleet.stores[TARGET]
    rows = [
        SourceOutage.objects.create(store=fleet.stores[SOURCE], began_at=fleet.now),
        StateObject.objects.create(store=store, instance=instance),
        SelfBackup.objects.create(store=store, key="farshore/v1/self", began_at=fleet.now),
        Recovery.objects.create(store=store, kind="manifests", recovered_at=fleet.now),
    ]
    root = fleet.root()
    client.force_login(root)
    for row in rows:
        noun = f"admin:backups_{row._meta.model_name}"
        assert client.get(reverse(f"{noun}_changelist"), {"q": "shanghai"}).status_code == 200
        assert client.get(reverse(f"{noun}_change", args=[row.pk])).status_code == 200
        assert not admin.site._registry[type(row)].has_delete_permission(None)
    confirm = {"action": "confirm", "_selected_action": [rows[-1].pk]}
    client.post(reverse("admin:backups_recovery_changelist"), confirm)
    assert Recovery.objects.get().confirmed_by == root
    again = client.post(reverse("admin:backups_recovery_changelist"), confirm, follow=True)
    assert "confirmed already" in again.content.decode()
