"""What support may do: describe and release instances, reach stores, ask for work. Secrets go in and never come out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from backups import policies
from backups.events import FARSHORE, By
from backups.models import BackupJob, Copy, CopyState, Event, Instance, Restore
from backups.servers import reaching
from regions import clock, stores
from regions.models import Region, Store
from tests.billing.facts import DAY, backup_of, copy_of, instance_in, policy_of, store_in

pytestmark = pytest.mark.django_db

SECRETS = ("a-key-id-to-look-for", "a-secret-key-to-look-for", "a-token-to-look-for", "a-password-to-look-for")


@pytest.fixture
def root(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root", password="a long password"))
    return client


def act(client: Client, noun: str, action: str, *rows: Any, **more: str) -> Any:
    data = {"action": action, "_selected_action": [row.pk for row in rows], **more}
    return client.post(reverse(f"admin:{noun}_changelist"), data, follow=True)


def described(**changes: Any) -> dict[str, Any]:
    """A filled-in form of a found SQL Server instance."""
    return {
        "code": "rm-orders",
        "name": "orders",
        "region": "cn-beijing",
        "engine": "sqlserver",
        "engine_version": "2022",
        "edition": "high_availability",
        "family": "general_purpose",
        "billing_method": "subscription",
        "backup_method": "physical",
        "arrival": "found",
        "default_backup_enabled": "on",
        "tls": "prefer",
        "prefixes": "orders/",
        "timetable_days": "0,1,2",
        "full_every_days": "1",
        "drill_every_days": "7",
        "default_retention_days": "7",
    } | changes


# ---- instances


def test_an_instance_is_added_and_its_password_kept_out_of_sight(root: Client) -> None:
    store_in("cn-beijing")
    group = instance_in(name="other").group
    assert root.post(reverse("admin:backups_instance_add"), described(group=group.pk)).status_code == 302
    instance = Instance.objects.get(code="rm-orders")
    assert Event.objects.get(instance=instance).kind == "instance.added"
    changed = described(new_password=SECRETS[3], host="/nowhere", drill_every_days="30")
    assert root.post(reverse("admin:backups_instance_change", args=[instance.pk]), changed).status_code == 302
    instance.refresh_from_db()
    assert instance.drill_every_days == 30
    assert SECRETS[3].encode() not in bytes(instance.sealed_password)
    assert reaching.connection_of(instance).password == SECRETS[3]
    said = Event.objects.get(instance=instance, kind="instance.changed").sentence
    assert "new_password" in said and SECRETS[3] not in said


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("share_called", {"arrival": "taken"}),
        ("share_folder", {"arrival": "taken", "share_called": "\\\\files\\sql"}),
        ("share_called", {"engine": "postgresql", "arrival": "taken", "share_called": "/var/backups"}),
        ("log_every_minutes", {"log_every_minutes": "5"}),
        ("arrival", {"engine": "postgresql"}),
        ("host", {"engine": "postgresql", "arrival": "taken"}),
        ("timetable_days", {"timetable_days": "0,7"}),
        ("prefixes", {"prefixes": ""}),
        ("engine", {"engine": "abacus"}),
        ("default_retention_days", {"default_retention_days": "6"}),
        ("prefixes", {"prefixes": "farshore/v1"}),
    ],
)
def test_an_instance_that_cannot_be_is_refused_beside_its_field(root: Client, field: str, wanted: dict) -> None:
    store_in("cn-beijing")
    group = instance_in(name="other").group
    answer = root.post(reverse("admin:backups_instance_add"), described(group=group.pk, **wanted))
    assert field in answer.context["adminform"].form.errors
    assert not Instance.objects.filter(code="rm-orders").exists()


def test_a_backup_is_asked_for_once_and_refused_where_nobody_takes_it(root: Client) -> None:
    taken = instance_in("eu-west-1", "books")
    Instance.objects.filter(pk=taken.pk).update(engine="postgresql", arrival="taken")
    found = instance_in()
    for _ in range(2):
        answer = act(root, "backups_instance", "run_backup", taken, found)
    said = [str(message) for message in answer.context["messages"]]
    assert said[0].startswith("orders") and "does not take backups" in said[0]
    assert BackupJob.objects.get().asked_by.username == "root"
    assert Event.objects.filter(kind="backup.asked", actor_name="root").count() == 1


def test_a_release_asks_once_more_and_is_for_good(root: Client) -> None:
    instance = instance_in()
    asked = act(root, "backups_instance", "release", instance).content.decode()
    assert "cannot be brought back" in asked
    assert f'<a href="{reverse("admin:backups_instance_changelist")}">Instances</a>' in asked, "the way back"
    instance.refresh_from_db()
    assert instance.released_at is None
    act(root, "backups_instance", "release", instance, confirmed="Release")
    instance.refresh_from_db()
    assert instance.released_at is not None
    assert Event.objects.get(kind="instance.released").actor_name == "root"
    address = reverse("admin:backups_instance_change", args=[instance.pk])
    assert root.post(address, described(released_at="")).status_code == 403
    assert root.get(address).status_code == 200


# ---- copies


def test_a_failed_copy_is_tried_again_and_a_completed_one_is_not(root: Client) -> None:
    instance = instance_in()
    failed, completed = (copy_of(backup_of(instance), policy_of(instance)) for _ in range(2))
    later = clock.now() + DAY
    Copy.objects.filter(pk=failed.pk).update(state=CopyState.FAILED, due_at=later)
    answer = act(root, "backups_copy", "retry", failed, completed)
    failed.refresh_from_db()
    assert failed.due_at < later
    assert "there is nothing to retry" in answer.content.decode()
    assert Event.objects.get(kind="copy.retried").actor_name == "root"


# ---- restores


def test_a_restore_is_cancelled_and_a_restored_server_removed_by_their_verbs(root: Client) -> None:
    instance, at = instance_in(), clock.now()
    facts = {"instance": instance, "region_id": "eu-west-1", "asked_at": at, "due_at": at}
    queued = Restore.objects.create(name="queued", **facts)
    ready = Restore.objects.create(name="ready", state="ready", folder="/nowhere", **facts)
    answer = act(root, "backups_restore", "cancel", queued, ready)
    assert "Remove it instead" in answer.content.decode()
    act(root, "backups_restore", "remove", ready)
    queued.refresh_from_db()
    ready.refresh_from_db()
    assert (queued.state, ready.state, bool(ready.cancel_asked_at)) == ("cancelled", "ready", True)
    done = Event.objects.filter(kind__startswith="restore.").values_list("kind", "actor_name")
    assert set(done) == {("restore.cancelled", "root"), ("restore.remove_asked", "root")}


# ---- stores


def test_a_store_is_attached_after_a_round_trip_and_refused_in_words(root: Client, tmp_path: Path) -> None:
    data = {"region": "eu-west-1", "options": "{}"}
    refused = root.post(reverse("admin:regions_store_add"), data | {"url": f"file://{tmp_path}/missing"})
    assert "url" in refused.context["adminform"].form.errors
    assert not Store.objects.exists()
    assert root.post(reverse("admin:regions_store_add"), data | {"url": f"file://{tmp_path}"}).status_code == 302
    store = Store.objects.get()
    assert (store.state, store.attached_by.username) == (Store.State.OK, "root")
    assert Event.objects.get(kind="store.attached").actor_name == "root"


def test_a_store_is_probed_again_and_the_event_says_what_was_found(root: Client, tmp_path: Path) -> None:
    store = stores.attach(Region.objects.get(pk="eu-west-1"), f"file://{tmp_path}")
    (tmp_path / "farshore" / "marker.json").unlink()
    act(root, "regions_store", "probe", store)
    store.refresh_from_db()
    assert store.state != Store.State.OK
    event = Event.objects.get(kind="store.probed")
    assert (event.actor_name, event.data["state"]) == ("root", store.state)


def test_a_store_that_is_needed_is_not_detached(root: Client) -> None:
    store = store_in("cn-beijing")
    instance = instance_in()
    assert "keep their default backups in it" in act(root, "regions_store", "detach", store).content.decode()
    store.refresh_from_db()
    assert store.is_attached
    policies.release(instance, FARSHORE)
    act(root, "regions_store", "detach", store)
    store.refresh_from_db()
    assert not store.is_attached


def test_what_an_instance_becomes_may_suspend_its_policy(root: Client) -> None:
    for region in ("cn-beijing", "ap-southeast-1"):
        store_in(region)
    instance = instance_in(prefixes=["orders/"])
    wanted = policies.Settings(enabled=True, destination="ap-southeast-1", agreed=True)
    policies.apply(instance, wanted, by=By(User.objects.get(username="root")))
    address = reverse("admin:backups_instance_change", args=[instance.pk])
    refused = root.post(address, described(backup_method="snapshot"))
    assert "backup_method" in refused.context["adminform"].form.errors
    assert root.post(address, described(family="shared")).status_code == 302
    assert instance.policies.get().suspended_at is not None
    assert root.post(address, described()).status_code == 302
    assert instance.policies.get().suspended_at is None


def test_half_an_access_key_is_refused(root: Client, tmp_path: Path) -> None:
    data = {"region": "eu-west-1", "options": "{}", "url": f"file://{tmp_path}"}
    refused = root.post(reverse("admin:regions_store_add"), data | {"access_key_id": SECRETS[0]})
    assert "secret_access_key" in refused.context["adminform"].form.errors
    assert SECRETS[0] not in refused.content.decode()
    assert not Store.objects.exists()


def test_no_page_of_the_admin_ever_shows_a_secret(root: Client) -> None:
    instance = instance_in()
    copy_of(backup_of(instance), policy_of(instance))
    reaching.keep_password(instance, SECRETS[3])
    instance.save()
    store = store_in("cn-beijing")
    names = ("access_key_id", "secret_access_key", "session_token")
    store.keep_credentials(dict(zip(names, SECRETS, strict=False)))
    store.save()
    hidden = [secret.encode() for secret in SECRETS]
    hidden += [str(bytes(row)).encode() for row in (store.sealed_credentials, instance.sealed_password)]
    hidden += [b"sealed_"]
    for address in every_page():
        body = root.get(address).content
        assert [secret for secret in hidden if secret in body] == [], address


def every_page() -> list[str]:
    pages = [reverse("admin:index")]
    for app in ("regions", "backups", "billing"):
        for model in apps.get_app_config(app).get_models():
            name = f"admin:{app}_{model._meta.model_name}"
            pages.append(reverse(f"{name}_changelist"))
            for row in model.objects.all()[:2]:
                pages += [reverse(f"{name}_change", args=[row.pk]), reverse(f"{name}_history", args=[row.pk])]
    return pages
