"""What is said once settings are saved: whether copies are made now, what changed by it, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from django.utils.translation import gettext, ngettext

from backups.keeping import retention
from backups.policies import Settings
from console.widgets.effects import Change
from console.widgets.listing import MOST_MATCHING


def saved_sentence(changes: Sequence[Change], before: Mapping[int, Settings], expired: int, at: datetime) -> str:
    """Return what the toast says once the settings are saved: whether copies are made, and what changed by it.

    `before`: the settings each instance had; `expired`: how many sets a shorter retention has just expired.
    """
    said = [_status_sentence(changes), _retention_sentence(changes, before), _logs_sentence(changes, before)]
    if expired:
        sentence = ngettext(
            "%(n)s backup set expires; undo until %(until)s UTC.",
            "%(n)s backup sets expire; undo until %(until)s UTC.",
            expired,
        )
        said.append(sentence % {"n": expired, "until": f"{retention.erased_at(at):%Y-%m-%d %H:%M}"})
    return " ".join(filter(None, said))


def left_out_sentence(count: int) -> str:
    """Say how many of the ticked are beyond what one OK takes (R-11.2); "" where none is."""
    if not count:
        return ""
    sentence = ngettext(
        "%(n)s more instance was ticked and is left out: one OK takes %(most)s.",
        "%(n)s more instances were ticked and are left out: one OK takes %(most)s.",
        count,
    )
    return sentence % {"n": count, "most": MOST_MATCHING}


def _status_sentence(changes: Sequence[Change]) -> str:
    states = {wanted.enabled for _, wanted in changes}
    if len(states) != 1:
        return ngettext("Saved for %(n)s instance.", "Saved for %(n)s instances.", len(changes)) % {"n": len(changes)}
    word = gettext("on") if states == {True} else gettext("off")
    if len(changes) == 1:
        named = {"name": changes[0][0].name, "word": word}
        return gettext("Saved: cross-region backup of %(name)s is %(word)s.") % named
    sentence = ngettext(
        "Saved for %(n)s instance: cross-region backup is %(word)s.",
        "Saved for %(n)s instances: cross-region backup is %(word)s.",
        len(changes),
    )
    return sentence % {"n": len(changes), "word": word}


def _logs_sentence(changes: Sequence[Change], before: Mapping[int, Settings]) -> str:
    """Say that log backup is on, or off, now, where that is new and one sentence for all."""
    new = {wanted.logs_wanted for instance, wanted in changes if before[instance.pk].logs_enabled != wanted.logs_wanted}
    if len(new) != 1:
        return ""
    return gettext("Log backup is on.") if new == {True} else gettext("Log backup is off.")


def _retention_sentence(changes: Sequence[Change], before: Mapping[int, Settings]) -> str:
    """Say how the retention of settings that were there already changed, where that is one sentence for all."""
    was = {(before[instance.pk].retention_days, wanted.retention_days) for instance, wanted in changes}
    if len(was) != 1 or not all(before[instance.pk].expected for instance, _ in changes):
        return ""
    old, new = was.pop()
    return "" if old == new else gettext("Retention %(old)s → %(new)s days.") % {"old": old, "new": new}
