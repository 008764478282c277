"""How a landing server stands, as its last look tells."""

from __future__ import annotations

from datetime import datetime

from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backups.models import LandingServer
from console.widgets import words
from console.widgets.badges import BAD, OFF, OK, Look, badge

READY = Look(OK, "check", _("Ready"))
DOWN = Look(BAD, "unplug", _("Cannot be used"))
RETIRED = Look(OFF, "archive", _("Retired"))


def look_of(row: LandingServer, at: datetime) -> SafeString:
    if row.retired_at:
        return badge(RETIRED)
    if row.error:
        return badge(DOWN, f"{row.error} {row.remedy}".strip())
    return badge(READY, gettext("looked at %(when)s") % {"when": words.ago(row.looked_at, at)})
