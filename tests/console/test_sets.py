"""Backup sets: their page, Copy now for one and for many, retry and cancel, and the progress of copies."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.test import Client

from backups.models import BackupFile, BackupJob, Copy, CopyState, Event, Membership, ResourceGroup, Role
from tests.console.fleet import FAR, GB, TARGET, Fleet

HTMX = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "dialog-body"}


def words(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def test_a_sets_page_shows_files_copies_and_events(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    policy = fleet.policy(instance)
    found = fleet.backup(instance, set_guid="7d3c-guid", last_position=63000000012800001, first_position=62)
    BackupFile.objects.update(integrity={"sha256": "f" * 64})
    copy = fleet.copy(found, policy)
    fleet.carry(copy, 42 * GB)
    shown = words(desk.get(f"/backups/sets/{found.pk}/"))
    for piece in (
        "f" * 64,
        "7d3c-guid",
        "63000000012800001",
        "backup checksum",
        "Copy in China (Shanghai)",
        f"orders/{found.pk}.bak",
        copy.manifest_key,
        f"{found.pk}.bak, attempt 1: Uploading",
    ):
        assert piece in shown, piece


def test_a_snapshot_set_says_why_it_cannot_be_downloaded(desk: Client, fleet: Fleet) -> None:
    found = fleet.backup(fleet.instance("orders", edition="cluster"), method="snapshot")
    assert "Snapshot: cannot be downloaded, can be restored" in words(desk.get(f"/backups/sets/{found.pk}/"))


def test_a_kept_copy_says_why(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    found = fleet.backup(instance)
    fleet.copy(found, fleet.policy(instance), kept_for="last_good")
    assert "kept: last good copy" in words(desk.get(f"/backups/sets/{found.pk}/"))
    assert "kept: last good copy" in words(desk.get(f"/instances/{instance.code}/"))


def test_copy_now_shows_its_cost_and_plans_one_copy(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    fleet.policy(instance)
    old = fleet.backup(instance, age=timedelta(days=3), size=100 * GB)
    shown = words(desk.get("/backups/sets/copy/", {"pick": old.pk}, **HTMX))
    assert "$7.50" in shown
    answer = desk.post("/backups/sets/copy/", {"pick": old.pk}, **HTMX)
    assert answer.status_code == 204
    copy = Copy.objects.get()
    assert (copy.set, copy.origin, copy.state) == (old, "person", CopyState.PLANNED)
    desk.post("/backups/sets/copy/", {"pick": old.pk}, **HTMX)
    assert Copy.objects.count() == 1


def test_copy_now_for_many_leaves_out_what_cannot_be_copied(desk: Client, fleet: Fleet) -> None:
    instance, off = fleet.instance("orders"), fleet.instance("off")
    policy = fleet.policy(instance)
    good, has_one, gone = (fleet.backup(instance, age=timedelta(days=n + 1)) for n in range(3))
    without = fleet.backup(off)
    fleet.copy(has_one, policy)
    gone.files.update(state=BackupFile.State.GONE)
    picked = {"pick": [good.pk, has_one.pk, gone.pk, without.pk]}
    shown = words(desk.get("/backups/sets/copy/", picked, **HTMX))
    for reason in ("it has a copy already", "not at the source any more", "cross-region backup is off"):
        assert reason in shown
    desk.post("/backups/sets/copy/", picked, **HTMX)
    assert set(Copy.objects.filter(state="planned").values_list("set", flat=True)) == {good.pk}


def test_the_instances_page_lists_its_default_backups_beside_their_copies(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders", copies=1)
    fleet.backup(instance, age=timedelta(days=5))
    shown = words(desk.get(f"/instances/{instance.code}/default/"))
    assert "Completed" in shown
    assert shown.count("Copy now") == 2  # the row's and the bulk bar's


def test_a_failed_copy_is_retried_now(desk: Client, fleet: Fleet) -> None:
    copy = _failed(fleet)
    later = fleet.now + timedelta(hours=1)
    Copy.objects.update(due_at=later)
    assert "Retry now" in words(desk.get(f"/backups/sets/{copy.set_id}/"))
    desk.post(f"/backups/sets/copies/{copy.pk}/retry/")
    copy.refresh_from_db()
    assert copy.due_at < later
    assert Event.objects.filter(kind="copy.retried", actor=fleet.user).exists()


def test_a_damaged_copy_is_copied_again_by_a_person(desk: Client, fleet: Fleet) -> None:
    """The button stands where it helps; where the source is gone, its place says so and the URL refuses."""
    instance = fleet.instance("orders")
    damaged = {"state": "damaged", "verification": "damaged", "times_damaged": 6, "error": "Part 1 is not it."}
    copy = fleet.copy(fleet.backup(instance), fleet.policy(instance), **damaged)
    page, again = f"/backups/sets/{copy.set_id}/", f"/backups/sets/copies/{copy.pk}/again/"
    shown = words(desk.get(page))
    for piece in ("Copy again", "only when a person asks for it", "6 times", "Part 1 is not it."):
        assert piece in shown, piece
    assert desk.post(again, follow=True).status_code == 200
    copy.refresh_from_db()
    assert copy.mend_at is not None
    assert Event.objects.get(kind="copy.asked_again").actor_name != "Farshore"
    assert "by itself" in words(desk.get(page))

    copy.set.files.update(state=BackupFile.State.GONE)
    Copy.objects.update(mend_at=None)
    shown = words(desk.get(page))
    assert "no longer at its source" in shown and again not in shown
    assert "no longer at its source" in words(desk.post(again, follow=True))
    assert Copy.objects.get().mend_at is None


def test_a_copy_under_way_is_cancelled_by_a_person(desk: Client, fleet: Fleet) -> None:
    copy = _failed(fleet)
    assert "nothing is charged" in words(desk.get(f"/backups/sets/copies/{copy.pk}/cancel/", **HTMX))
    assert desk.post(f"/backups/sets/copies/{copy.pk}/cancel/", **HTMX).status_code == 204
    copy.refresh_from_db()
    assert (copy.state, copy.cancel_reason) == ("cancelled", "by_a_person")
    again = desk.post(f"/backups/sets/copies/{copy.pk}/cancel/", **HTMX)
    assert "not under way any more" in again.headers["HX-Trigger"]


def test_a_viewer_neither_retries_nor_cancels_nor_copies(client: Client, fleet: Fleet) -> None:
    copy = _failed(fleet)
    extra = fleet.backup(copy.set.instance, age=timedelta(days=2))
    Membership.objects.update(role=Role.VIEWER)
    client.force_login(fleet.user)
    assert "Retry now" not in words(client.get(f"/backups/sets/{copy.set_id}/"))
    for address in (f"/backups/sets/copies/{copy.pk}/{verb}/" for verb in ("retry", "again", "cancel")):
        assert client.post(address).status_code == 403
    assert client.post("/backups/sets/copy/", {"pick": extra.pk}).status_code == 403
    assert Copy.objects.get().state == CopyState.FAILED


def test_progress_says_bytes_rate_and_time_left(desk: Client, fleet: Fleet) -> None:
    copy = _copying(fleet, sent=21 * GB)
    instance = copy.set.instance
    shown = words(desk.get(f"/instances/{instance.code}/"))
    assert "Copying 50 %" in shown
    assert "21.0 GB of 42.0 GB" in shown
    assert "/s ·" in shown
    assert "left" in shown


def test_the_poller_answers_with_cells_out_of_band_and_slows_down(desk: Client, fleet: Fleet) -> None:
    copy = _copying(fleet, sent=21 * GB)
    code = copy.set.instance.code
    answer = desk.get(f"/instances/{code}/progress/", {"c": copy.pk, "newest": f"{copy.set_id}-{copy.pk}"})
    shown = words(answer)
    assert f'<div id="copy-{copy.pk}" hx-swap-oob="true">' in shown
    assert "delay:2s" in shown
    assert "HX-Trigger" not in answer.headers
    Copy.objects.update(state=CopyState.COMPLETED, completed_at=fleet.now, manifest_key="m")
    answer = desk.get(f"/instances/{code}/progress/", {"c": copy.pk, "newest": f"{copy.set_id}-{copy.pk}"})
    assert "Completed" in words(answer)
    assert "delay:15s" in words(answer)
    assert "rows:stale" in answer.headers["HX-Trigger"]


def test_the_instances_card_says_what_the_row_says(desk: Client, fleet: Fleet) -> None:
    copy = _copying(fleet, sent=21 * GB)
    Copy.objects.update(state="verifying")
    shown = words(desk.get(f"/instances/{copy.set.instance.code}/"))
    assert shown.count("Verifying 0 %") == 2
    assert "Copying" not in shown


def test_what_lies_elsewhere_is_told_on_the_route_card(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    fleet.copy(fleet.backup(instance, age=timedelta(days=2)), fleet.policy(instance, FAR, enabled=False))
    fleet.copy(fleet.backup(instance), fleet.policy(instance, TARGET))
    assert "42.0 GB here · 42.0 GB in Singapore" in words(desk.get(f"/instances/{instance.code}/"))


def test_a_copied_set_is_not_said_to_be_impossible_to_copy(desk: Client, fleet: Fleet) -> None:
    found = fleet.backup(instance := fleet.instance("orders"))
    assert "Cannot be copied now" in words(desk.get(f"/backups/sets/{found.pk}/"))
    fleet.copy(found, fleet.policy(instance))
    assert "Cannot be copied now" not in words(desk.get(f"/backups/sets/{found.pk}/"))


def test_every_page_that_shows_copies_has_one_poller(desk: Client, fleet: Fleet) -> None:
    copy = _copying(fleet, sent=21 * GB)
    code = copy.set.instance.code
    for address in ("/", "/backups/sets/", f"/instances/{code}/", f"/instances/{code}/default/"):
        assert words(desk.get(address)).count('id="poll"') == 1, address
        hears = "delay:2s, resume, list:changed from:body" if address == "/" else 'delay:2s, resume"'
        assert hears in words(desk.get(address)), address  # rows that load anew bring the next poller themselves
    cells = words(desk.get("/backups/sets/progress/", {"c": copy.pk}))
    assert f'<div id="copy-{copy.pk}" hx-swap-oob="true">' in cells
    assert "Copying 50 %" in words(desk.get("/overview/progress/"))


def test_the_pace_is_quick_while_a_backup_is_taken(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders")
    for address in ("/", "/backups/sets/", f"/instances/{instance.code}/"):
        assert "delay:15s" in words(desk.get(address)), address
    BackupJob.objects.create(
        instance=instance, state="running", asked_at=fleet.now, due_at=fleet.now, sent_bytes=3 * GB
    )
    for address in ("/", "/backups/sets/", f"/instances/{instance.code}/", f"/instances/{instance.code}/default/"):
        assert "delay:2s" in words(desk.get(address)), address
    assert "3.00 GB</bdi> written so far" in words(desk.get(f"/instances/{instance.code}/default/"))
    assert "delay:3s" in words(desk.get("/backups/instances/"))


def test_somebody_elses_copy_is_not_polled(desk: Client, fleet: Fleet) -> None:
    copy = _copying(fleet, sent=21 * GB)
    copy.set.instance.__class__.objects.update(group=ResourceGroup.objects.create(name="Elsewhere"))
    assert f"copy-{copy.pk}" not in words(desk.get("/backups/sets/progress/", {"c": copy.pk}))
    assert "Copying" not in words(desk.get("/overview/progress/"))


def test_what_a_copy_was_compared_with_is_told(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    found = fleet.backup(instance)
    fleet.copy(found, fleet.policy(instance), reference="store_digest", verification="page checksum")
    for address in (f"/backups/sets/{found.pk}/", f"/instances/{instance.code}/"):
        shown = words(desk.get(address))
        assert "Compared with" in shown
        assert "agrees with the source store" in shown
        assert "page checksum" in shown
    Copy.objects.update(reference="")
    assert "the source gives nothing to compare with" in words(desk.get(f"/backups/sets/{found.pk}/"))


def test_the_list_of_backup_instances_polls_its_rows_together(desk: Client, fleet: Fleet) -> None:
    copy = _copying(fleet, sent=21 * GB)
    other = fleet.protected("other")
    asked = {"i": [copy.set.instance_id, other.pk]}
    shown = words(desk.get("/backups/instances/progress/", asked))
    assert shown.count('hx-swap-oob="true"') == 6  # state, stored bytes and lag of each
    assert "Copying 50 %" in shown


def _failed(fleet: Fleet) -> Copy:
    instance = fleet.instance("orders")
    return fleet.copy(fleet.backup(instance), fleet.policy(instance, TARGET), CopyState.FAILED, error="no answer")


def _copying(fleet: Fleet, sent: int) -> Copy:
    instance = fleet.instance("orders")
    found = fleet.backup(instance, age=timedelta(minutes=10))
    copy = fleet.copy(found, fleet.policy(instance), CopyState.COPYING, started_at=fleet.now - timedelta(minutes=5))
    fleet.carry(copy, sent)
    return copy
