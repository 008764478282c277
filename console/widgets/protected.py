"""Protection of instances as the lists show it: state, icon, and what it means in one line."""

from __future__ import annotations

from datetime import datetime

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from backups.models import Instance
from backups.oversight.protection import Protection, of_many
from console.widgets import words
from console.widgets.badges import badge
from console.widgets.states import PROTECTION, UNKNOWN
from regions import clock


def tell(instances: list[Instance]) -> list[Instance]:
    """Give each instance `protection` and `seen_at`, in a fixed number of queries."""
    at = clock.now()
    found = of_many(instances, at)
    for instance in instances:
        instance.protection, instance.seen_at = found[instance.pk], at
    return instances


def protection_badge(found: Protection, at: datetime) -> SafeString:
    look = PROTECTION.get(found.state, UNKNOWN)
    if found.state != "copying":
        return badge(look, consequence(found, at))
    label = gettext("Copy progress of %(name)s") % {"name": found.instance.name}
    bar = format_html('<progress max="100" value="{}" aria-label="{}"></progress>', found.percent, label)
    return format_html("{}{}", badge(look, word=f"{look.word} {found.percent} %"), bar)


def consequence(found: Protection, at: datetime) -> str | SafeString:
    """Return what the state means, in one line."""
    if found.state == "in_step":
        return _age_of_newest(found, at)
    if found.state == "behind" and found.behind_seconds:
        return gettext("a backup waits since %(length)s") % {"length": words.lasting(found.behind_seconds)}
    if found.state == "partial":
        return gettext("no recent copy of %(names)s") % {"names": words.listed(found.unprotected[:3])}
    if found.state == "released" and found.last_expiry is None:
        return format_html(
            gettext("Released %(day)s · no copy of it is left").replace("%(day)s", "{}"), _released(found)
        )
    if found.state == "disabled" and found.last_expiry is None:
        return gettext("no new copies · no copy of it is left")
    if found.state == "released":
        return _until(gettext("Released %(day)s · kept until %(until)s"), found)
    if found.state == "disabled":
        return _until(gettext("no new copies · last file expires %(until)s"), found)
    return {
        "behind": gettext("the newest copy is older than the timetable allows"),
        "failed": gettext("a copy failed; it is tried again by itself"),
        "log_gap": gettext("logs are missing; no moment behind the gap can be restored until it is healed"),
        "waiting_for_full": gettext("nothing can be restored until a full backup arrives"),
        "suspended": gettext("no new copies; existing ones keep their dates"),
    }.get(found.state, "")


def _age_of_newest(found: Protection, at: datetime) -> str:
    if found.newest_copy_at is None:
        return ""
    return gettext("newest copied backup is %(length)s old") % {"length": words.lasting(at - found.newest_copy_at)}


def _until(sentence: str, found: Protection) -> SafeString:
    return format_html(
        sentence.replace("%(day)s", "{0}").replace("%(until)s", "{1}"),
        _released(found),
        words.day(found.last_expiry),
    )


def _released(found: Protection) -> SafeString | str:
    return words.day(found.instance.released_at)
