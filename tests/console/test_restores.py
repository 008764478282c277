"""Restores in the console: the wizard, the page of one, the list, several at once, and what nobody may do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backups.chains import windows
from backups.models import BackupFile, Copy, Event, Instance, LogGap, Membership, ResourceGroup, Restore, Role
from console.widgets import instance_lists
from tests.console import brought_back
from tests.console.brought_back import HOUR, MINUTE, PASSWORD, full, give_password, log, restore, streamed
from tests.console.fleet import FAR, SOURCE, TARGET, Fleet

NEW, LIST = "/backups/restores/new/", "/backups/restores/"
MANY = "/backups/restores/many/"
PLAN = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "plan"}
DIALOG = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "dialog-body"}


def words(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}"


def form(instance: Instance, **said: Any) -> dict[str, Any]:
    """Return what the wizard's form sends when nothing in it was changed."""
    store = instance.policies.get().copies.first().destination_store_id
    return {
        "instance": instance.code,
        "place": store,
        "by": "newest",
        "name": "back-again",
        "token": str(uuid4()),
        **said,
    }


# ---- the wizard


def test_the_newest_moment_is_one_click_away(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    shown = words(desk.get(NEW, {"instance": instance.code}))
    newest = fleet.now - 30 * MINUTE
    assert f"{newest:%Y-%m-%d %H:%M:%S} UTC" in shown
    assert "1 backup set · 5 logs without a gap" in shown
    assert 'value="fleet-telemetry-restored"' in shown
    answer = desk.post(NEW, form(instance))
    asked = Restore.objects.get()
    assert answer.url == reverse("restores:page", args=[asked.code])
    assert (asked.name, asked.until, asked.region_id, asked.origin) == ("back-again", None, TARGET, "copy")
    assert asked.asked_by == fleet.user


def test_a_restore_shows_what_it_costs_before_ok(desk: Client, fleet: Fleet) -> None:
    """R-4.6."""
    shown = words(desk.get(NEW, {"instance": streamed(fleet).code}))
    assert "No charge for restoring inside China (Shanghai)." in shown


def test_a_moment_inside_the_window_is_asked_for_to_the_second(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    moment = (fleet.now - 100 * MINUTE).replace(microsecond=0)
    shown = words(desk.get(NEW, {"instance": instance.code, "until": f"{iso(moment)}Z"}))
    assert f'value="{iso(moment)}"' in shown
    assert "Restored until</dt><dd><time" in shown
    desk.post(NEW, form(instance, by="moment", until=iso(moment)))
    assert Restore.objects.get().until == moment


@pytest.mark.parametrize("zone", ["Z", "+00:00", " 00:00", ""])
def test_an_address_says_the_moment_in_any_of_its_forms(desk: Client, fleet: Fleet, zone: str) -> None:
    instance = streamed(fleet)
    moment = (fleet.now - 100 * MINUTE).replace(microsecond=0)
    shown = words(desk.get(NEW, {"instance": instance.code, "until": f"{iso(moment)}{zone}"}))
    assert f'value="{iso(moment)}"' in shown
    assert 'value="moment" checked' in shown


def test_a_moment_in_a_gap_is_refused_with_those_next_to_it(desk: Client, fleet: Fleet) -> None:
    """R-9.4, I7: the window never passes a gap; the console says which moments are near."""
    instance = _with_a_gap(fleet)
    lost = (fleet.now - 75 * MINUTE).replace(microsecond=0)
    shown = words(desk.get(NEW, {"instance": instance.code, "until": f"{iso(lost)}Z"}))
    assert "cannot be had: the log from" in shown
    assert "Cannot be brought back" in shown
    nearest = shown[shown.index("Nearest:") :]
    assert f"until={iso(fleet.now - 90 * MINUTE)}Z" in nearest
    assert re.search(r'type="submit" disabled>\s*Restore', shown)
    answer = desk.post(NEW, form(instance, by="moment", until=iso(lost)))
    assert answer.status_code == 200
    assert "Not asked for." in words(answer)
    assert not Restore.objects.exists()


def test_behind_a_gap_one_can_restore_again_from_the_next_full(desk: Client, fleet: Fleet) -> None:
    instance = _with_a_gap(fleet)
    desk.post(NEW, form(instance, by="moment", until=iso(fleet.now - 20 * MINUTE)))
    assert [one.set.first_position for one in Restore.objects.get().sources.all()] == [800, 800]


def test_without_logs_a_moment_cannot_be_chosen_and_says_why(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet, logs=0)
    shown = words(desk.get(NEW, {"instance": instance.code}))
    assert 'value="moment" disabled' in shown
    assert "No logs are copied there, so only what a backup set holds can be had." in shown
    answer = desk.post(NEW, form(instance, by="moment", until=iso(fleet.now - HOUR)))
    assert answer.status_code == 200
    assert not Restore.objects.exists()


def test_a_set_is_restored_as_it_was_taken(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    older = instance.sets.order_by("finished_at").first()
    shown = words(desk.get(NEW, {"instance": instance.code, "set": older.pk}))
    assert 'value="set" checked' in shown
    assert f'name="set" value="{older.pk}" checked' in shown
    desk.post(NEW, form(instance, by="set", set=older.pk))
    asked = Restore.objects.get()
    assert asked.until is None
    assert [one.set for one in asked.sources.all()] == [older]
    page = words(desk.get(reverse("restores:page", args=[asked.code])))
    assert "a set as it was taken" in page


def test_an_incremental_without_its_base_cannot_be_chosen(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet, logs=0)
    policy = instance.policies.get()
    lost = full(fleet, policy, age=2 * HOUR, first=600, kind="differential", base_guid="nowhere")
    shown = words(desk.get(NEW, {"instance": instance.code}))
    assert f'name="set" value="{lost.set_id}" disabled' in shown
    assert "what it builds on is not there" in shown
    assert desk.post(NEW, form(instance, by="set", set=lost.set_id)).status_code == 200
    assert not Restore.objects.exists()


def test_an_encrypted_set_says_what_it_waits_for(desk: Client, fleet: Fleet) -> None:
    """R-3.5."""
    instance = streamed(fleet, logs=0)
    policy = instance.policies.get()
    full(fleet, policy, age=HOUR, first=700, is_encrypted=True)
    assert "its certificate is not at the destination" in words(desk.get(NEW, {"instance": instance.code}))


def test_a_snapshot_is_offered_as_any_other_set(desk: Client, fleet: Fleet) -> None:
    """R-7.3: it can be restored to a new instance; whether one can be made of it here is for the plan to say."""
    instance = streamed(fleet, logs=0, edition="cluster")
    snapshot = full(fleet, instance.policies.get(), age=HOUR, first=700, method="snapshot")
    shown = words(desk.get(NEW, {"instance": instance.code, "set": snapshot.set_id}))
    assert "· Snapshot ·" in shown
    assert f'name="set" value="{snapshot.set_id}" checked' in shown
    page = words(desk.get(f"/backups/sets/{snapshot.set_id}/"))
    assert "Snapshot: cannot be downloaded, can be restored" in page
    assert f"instance={instance.code}&amp;set={snapshot.set_id}" in page


def test_a_default_backup_is_restored_in_the_source_region(desk: Client, fleet: Fleet) -> None:
    """R-2.3."""
    instance = streamed(fleet)
    newest = instance.sets.filter(kind="full").order_by("-finished_at").first()
    shown = words(desk.get(NEW, {"instance": instance.code, "place": "default"}))
    assert "5 logs without a gap" in shown
    assert "No charge for restoring inside China (Hangzhou)." in shown
    desk.post(NEW, form(instance, place="default", by="set", set=newest.pk))
    asked = Restore.objects.get()
    assert (asked.origin, asked.region_id) == ("default", SOURCE)
    assert [(one.set, one.copy) for one in asked.sources.all()] == [(newest, None)]


def test_the_logs_at_the_source_give_a_moment_in_the_source_region(desk: Client, fleet: Fleet) -> None:
    """R-2.3: a default backup to a moment that its own logs reach; no copy is read."""
    instance = streamed(fleet)
    moment = (fleet.now - 100 * MINUTE).replace(microsecond=0)
    shown = words(desk.get(NEW, {"instance": instance.code, "place": "default", "until": f"{iso(moment)}Z"}))
    assert 'value="moment" checked' in shown
    desk.post(NEW, form(instance, place="default", by="moment", until=iso(moment)))
    asked = Restore.objects.get()
    assert (asked.until, asked.origin, asked.region_id) == (moment, "default", SOURCE)
    assert {one.set.kind for one in asked.sources.all()} == {"full", "log"}
    assert not asked.sources.exclude(copy=None).exists()


def test_without_logs_at_the_source_the_moment_says_why(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet, logs=0)
    shown = words(desk.get(NEW, {"instance": instance.code, "place": "default"}))
    assert 'value="moment" disabled' in shown
    assert "No logs lie there, so only what a backup set holds can be had." in shown


def test_a_set_without_a_copy_is_offered_from_its_source(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    alone = fleet.backup(instance, age=HOUR, database="", size=2**20, origin="taken")
    shown = words(desk.get(NEW, {"instance": instance.code, "set": alone.pk}))
    assert '<option value="default" selected>' in shown
    assert f'name="set" value="{alone.pk}" checked' in shown


def test_copies_of_a_former_destination_are_offered_too(desk: Client, fleet: Fleet) -> None:
    """R-14.4: both regions are listed; where backups go today comes first."""
    instance = streamed(fleet, "moved", FAR)
    former = fleet.policy(instance, TARGET, enabled=False)
    full(fleet, former, age=50 * HOUR, first=10)
    shown = words(desk.get(NEW, {"instance": instance.code}))
    assert shown.index("Copies in Singapore") < shown.index("Copies in China (Shanghai)")
    assert "A new instance in Singapore" in shown


def test_a_released_instance_can_still_come_back(desk: Client, fleet: Fleet) -> None:
    """R-2.4."""
    instance = streamed(fleet)
    Instance.objects.filter(pk=instance.pk).update(released_at=fleet.now)
    desk.post(NEW, form(instance))
    assert Restore.objects.get().instance == instance


def test_what_the_engine_cannot_do_is_said_instead(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders")
    shown = words(desk.get(NEW, {"instance": instance.code}))
    assert "Farshore does not restore SQL Server yet." in shown
    assert '<form method="post" action="/backups/restores/new/"' not in shown
    assert desk.post(NEW, form(instance)).status_code == 200
    assert not Restore.objects.exists()


def test_an_instance_without_anything_says_so(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("young", engine="postgresql")
    assert "Nothing of it has been copied yet" in words(desk.get(NEW, {"instance": instance.code}))


def test_a_double_click_makes_one_restore(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    said = form(instance)
    first, second = desk.post(NEW, said), desk.post(NEW, said)
    assert Restore.objects.count() == 1
    assert first.url == second.url


def test_a_refused_form_can_be_sent_again(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    said = form(instance, name=instance.name)
    refused = words(desk.post(NEW, said))
    token = re.search(r'name="token" value="([^"]+)"', refused)[1]
    assert token != said["token"]
    desk.post(NEW, form(instance, token=token))
    assert Restore.objects.count() == 1


def test_a_restore_needs_a_name(desk: Client, fleet: Fleet) -> None:
    assert "Give the new instance a name." in words(desk.post(NEW, form(streamed(fleet), name=" ")))
    assert not Restore.objects.exists()


def test_a_name_that_is_taken_is_refused_beside_its_field(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    shown = words(desk.post(NEW, form(instance, name=instance.name)))
    assert 'aria-invalid="true"' in shown
    assert not Restore.objects.exists()


def test_the_usual_name_is_one_that_nothing_has(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    restore(fleet, instance, name="fleet-telemetry-restored")
    assert 'value="fleet-telemetry-restored-2"' in words(desk.get(NEW, {"instance": instance.code}))


def test_the_plan_alone_is_drawn_anew_as_one_types(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    shown = words(desk.get(NEW, {**form(instance), "name": instance.name}, **PLAN))
    assert "<html" not in shown
    assert "Name is taken" in shown


def test_without_script_check_again_leads_to_the_address_of_what_was_said(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    answer = desk.post(NEW, form(instance, show="1", name="other"))
    assert answer.status_code == 302
    assert "name=other" in answer.url
    assert "csrf" not in answer.url
    assert 'value="other"' in words(desk.get(answer.url))
    assert not Restore.objects.exists()


@pytest.mark.parametrize("until", ["", "yesterday", "9999-99-99T00:00:00", "0001-01-01T00:00:00+14:00", "x" * 500])
def test_what_is_no_moment_is_said_beside_the_field(desk: Client, fleet: Fleet, until: str) -> None:
    instance = streamed(fleet)
    answer = desk.post(NEW, form(instance, by="moment", until=until))
    assert "Enter a date and a time in UTC, to the second." in words(answer)
    assert desk.get(NEW, {"instance": instance.code, "until": until}).status_code == 200
    assert not Restore.objects.exists()


@pytest.mark.parametrize(
    "said", [{"place": "999"}, {"place": "x"}, {"set": "999999999999999999999"}, {"by": "magic"}, {"database": "\0"}]
)
def test_what_makes_no_sense_is_no_surprise(desk: Client, fleet: Fleet, said: dict[str, str]) -> None:
    instance = streamed(fleet)
    assert desk.get(NEW, {"instance": instance.code, **said}).status_code == 200
    assert desk.post(NEW, form(instance, **said)).status_code in (200, 302)


def test_the_wizard_begins_with_the_instances_that_can_be_picked(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    fleet.protected("orders")
    shown = words(desk.get(NEW))
    assert f"instance={instance.code}" in shown
    assert "Farshore does not restore SQL Server yet" in shown
    assert shown.count(">Restore</a>") == 1


# ---- whose business it is


def test_a_viewer_looks_and_restores_nothing(client: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    ready = restore(fleet, instance)
    give_password(ready)
    Membership.objects.update(role=Role.VIEWER)
    client.force_login(fleet.user)
    page = words(client.get(reverse("restores:page", args=[ready.code])))
    assert "10.9.0.4" in page
    assert "Show the password" not in page
    assert ">Remove</a>" not in page
    assert "New restore" not in words(client.get(LIST))
    assert ">Restore<" not in words(client.get("/backups/restores/recovery/"))
    for address in (f"{NEW}?instance={instance.code}", f"{MANY}?pick={instance.pk}"):
        assert client.get(address).status_code == 403
    for name in ("cancel", "remove", "password"):
        assert client.post(reverse(f"restores:{name}", args=[ready.code])).status_code == 403
    assert client.post(NEW, form(instance)).status_code == 403
    assert client.post(MANY, {"pick": instance.pk, "by": "newest"}).status_code == 403
    assert Restore.objects.get().state == "ready"
    assert not Event.objects.filter(kind="restore.password_shown").exists()


def test_a_strangers_restores_are_not_there(desk: Client, fleet: Fleet) -> None:
    theirs = streamed(fleet, "secret-ledger", group=ResourceGroup.objects.create(name="Elsewhere"))
    ready = restore(fleet, theirs)
    for name in ("page", "follow", "cancel", "remove"):
        assert desk.get(reverse(f"restores:{name}", args=[ready.code])).status_code == 404
    assert desk.post(reverse("restores:password", args=[ready.code])).status_code == 404
    assert desk.get(NEW, {"instance": theirs.code}).status_code == 404
    assert desk.post(NEW, form(theirs)).status_code == 404
    for address in (LIST, "/backups/restores/recovery/", NEW, f"/backups/restores/progress/?c={ready.pk}"):
        assert "secret-ledger" not in words(desk.get(address))
    assert "Tick at least one" in desk.get(MANY, {"pick": theirs.pk}, **DIALOG).headers["HX-Trigger"]


# ---- the page of one


def test_the_stages_say_how_far_it_is(desk: Client, fleet: Fleet) -> None:
    running = restore(fleet, streamed(fleet), "running")
    shown = words(desk.get(reverse("restores:page", args=[running.code])))
    for piece in ("Unpack the backup", "42 s", "Replay the logs 60 %", "3.00 MB of 5.00 MB", "/s ·", "left"):
        assert piece in shown, piece
    assert "delay:2s" in shown
    assert ">Cancel</a>" in shown


def test_the_poller_brings_the_stages_and_later_the_whole(desk: Client, fleet: Fleet) -> None:
    running = restore(fleet, streamed(fleet), "running")
    address = _poller(desk, running)
    shown = words(desk.get(address))
    assert 'id="stages" hx-swap-oob="true"' in shown
    assert 'id="live"' not in shown
    Restore.objects.update(state="ready", host="10.9.0.4", port=54321, finished_at=fleet.now)
    shown = words(desk.get(address))
    assert 'id="live" hx-swap-oob="true"' in shown
    assert "54321" in shown
    assert "delay:15s" in shown
    assert 'id="live"' not in words(desk.get(_poller(desk, running)))


def test_a_ready_restore_says_how_to_reach_it_and_what_it_took(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    ready = restore(fleet, instance, result=fleet.instance("came-back", engine="postgresql"))
    shown = words(desk.get(reverse("restores:page", args=[ready.code])))
    for piece in (
        *("10.9.0.4", "54321", "farshore_admin", "/var/lib/farshore/restored/rs-1", "worker@shanghai-1"),
        *("820,000 rows counted in 40 tables", "telemetry.public.readings_40", "28 more tables"),
        *("48 s", "1 min 33 s", "archive_command", "came-back", "5 logs", "Last change in it"),
    ):
        assert piece in shown, piece
    assert reverse("instances:page", args=[ready.result.code]) in shown
    assert "psql -h 10.9.0.4 -p 54321 -U farshore_admin postgres" in shown, "not to a database of the user's name"
    assert "outside these stages" not in shown


def test_what_is_to_be_read_is_what_lies_in_the_store_and_not_what_packed_logs_become(
    desk: Client, fleet: Fleet
) -> None:
    instance = streamed(fleet)
    Copy.objects.filter(set__kind="log").update(stored_bytes=14 * 1024)
    plan = words(desk.get(NEW, {"instance": instance.code}))
    assert '<span class="num"><bdi>70.0 KB</bdi></span>' in plan, "five logs of 14 KB, each 1 MB when unpacked"
    assert "To be read</dt><dd><bdi>8.07 MB</bdi>" in plan
    several = words(desk.get(MANY, {"pick": instance.pk, "list": "recovery"}, **DIALOG))
    assert "8.07 MB" in several and "13.0 MB" not in several
    made = restore(fleet, instance)
    assert "<bdi>70.0 KB</bdi>" in words(desk.get(reverse("restores:page", args=[made.code])))


def test_what_passed_outside_the_stages_is_told_so_that_they_add_up(desk: Client, fleet: Fleet) -> None:
    ready = restore(fleet, streamed(fleet))
    Restore.objects.update(finished_at=ready.finished_at + timedelta(seconds=15))
    shown = words(desk.get(reverse("restores:page", args=[ready.code])))
    assert "1 min 48 s" in shown and "15 s of it outside these stages" in shown


def test_the_password_is_shown_on_demand_and_written_down(desk: Client, fleet: Fleet) -> None:
    """I18: it stands on no page, and in no event, until an operator asks for it."""
    ready = restore(fleet, streamed(fleet))
    give_password(ready)
    where = reverse("restores:page", args=[ready.code])
    assert PASSWORD not in words(desk.get(where))
    assert desk.get(reverse("restores:password", args=[ready.code])).status_code == 405
    htmx = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "password"}
    answer = desk.post(reverse("restores:password", args=[ready.code]), **htmx)
    assert PASSWORD in words(answer)
    assert "<html" not in words(answer)
    assert "no-store" in answer.headers["Cache-Control"]
    event = Event.objects.get(kind="restore.password_shown")
    assert (event.actor, event.instance) == (fleet.user, ready.instance)
    assert PASSWORD not in f"{event.sentence}{event.data}"
    assert PASSWORD in words(desk.post(reverse("restores:password", args=[ready.code])))
    assert PASSWORD not in words(desk.get(where))


def test_a_removed_restore_gives_no_password(desk: Client, fleet: Fleet) -> None:
    gone = restore(fleet, streamed(fleet), "removed")
    give_password(gone)
    assert PASSWORD not in words(desk.post(reverse("restores:password", args=[gone.code])))
    assert not Event.objects.filter(kind="restore.password_shown").exists()


def test_a_restore_that_failed_says_why_and_what_to_do(desk: Client, fleet: Fleet) -> None:
    failed = restore(fleet, streamed(fleet), "failed")
    shown = words(desk.get(reverse("restores:page", args=[failed.code])))
    assert "Part 3 of the copy does not hash to what was recorded. Choose an older set." in shown
    assert "CopyDamaged" in shown
    assert "Restore again" in shown
    assert 'id="poll"' not in shown


@pytest.mark.parametrize("held", [False, True])
def test_a_server_whose_worker_ended_is_started_again(desk: Client, fleet: Fleet, held: bool) -> None:
    until = fleet.now - HOUR if held else None
    ready = restore(fleet, streamed(fleet), leased_until=until, error="Port 54321 is taken.", remedy="Free it.")
    shown = words(desk.get(reverse("restores:page", args=[ready.code])))
    assert "Starting again" in shown
    assert "another one starts it again by itself" in shown
    assert "Port 54321 is taken. Free it." in shown


def test_a_restore_says_again_what_was_asked_for(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    moment = (fleet.now - HOUR).replace(microsecond=0)
    newest = restore(fleet, instance, "cancelled")
    chosen = restore(fleet, instance, "cancelled", until=moment)
    by_set = restore(fleet, instance, "cancelled")
    by_set.sources.filter(set__kind="log").delete()
    Restore.objects.filter(pk=by_set.pk).update(set=by_set.sources.get().set)
    for found, wish, again in (
        (newest, "the newest moment", f'instance={instance.code}"'),
        (chosen, "a chosen moment", f"until={iso(moment)}Z".replace(":", "%3A")),
        (by_set, "a set as it was taken", f"set={by_set.sources.get().set_id}"),
    ):
        shown = words(desk.get(reverse("restores:page", args=[found.code])))
        assert wish in shown.lower()
        assert again in shown


def test_cancelling_asks_first_and_is_refused_when_it_is_over(desk: Client, fleet: Fleet) -> None:
    waiting = restore(fleet, streamed(fleet), "queued")
    address = reverse("restores:cancel", args=[waiting.code])
    assert "everything that was made so far is removed" in words(desk.get(address, **DIALOG))
    assert desk.post(address, **DIALOG).status_code == 204
    waiting.refresh_from_db()
    assert waiting.state == "cancelled" or waiting.cancel_asked_at
    Restore.objects.update(state="cancelled")
    assert '"tone": "bad"' in desk.post(address, **DIALOG).headers["HX-Trigger"]


def test_a_running_restore_that_is_cancelled_says_so_at_once(desk: Client, fleet: Fleet) -> None:
    running = restore(fleet, streamed(fleet), "running")
    desk.post(reverse("restores:cancel", args=[running.code]))
    running.refresh_from_db()
    assert running.cancel_asked_at
    shown = words(desk.get(reverse("restores:page", args=[running.code])))
    assert "Cancelling" in shown
    assert ">Cancel</a>" not in shown


def test_removing_says_what_is_lost_and_what_stays(desk: Client, fleet: Fleet) -> None:
    ready = restore(fleet, streamed(fleet))
    copies = Copy.objects.count()
    address = reverse("restores:remove", args=[ready.code])
    shown = words(desk.get(address, **DIALOG))
    assert "its data is deleted" in shown
    assert "fleet-telemetry and its copies are left alone" in shown
    assert desk.post(address, **DIALOG).status_code == 204
    assert Copy.objects.filter(state="completed").count() == copies
    Restore.objects.filter(state="ready").update(cancel_asked_at=fleet.now)  # a worker does it within seconds
    shown = words(desk.get(reverse("restores:page", args=[ready.code])))
    assert "Removing" in shown
    assert "54321" not in shown


# ---- the list


def test_every_restore_is_listed_with_state_moment_place_and_time(desk: Client, fleet: Fleet) -> None:
    brought_back.everything(fleet)
    shown = words(desk.get(LIST))
    for piece in ("Ready", "Replaying logs 60 %", "Waiting", "Failed", "Cancelled", "Removed", "1 min", "from copies"):
        assert piece in shown, piece
    assert "Failed" in words(desk.get(LIST, {"state": "failed"}))
    assert "Nothing matches" in words(desk.get(LIST, {"q": "nobody"}))


def test_an_empty_list_says_what_to_do(desk: Client) -> None:
    assert "Nothing has been restored yet. Press New restore" in words(desk.get(LIST))


def test_the_lists_poller_brings_states_out_of_band(desk: Client, fleet: Fleet) -> None:
    running = restore(fleet, streamed(fleet), "running")
    asked = {"c": running.pk, "newest": running.pk}
    answer = desk.get(f"{LIST}progress/", asked)
    assert f'<div id="restore-{running.pk}" hx-swap-oob="true">' in words(answer)
    assert "HX-Trigger" not in answer.headers
    Restore.objects.update(state="ready")
    assert "rows:stale" in desk.get(f"{LIST}progress/", asked).headers["HX-Trigger"]


# ---- several at once


def test_several_are_restored_to_one_moment_with_the_outcome_of_each(desk: Client, fleet: Fleet) -> None:
    one, two = streamed(fleet, "one"), streamed(fleet, "two", FAR)
    behind, other = streamed(fleet, "behind", logs=1), fleet.protected("mssql")
    picked = [one.pk, two.pk, behind.pk, other.pk]
    moment = iso(fleet.now - 75 * MINUTE)
    shown = words(desk.get(MANY, {"pick": picked}, **DIALOG))
    assert "4 instances, each as a new one" in shown
    assert "Farshore does not restore SQL Server" in shown
    said = {"pick": picked, "by": "moment", "until": moment, "token": str(uuid4())}
    effects = words(desk.post(f"{MANY}preview/", said))
    assert "<dd>2 / 4</dd>" in effects
    outcomes = words(desk.post(MANY, said, **DIALOG))
    assert "2 under way, 2 refused" in outcomes
    assert {asked.instance for asked in Restore.objects.all()} == {one, two}
    assert len({asked.batch for asked in Restore.objects.all()}) == 1
    assert "asked for already" in desk.post(MANY, said, **DIALOG).headers["HX-Trigger"]
    assert Restore.objects.count() == 2


def test_several_come_back_as_of_the_newest_moment_of_each(desk: Client, fleet: Fleet) -> None:
    one, two = streamed(fleet, "one"), streamed(fleet, "two", logs=2)
    desk.post(MANY, {"pick": [one.pk, two.pk], "by": "newest", "until": "", "token": str(uuid4())}, **DIALOG)
    assert {asked.until for asked in Restore.objects.all()} == {None}
    assert Restore.objects.count() == 2


def test_everything_that_the_recovery_page_finds_is_meant_at_once(desk: Client, fleet: Fleet) -> None:
    streamed(fleet, "web-1"), streamed(fleet, "web-2"), streamed(fleet, "ledger")
    shown = words(desk.get(MANY, {"matching": "q=web", "list": "recovery"}, **DIALOG))
    assert "2 instances, each as a new one" in shown


TOO_MANY = {
    "en": "At most 50 instances are restored in one go; 53 are ticked, 3 too many. Nothing was asked for; tick fewer.",
    "zh-hans": "一次最多恢复 50 个实例；已勾选 53 个，超出 3 个。未发起任何恢复，请减少勾选。",
}


@pytest.mark.parametrize("language", TOO_MANY)
@pytest.mark.parametrize("how", ["ticked", "matching"])
def test_too_many_are_refused_in_words_and_none_is_left_out_unsaid(
    desk: Client, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, how: str, language: str
) -> None:
    """Those beyond what any list hands on are counted too."""
    monkeypatch.setattr(instance_lists, "MOST_MATCHING", 51)
    monkeypatch.setattr("console.restores.many.MOST_MATCHING", 51)
    made = [fleet.instance(f"db-{n}").pk for n in range(53)]
    asked = {"pick": made} if how == "ticked" else {"matching": "q=db", "list": "recovery"}
    spoken = DIALOG | {"headers": {"accept-language": language}}
    answers = desk.get(MANY, asked, **spoken), desk.post(MANY, {"pick": made, "by": "newest"}, **spoken)
    for answer in answers:
        assert json.loads(answer.headers["HX-Trigger"])["toast"]["text"] == TOO_MANY[language]
    assert not Restore.objects.exists()


def test_the_bulk_bar_of_backup_instances_offers_it(desk: Client, fleet: Fleet) -> None:
    streamed(fleet)
    assert 'formaction="/backups/restores/many/"' in words(desk.get("/backups/instances/"))


# ---- from the other pages


def test_a_sets_page_offers_its_restore_or_says_why_not(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    found = instance.sets.filter(kind="full").first()
    assert f"instance={instance.code}&amp;set={found.pk}" in words(desk.get(f"/backups/sets/{found.pk}/"))
    a_log = instance.sets.filter(kind="log").first()
    assert "Cannot be restored: a log is restored with the backup" in words(desk.get(f"/backups/sets/{a_log.pk}/"))
    mssql = fleet.protected("mssql").sets.first()
    assert "Cannot be restored: Farshore does not restore SQL Server" in words(desk.get(f"/backups/sets/{mssql.pk}/"))


def test_a_set_that_lies_nowhere_any_more_cannot_be_restored(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    alone = fleet.backup(instance, database="", size=2**20)
    address = f"/backups/sets/{alone.pk}/"
    assert "Cannot be restored" not in words(desk.get(address))
    alone.files.update(state=BackupFile.State.GONE)
    assert "Cannot be restored: it has no completed copy" in words(desk.get(address))


def test_an_instances_page_offers_its_restore(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    shown = words(desk.get(f"/instances/{instance.code}/"))
    assert f'href="/backups/restores/new/?instance={instance.code}"' in shown
    newest = instance.sets.filter(kind="full").order_by("-finished_at").first()
    assert f'aria-label="Restore set {newest.pk}"' in shown
    mssql = fleet.protected("mssql")
    assert "/backups/restores/new/" not in words(desk.get(f"/instances/{mssql.code}/"))


# ---- what it costs in queries


@pytest.mark.parametrize(("name", "pins"), [("list", (10, 6)), ("recovery", (20, 12)), ("new", (16, 12))])
def test_a_list_costs_the_same_however_long_it_is(desk: Client, fleet: Fleet, name: str, pins: tuple[int, int]) -> None:
    brought_back.everything(fleet)
    whole, rows = pins
    for n in range(30):
        restore(fleet, streamed(fleet, f"more-{n:02}", logs=1), "running")
    address = reverse(f"restores:{name}")
    desk.get(address)
    assert _queries(lambda: desk.get(address)) <= whole
    assert _queries(lambda: desk.get(address, HTTP_HX_REQUEST="true", HTTP_HX_TARGET="rows")) <= rows


def _queries(ask: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as seen:
        assert ask().status_code == 200
    return len(seen)


def _poller(desk: Client, found: Restore) -> str:
    page = words(desk.get(reverse("restores:page", args=[found.code])))
    return re.search(r'hx-get="([^"]+/progress/[^"]*)"', page)[1].replace("&amp;", "&")


def _with_a_gap(fleet: Fleet) -> Instance:
    """Three logs, an hour of which nothing arrived, then a full with a log behind it."""
    instance = streamed(fleet, logs=3)
    policy = instance.policies.get()
    full(fleet, policy, age=31 * MINUTE, first=800)
    log(fleet, policy, began=30 * MINUTE, first=800)
    store = fleet.stores[TARGET]
    windows.rebuild(instance, store)
    LogGap.objects.create(
        instance=instance,
        store=store,
        reached=530,
        begins=800,
        from_time=fleet.now - 90 * MINUTE,
        until_time=fleet.now - 31 * MINUTE,
        found_at=fleet.now - timedelta(minutes=25),
    )
    return instance
