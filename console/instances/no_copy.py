"""Why no copy of an instance is listed, and what to do about it: as true as the state the page shows above."""

from __future__ import annotations

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from backups.models import Instance
from console.widgets import cells


def why_no_copy(instance: Instance, state: str, *, may_set: bool) -> SafeString | str:
    """`state`: the instance's protection; `may_set`: whether this person may change its settings."""
    sentence = _sentences().get(state)
    if sentence is None:
        return gettext("No copy yet. The next default backup that finishes is copied by itself.")
    if state == "released" or not may_set:
        return sentence
    return format_html("{} {}", sentence, _way_on(instance, state))


def _sentences() -> dict[str, str]:
    return {
        "not_set_up": gettext("No copy: this instance is not set up, so nothing of it is copied."),
        "disabled": gettext("No copy is left, and none is made: copying of this instance is disabled."),
        "released": gettext("No copy is left of this released instance, and none is made any more."),
        "suspended": gettext("No copy yet, and none is made while the instance is suspended; why is said above."),
        "waiting_for_full": gettext("No copy yet. The next full backup that finishes is copied by itself."),
    }


def _way_on(instance: Instance, state: str) -> SafeString | str:
    if state == "not_set_up":
        where = reverse("pending_instances:list")
        return format_html('<a href="{}">{}</a> {}', where, gettext("Pending Instances"), cells.settings(instance))
    return cells.settings(instance) if state == "disabled" else ""
