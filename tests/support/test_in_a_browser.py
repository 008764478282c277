"""The admin works under the console's strict headers: no inline script, no inline style, nothing from elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tests.billing.facts import backup_of, copy_of, instance_in, policy_of

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def sign_in(page: Any, live_server: Any, client: Client, settings: Any) -> None:
    client.force_login(User.objects.create_superuser("root", password="a long password"))
    name = settings.SESSION_COOKIE_NAME
    page.context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": live_server.url}])


def test_lists_forms_and_the_autocomplete_work_without_a_word_on_the_console(
    page: Any, live_server: Any, client: Client, settings: Any, console: list[str]
) -> None:
    instance = instance_in()
    copy = copy_of(backup_of(instance), policy_of(instance))
    sign_in(page, live_server, client, settings)
    for name, rows in [
        ("index", []),
        ("backups_event_changelist", []),
        ("backups_copy_change", [copy.pk]),
        ("backups_instance_change", [instance.pk]),
        ("regions_store_add", []),
    ]:
        page.goto(live_server.url + reverse(f"admin:{name}", args=rows))
        assert "Farshore support" in page.title()
    page.goto(live_server.url + reverse("admin:backups_copypolicy_add"))
    page.locator(".field-instance .select2-selection").click()
    page.locator(".select2-search__field").fill("ord")
    page.locator(".select2-results__option", has_text=instance.code).click()
    page.get_by_label("Cross-region Retention Period").fill("30")
    page.get_by_role("button", name="Save", exact=True).click()
    assert "Choose the backup region." in page.locator(".field-destination .errorlist").inner_text()
    assert not page.get_by_label("Cross-border compliance agreement").is_checked()
