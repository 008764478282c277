"""The settings dialog: one or many, what is refused and where, what is told before and after OK (R-11 to R-15)."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from backups import policies
from backups.events import By
from backups.models import Acceptance, Copy, CopyPolicy, Instance, ResourceGroup
from backups.policies import Settings
from backups.terms import agreements
from console.backup_settings.forms import SettingsForm
from tests.console.fleet import DAY, FAR, GB, SOURCE, TARGET, Fleet

DIALOG = "/backups/settings/"
PREVIEW = "/backups/settings/preview/"
HTMX = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "dialog-body"}


def said(instances: list[Instance] | Instance, **changes: str) -> dict[str, str]:
    """What the dialog sends when it was opened just now."""
    instances = instances if isinstance(instances, list) else [instances]
    usual = {
        "enabled": "enable",
        "destination": TARGET,
        "retention_days": "7",
        "logs_enabled": "disabled",
        "agreed": "on",
        "versions": SettingsForm.versions_now(instances),
    }
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def words(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def enabled(instance: Instance) -> CopyPolicy | None:
    return policies.enabled_policy(instance)


# ---- enabling


def test_enabling_closes_the_dialog_and_reloads_the_list(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    answer = desk.post(DIALOG, said(instance, retention_days="365"), **HTMX)
    assert answer.status_code == 204
    for event in ("dialog:close", "list:changed", "toast"):
        assert event in answer.headers["HX-Trigger"]
    policy = enabled(instance)
    assert (policy.destination_id, policy.retention_days) == (TARGET, 365)
    accepted = Acceptance.objects.get()
    assert (accepted.user, accepted.address) == (fleet.user, "127.0.0.1")


def test_without_script_the_same_form_is_a_page_and_leads_back(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    page = desk.get(DIALOG, {"pick": instance.pk})
    assert "<html" in words(page)
    assert "<h1" in words(page)
    answer = desk.post(DIALOG, said(instance))
    assert (answer.status_code, answer.url) == (302, "/backups/instances/")
    assert enabled(instance)


def test_a_dialog_that_is_a_page_is_titled_as_it_is_headed(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    own = {f"{DIALOG}?pick={instance.pk}": "Backup Settings", f"/instances/{instance.code}/level2/": "Level-2 backup"}
    for address, heading in own.items():
        page = words(desk.get(address))
        assert f"<title>{heading} · Farshore</title>" in page
        assert f">{heading}</h1>" in page


def test_what_is_accepted_is_the_very_text_that_was_shown(desk: Client, fleet: Fleet) -> None:
    """R-13.2: another language was chosen, or another version published, since the dialog was opened."""
    near, far, by = fleet.instance("near"), fleet.instance("far"), By(fleet.root())
    english = agreements.current_text("en")
    agreements.publish("合规协议。", by, language="zh-hans", version=english.version)
    shown = words(desk.post(PREVIEW, said(near, agreed=None), **HTMX))
    assert f'name="text_read" value="{english.sha256}"' in shown
    desk.cookies["farshore_language"] = "zh-hans"
    assert desk.post(DIALOG, said(near, text_read=english.sha256), **HTMX).status_code == 204
    given = Acceptance.objects.get()
    assert (given.language, given.text_sha256) == ("en", english.sha256)
    desk.cookies["farshore_language"] = "en"
    agreements.publish("Another text.", by)
    refused = words(desk.post(DIALOG, said(far, text_read=english.sha256), **HTMX))
    assert "has changed since it was shown" in refused and "Another text." in refused
    assert enabled(far) is None


def test_the_agreement_is_never_ticked_beforehand_and_always_asked_for(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    preview = desk.post(PREVIEW, said(instance, agreed=None), **HTMX)
    assert 'name="agreed"' in words(preview)
    assert "checked" not in words(preview)
    answer = desk.post(DIALOG, said(instance, agreed=None), **HTMX)
    assert answer.status_code == 200
    assert "Read it and tick the box." in words(answer)
    assert 'aria-invalid="true"' in words(answer)
    assert enabled(instance) is None
    assert not Acceptance.objects.exists()


@pytest.mark.parametrize("days", ["6", "1826", "7.5", "7.0", "", "1e3", "-30", "٣٠", "30 days"])
def test_a_wrong_retention_is_refused_beside_its_field(desk: Client, fleet: Fleet, days: str) -> None:
    instance = fleet.instance("orders")
    answer = desk.post(DIALOG, said(instance, retention_days=days), **HTMX)
    assert answer.status_code == 200
    assert 'href="#id_retention_days"' in words(answer)
    assert 'id="id_retention_days_error"' in words(answer)
    assert enabled(instance) is None


@pytest.mark.parametrize("days", ["7", "1825", " 30 "])
def test_a_right_retention_is_taken(desk: Client, fleet: Fleet, days: str) -> None:
    instance = fleet.instance("orders")
    assert desk.post(DIALOG, said(instance, retention_days=days), **HTMX).status_code == 204
    assert enabled(instance).retention_days == int(days)


@pytest.mark.parametrize("destination", ["", SOURCE, "cn-hangzhou-finance", "cn-beijing", "nowhere"])
def test_a_wrong_destination_is_refused_beside_its_field(desk: Client, fleet: Fleet, destination: str) -> None:
    instance = fleet.instance("orders")
    answer = desk.post(DIALOG, said(instance, destination=destination), **HTMX)
    assert answer.status_code == 200
    assert 'href="#id_destination"' in words(answer)
    assert enabled(instance) is None


def test_a_route_that_is_not_allowed_is_greyed_with_its_reason(desk: Client, fleet: Fleet) -> None:
    shown = words(desk.get(DIALOG, {"pick": fleet.instance("orders").pk}, **HTMX))
    assert '<option value="cn-hangzhou-finance" disabled>' in shown
    assert "China East 1 Finance – for Finance Cloud only" in shown
    assert "US (Virginia) – no reachable store" in shown
    assert shown.index('label="Can be chosen"') < shown.index(TARGET) < shown.index('label="Cannot be chosen"')
    assert f'<option value="{TARGET}">' in shown
    assert f'<option value="{SOURCE}"' not in shown


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"family": "shared"}, "Shared instance"),
        ({"billing_method": "serverless"}, "Serverless instances"),
        ({"backup_method": "snapshot"}, "snapshot and the edition is not Cluster"),
    ],
)
def test_an_instance_that_does_not_qualify_is_refused_with_the_reason(
    desk: Client, fleet: Fleet, facts: dict[str, str], reason: str
) -> None:
    instance = fleet.instance("orders", **facts)
    answer = desk.post(DIALOG, said(instance), **HTMX)
    assert reason in words(answer)
    assert enabled(instance) is None
    pending = words(desk.get("/backups/pending/"))
    assert "1 instance is not listed: see why" in pending
    assert reason in pending


def test_somebody_elses_instance_cannot_be_picked(desk: Client, fleet: Fleet) -> None:
    theirs = fleet.instance("secret", group=ResourceGroup.objects.create(name="Elsewhere"))
    assert "secret" not in words(desk.get(DIALOG, {"pick": theirs.pk}, **HTMX))
    desk.post(DIALOG, said(theirs), **HTMX)
    assert enabled(theirs) is None


def test_nothing_ticked_is_said(desk: Client, fleet: Fleet) -> None:
    answer = desk.get(DIALOG, **HTMX)
    assert "Tick at least one instance" in answer.headers["HX-Trigger"]


# ---- the effects before OK


def test_the_effects_of_enabling_are_shown(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    fleet.backup(instance, age=timedelta(hours=2), size=100 * GB)
    shown = words(desk.post(PREVIEW, said(instance), **HTMX))
    assert "First copy, traffic" in shown
    assert "$7.50" in shown
    assert "crosses no border" in shown
    abroad = words(desk.post(PREVIEW, said(instance, destination=FAR), **HTMX))
    assert "crosses a border" in abroad


def test_an_instance_without_a_recent_full_is_told_what_that_means(desk: Client, fleet: Fleet) -> None:
    found = fleet.instance("orders")
    taken = fleet.instance("telemetry", engine="postgresql", arrival="taken", host="10.0.0.8")
    assert "Nothing can be restored until the next full backup arrives: orders." in words(
        desk.post(PREVIEW, said(found), **HTMX)
    )
    assert "a full backup runs first" in words(desk.post(PREVIEW, said(taken), **HTMX))


def test_shortening_says_what_expires_and_asks_for_no_agreement(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders", days=30, copies=10)
    shown = words(desk.post(PREVIEW, said(instance, retention_days="7"), **HTMX))
    assert "3 of 10 backup sets" in shown
    assert "undo until then" in shown
    assert "agreed" not in shown
    assert desk.post(DIALOG, said(instance, agreed=None), **HTMX).status_code == 204
    assert Copy.objects.filter(state="expired").count() == 3
    page = words(desk.get(f"/instances/{instance.code}/"))
    assert "The retention was shortened from 30 to 7 days" in page
    desk.post(f"/backups/settings/undo/{instance.code}/")
    assert Copy.objects.filter(state="expired").count() == 0
    assert enabled(instance).retention_days == 30


def test_disabling_says_what_is_left_to_pay_and_asks_for_no_agreement(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders", days=30)
    shown = words(desk.post(PREVIEW, said(instance, enabled="disabled", retention_days="30"), **HTMX))
    assert "Storage left to pay" in shown
    assert "With 7 days it would be" in shown
    assert "agreed" not in shown
    assert desk.post(DIALOG, said(instance, enabled="disabled", agreed=None), **HTMX).status_code == 204
    assert enabled(instance) is None
    assert policies.latest_policy(instance).retention_days == 7
    assert "orders" in words(desk.get("/backups/instances/"))


def test_the_effects_wait_for_a_retention_that_can_be_read(desk: Client, fleet: Fleet) -> None:
    shown = words(desk.post(PREVIEW, said(fleet.instance("orders"), retention_days="x"), **HTMX))
    assert "Enter 7 to 1825 days" in shown


# ---- changing


def test_a_changed_destination_asks_for_the_agreement_again(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders")
    refused = desk.post(DIALOG, said(instance, destination=FAR, retention_days="30", agreed=None), **HTMX)
    assert "tick the box" in words(refused)
    assert desk.post(DIALOG, said(instance, destination=FAR, retention_days="30"), **HTMX).status_code == 204
    assert enabled(instance).destination_id == FAR


def test_of_a_released_instance_only_the_retention_changes(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders", days=30)
    Instance.objects.filter(pk=instance.pk).update(released_at=fleet.now)
    shown = words(desk.get(DIALOG, {"pick": instance.pk}, **HTMX))
    assert "Only the retention period can be changed" in shown
    elsewhere = said(instance, destination=FAR, retention_days="60", agreed=None)
    assert desk.post(DIALOG, elsewhere, **HTMX).status_code == 204
    policy = policies.latest_policy(instance)
    assert (policy.destination_id, policy.retention_days) == (TARGET, 60)


def test_the_retention_of_a_released_instance_shows_what_it_costs(desk: Client, fleet: Fleet) -> None:
    """R-4.6: nothing new comes, but what is stored is kept, and charged, for longer."""
    instance = fleet.protected("orders", days=30, copies=1)
    Instance.objects.filter(pk=instance.pk).update(released_at=fleet.now)
    told = {}
    for days in ("30", "60"):
        shown = words(desk.post(PREVIEW, said(instance, retention_days=days, agreed=None), **HTMX))
        assert "The last one expires on" in shown
        told[days] = Decimal(re.search(r"Storage left to pay</dt><dd>\D*([\d.,]+)", shown)[1])
    assert told["60"] - told["30"] == Decimal("6.05")  # 42 GB for thirty days more, at


def test_the_second_of_two_editors_is_told_what_changed(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders", days=30)
    mine = said(instance, retention_days="90", agreed=None)
    policies.apply(instance, Settings(True, 60, TARGET), fleet_by(fleet))
    answer = desk.post(DIALOG, mine, **HTMX)
    assert "The settings changed while this was open" in words(answer)
    assert "from 30 to 60 days" in words(answer)
    assert enabled(instance).retention_days == 60
    again = dict(mine, versions=SettingsForm.versions_now([instance]))
    assert again["versions"] in words(answer)
    assert desk.post(DIALOG, again, **HTMX).status_code == 204
    assert enabled(instance).retention_days == 90


def test_a_mistake_does_not_hide_a_conflict(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders", days=30)
    mine = said(instance, retention_days="5", agreed=None)
    policies.apply(instance, Settings(True, 60, TARGET), fleet_by(fleet))
    assert mine["versions"] in words(desk.post(DIALOG, mine, **HTMX))


# ---- many at once


def test_many_are_saved_with_one_tick(desk: Client, fleet: Fleet) -> None:
    both = [fleet.instance("catalog"), fleet.instance("pricing")]
    shown = words(desk.get(DIALOG, {"pick": [instance.pk for instance in both]}, **HTMX))
    assert "2 instances" in shown
    assert desk.post(DIALOG, said(both), **HTMX).status_code == 204
    assert all(enabled(instance) for instance in both)


def test_each_outcome_is_told_and_the_refused_can_be_retried(desk: Client, fleet: Fleet) -> None:
    good, bad = fleet.instance("good"), fleet.instance("bad", family="shared")
    answer = desk.post(DIALOG, said([good, bad]), **HTMX)
    assert answer.status_code == 200
    assert "1 of 2 saved, 1 refused" in words(answer)
    assert "Shared instance types are not supported" in words(answer)
    assert "list:changed" in answer.headers["HX-Trigger"]
    assert enabled(good)
    retry = said(bad)
    assert f'value="{retry["versions"]}"' in words(answer)
    Instance.objects.filter(pk=bad.pk).update(family="dedicated")
    assert desk.post(DIALOG, retry, **HTMX).status_code == 204
    assert enabled(bad)


def test_who_comes_from_pending_instances_comes_to_enable(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders", days=30)
    policies.apply(instance, Settings(False, 30, TARGET), fleet_by(fleet))
    asked = {"pick": instance.pk}
    assert 'value="disabled" id="id_enabled_1" checked' in _ids(desk.get(DIALOG, asked, **HTMX))
    assert 'value="enable" id="id_enabled_0" checked' in _ids(desk.get(DIALOG, asked | {"list": "pending"}, **HTMX))


def test_what_differs_between_many_is_left_open(desk: Client, fleet: Fleet) -> None:
    some = [fleet.protected("a", TARGET, 30), fleet.protected("b", FAR, 30)]
    form = words(desk.get(DIALOG, {"pick": [instance.pk for instance in some]}, **HTMX))
    assert '<option value="" selected>Keep each one' in form
    assert 'name="retention_days" value="30"' in form


def test_what_differs_can_be_kept_by_each(desk: Client, fleet: Fleet) -> None:
    near, far = fleet.protected("a", TARGET, 30), fleet.protected("b", FAR, 90)
    policies.apply(fleet.protected("c", TARGET, 30), Settings(False, 30, TARGET), fleet_by(fleet))
    off = Instance.objects.get(name="c")
    shown = words(desk.get(DIALOG, {"pick": [near.pk, far.pk, off.pk]}, **HTMX))
    assert shown.count("Keep each one") == 3
    kept = said([near, far, off], enabled="", destination="", retention_days="365", agreed=None)
    assert desk.post(DIALOG, kept, **HTMX).status_code == 204
    assert [(enabled(one).destination_id, enabled(one).retention_days) for one in (near, far)] == [
        (TARGET, 365),
        (FAR, 365),
    ]
    assert enabled(off) is None
    moved = said([near, far], destination=FAR, retention_days="")
    Instance.objects.filter(pk=far.pk).update(name="unchanged")
    policies.apply(far, Settings(True, 30, FAR), fleet_by(fleet))
    assert desk.post(DIALOG, moved | {"versions": SettingsForm.versions_now([near, far])}, **HTMX).status_code == 204
    assert [enabled(one).retention_days for one in (near, far)] == [365, 30]


def test_what_is_the_same_for_all_cannot_be_left_empty(desk: Client, fleet: Fleet) -> None:
    both = [fleet.protected("a", TARGET, 30), fleet.protected("b", TARGET, 30)]
    answer = desk.post(DIALOG, said(both, destination="", retention_days="", agreed=None), **HTMX)
    assert 'id="id_destination_error"' in words(answer)
    assert 'id="id_retention_days_error"' in words(answer)


def test_the_border_is_told_for_every_source(desk: Client, fleet: Fleet) -> None:
    fleet.stores["eu-central-1"] = fleet.store("eu-central-1")
    here, there = fleet.instance("here"), fleet.instance("there", region_id=FAR)
    local = fleet.instance("local", region_id="eu-central-1")
    shown = words(desk.post(PREVIEW, said([local, here, there], destination="eu-central-1"), **HTMX))
    assert (
        "Crosses a border: China (Hangzhou) → Germany (Frankfurt), Singapore → Germany (Frankfurt) (2 of 3 instances)."
        in shown
    )
    assert "local:" not in shown
    mixed = words(desk.post(PREVIEW, said([here, fleet.instance("far", region_id=FAR)], destination=TARGET), **HTMX))
    assert mixed.index("Crosses a border: Singapore") < mixed.index("Crosses no border: China (Hangzhou)")


def test_everything_that_is_wrong_is_told_in_one_round(desk: Client, fleet: Fleet) -> None:
    both = [fleet.instance("catalog"), fleet.instance("pricing")]
    answer = words(desk.post(DIALOG, said(both, destination="", retention_days="5"), **HTMX))
    assert 'href="#id_destination"' in answer
    assert 'href="#id_retention_days"' in answer


def test_one_reason_for_all_leads_back_to_its_field(desk: Client, fleet: Fleet) -> None:
    both = [fleet.instance("a", family="shared"), fleet.instance("b", family="shared")]
    answer = words(desk.post(DIALOG, said(both), **HTMX))
    assert "refused" not in answer
    assert "Shared instance types are not supported" in answer
    assert 'name="retention_days" value="7"' in answer


def test_the_refused_are_shown_the_form_again_filled_in(desk: Client, fleet: Fleet) -> None:
    bad = fleet.instance("bad", family="shared")
    answer = words(desk.post("/backups/settings/again/", said(bad, retention_days="90"), **HTMX))
    assert 'name="retention_days" value="90"' in answer
    assert f'<option value="{TARGET}" selected>' in answer
    assert 'name="agreed"' in answer
    assert 'name="agreed" checked' not in answer
    assert 'role="alert"' not in answer


def test_a_store_that_is_down_keeps_nobody_from_changing_the_retention(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders", days=30)
    fleet.stores[TARGET].__class__.objects.filter(region=TARGET).update(state="unreachable")
    shown = words(desk.get(DIALOG, {"pick": instance.pk}, **HTMX))
    assert f'<option value="{TARGET}" selected>' in shown
    assert desk.post(DIALOG, said(instance, retention_days="60", agreed=None), **HTMX).status_code == 204


def test_what_was_saved_says_what_changed(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders", days=30, copies=10)
    answer = desk.post(DIALOG, said(instance, retention_days="7", agreed=None), **HTMX)
    told = json.loads(answer.headers["HX-Trigger"])["toast"]["text"]
    assert "Retention 30 → 7 days." in told
    assert "3 backup sets expire; undo until" in told


def test_all_that_match_sends_the_filter_and_runs_it_again(desk: Client, fleet: Fleet) -> None:
    for n in range(40):
        fleet.instance(f"web-{n:02}")
    other = fleet.instance("ledger")
    asked = {"matching": "q=web", "list": "pending"}
    shown = words(desk.get(DIALOG, asked, **HTMX))
    assert "40 instances" in shown
    versions = shown.split('name="versions" value="')[1].split('"')[0]
    assert desk.post(DIALOG, said([], versions=versions), **HTMX).status_code == 204
    assert CopyPolicy.objects.enabled().count() == 40
    assert enabled(other) is None


def test_a_disabled_instance_leaves_when_its_last_file_is_gone(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders", days=30, copies=1)
    policies.apply(instance, Settings(False, 30, TARGET), fleet_by(fleet))
    assert "orders" in words(desk.get("/backups/instances/"))
    Copy.objects.update(state="deleted", deleted_at=fleet.now, expired_at=fleet.now - DAY)
    assert "orders" not in words(desk.get("/backups/instances/"))


def _ids(answer: Any) -> str:
    return words(answer).replace(" required", "").replace(" autofocus", "")


def fleet_by(fleet: Fleet) -> By:
    return By(fleet.user)


# ---- logs


def logs_of(instance: Instance) -> bool:
    return enabled(instance).logs_enabled


def test_logs_are_enabled_with_the_data_and_later_and_disabled_again(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    shown = words(desk.get(DIALOG, {"pick": instance.pk}, **HTMX))
    assert 'name="logs_enabled" value="disabled"' in shown.replace(' id="id_logs_enabled_1"', "")
    assert desk.post(DIALOG, said(instance, logs_enabled="enable"), **HTMX).status_code == 204
    assert logs_of(instance)
    off = desk.post(DIALOG, said(instance, agreed=None), **HTMX)
    assert "Log backup is off." in json.loads(off.headers["HX-Trigger"])["toast"]["text"]
    assert not logs_of(instance)
    again = desk.post(DIALOG, said(instance, logs_enabled="enable", agreed=None), **HTMX)
    assert "Log backup is on." in json.loads(again.headers["HX-Trigger"])["toast"]["text"]
    assert logs_of(instance)


def test_logs_without_data_are_refused_beside_their_field(desk: Client, fleet: Fleet) -> None:
    """R-8.1, R-12.4; where logs are on, disabling the data turns them off with it, and says so before."""
    off = fleet.instance("orders")
    asked = said(off, enabled="disabled", destination="", logs_enabled="enable", agreed=None)
    answer = words(desk.post(DIALOG, asked, **HTMX))
    assert 'href="#id_logs_enabled' in answer
    assert "Log backup can be on only while the status is Enable." in answer
    on = fleet.protected("ledger", days=30)
    policies.apply(on, Settings(True, 30, TARGET, logs_enabled=True), fleet_by(fleet))
    asked = said(on, enabled="disabled", destination=TARGET, retention_days="30", logs_enabled="enable", agreed=None)
    assert "ledger: log backup is turned off too." in words(desk.post(PREVIEW, asked, **HTMX))
    assert desk.post(DIALOG, asked, **HTMX).status_code == 204
    assert not CopyPolicy.objects.get(instance=on).logs_enabled


def test_an_engine_that_gives_no_logs_says_so_beside_the_field(desk: Client, fleet: Fleet) -> None:
    mute = fleet.instance("mute", engine="mariadb")
    shown = words(desk.get(DIALOG, {"pick": mute.pk}, **HTMX))
    assert "Farshore cannot find log backups of MariaDB yet." in shown
    assert (
        'value="enable" id="id_logs_enabled_0" disabled' in shown or "disabled" in shown.split("id_logs_enabled_0")[1]
    )
    answer = words(desk.post(DIALOG, said(mute, logs_enabled="enable"), **HTMX))
    assert 'href="#id_logs_enabled' in answer
    assert enabled(mute) is None
    assert desk.post(DIALOG, said(mute, logs_enabled=None), **HTMX).status_code == 204, "a greyed choice sends nothing"


def test_of_many_only_those_that_give_logs_get_them_and_the_others_are_told(desk: Client, fleet: Fleet) -> None:
    good, mute = fleet.instance("good"), fleet.instance("mute", engine="mariadb")
    shown = words(desk.get(DIALOG, {"pick": [good.pk, mute.pk]}, **HTMX))
    assert "cannot find log backups" not in shown
    answer = words(desk.post(DIALOG, said([good, mute], logs_enabled="enable"), **HTMX))
    assert "1 of 2 saved, 1 refused" in answer
    assert "Farshore cannot find log backups of MariaDB yet." in answer
    assert logs_of(good) and enabled(mute) is None


def test_each_one_s_own_log_status_can_be_kept(desk: Client, fleet: Fleet) -> None:
    with_logs, without = fleet.protected("a", TARGET, 30), fleet.protected("b", TARGET, 30)
    policies.apply(with_logs, Settings(True, 30, TARGET, logs_enabled=True), fleet_by(fleet))
    both = [with_logs, without]
    shown = words(desk.get(DIALOG, {"pick": [one.pk for one in both]}, **HTMX))
    assert shown.count("Keep each one") == 1
    kept = said(both, retention_days="60", logs_enabled="", agreed=None)
    assert desk.post(DIALOG, kept, **HTMX).status_code == 204
    assert [(logs_of(one), enabled(one).retention_days) for one in both] == [(True, 60), (False, 60)]
    assert (
        desk.post(DIALOG, said(both, retention_days="60", logs_enabled="enable", agreed=None), **HTMX).status_code
        == 204
    )
    assert all(logs_of(one) for one in both)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"secondary_host": "10.0.0.9"}, "one is taken on the secondary; the primary is left alone."),
        ({}, "one is taken on the primary, for no secondary of it was entered here."),
        ({"edition": "basic", "secondary_host": "10.0.0.9"}, "one is taken on the primary, for it has no secondary."),
    ],
    ids=["secondary", "none named", "basic"],
)
def test_where_a_backup_for_the_logs_is_taken_is_said_before_ok(
    desk: Client, fleet: Fleet, facts: dict[str, str], sentence: str
) -> None:
    """R-9.1, R-9.2."""
    taken = fleet.instance("telemetry", engine="postgresql", arrival="taken", host="10.0.0.8", **facts)
    assert sentence in words(desk.post(PREVIEW, said(taken, logs_enabled="enable"), **HTMX))
    assert sentence not in words(desk.post(PREVIEW, said(taken), **HTMX))


def test_logs_that_are_there_are_counted_and_priced_before_ok(desk: Client, fleet: Fleet) -> None:
    """R-8.2, R-4.6."""
    instance = fleet.protected("orders", days=30, copies=0)
    where = {"first_position": 100, "last_position": 100}
    fleet.backup(instance, age=timedelta(hours=3), size=100 * GB, **where)
    for n in range(3):
        place = {"first_position": 100 + n * 10, "last_position": 110 + n * 10}
        fleet.backup(instance, age=timedelta(hours=2) - n * timedelta(minutes=5), kind="log", size=10 * GB, **place)
    said_now = said(instance, retention_days="30", agreed=None)
    shown = words(desk.post(PREVIEW, said_now | {"logs_enabled": "enable"}, **HTMX))
    assert "orders: 3 log files of the last 24 hours are copied first, oldest first." in shown
    assert "First copy, traffic" in shown and "$2.25" in shown
    without = words(desk.post(PREVIEW, said_now, **HTMX))
    assert "log files" not in without
    assert _kept(shown) > _kept(without), "what lies there once full counts the logs too"


def test_a_server_whose_logs_nobody_has_seen_says_that_they_are_not_counted(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders", days=30)
    asked = said(instance, retention_days="30", logs_enabled="enable", agreed=None)
    assert "Not counted: logs, of which none are known yet." in words(desk.post(PREVIEW, asked, **HTMX))


def _kept(shown: str) -> float:
    told = shown.split("Kept</dt><dd>")[1].split("</dd>")[0]
    number, unit = re.sub("<[^>]*>", "", told).replace("\u00a0", " ").split()
    return float(number) * {"GB": 1, "TB": 1024}[unit]


# ---- before OK


def test_the_change_against_today_is_shown_with_its_sign(desk: Client, fleet: Fleet) -> None:
    """R-4.6: a month of the new settings, once full, less a month of those of today."""
    new, running = fleet.instance("new"), fleet.protected("orders", days=30)
    fleet.backup(new)
    assert "Against today</dt><dd> <bdi>+$" in shown_for(desk, new)
    assert "Against today</dt><dd> no change" in shown_for(desk, running, retention_days="30")
    assert "Against today</dt><dd> <bdi>+$" in shown_for(desk, running, retention_days="31")
    assert "Against today</dt><dd> <bdi>−$" in shown_for(desk, running, retention_days="7")
    assert "Against today</dt><dd> <bdi>−$" in shown_for(desk, running, retention_days="30", enabled="disabled")
    assert 'Against today</dt><dd> <span class="muted">not known' in shown_for(desk, fleet.instance("unseen"))


def shown_for(desk: Client, instance: Instance, **changes: str) -> str:
    text = words(desk.post(PREVIEW, said(instance, **changes), **HTMX))
    return text.replace("<dd>", "<dd> ").replace("<dd>  ", "<dd> ")


def test_disabling_offers_7_days_and_one_ok_does_both(desk: Client, fleet: Fleet) -> None:
    """R-15.3, R-15.5: what that expires is said before OK."""
    instance = fleet.protected("orders", days=30, copies=9)
    wanted = said(instance, enabled="disabled", retention_days="30", agreed=None)
    assert "Disable with 7 days" in words(desk.post(PREVIEW, wanted, **HTMX))
    again = desk.post(f"{DIALOG}seven/", wanted, **HTMX)
    form = again.context["form"]
    assert (form["retention_days"].value(), form["enabled"].value()) == ("7", "disabled")
    assert "2 of 9 backup sets" in words(again)
    assert "Disable with 7 days" not in words(again)
    assert policies.latest_policy(instance).retention_days == 30
    assert desk.post(DIALOG, wanted | {"retention_days": "7"}, **HTMX).status_code == 204
    assert enabled(instance) is None
    assert policies.latest_policy(instance).retention_days == 7


def test_7_days_are_not_offered_where_they_change_nothing(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders", days=7)
    shown = words(desk.post(PREVIEW, said(instance, enabled="disabled", retention_days="7"), **HTMX))
    assert "Disable with 7 days" not in shown
