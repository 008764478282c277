"""A state is an icon, a word and a one-line consequence, never a colour alone."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.html import format_html
from django.utils.safestring import SafeString

from console.widgets.icons import icon

OK, WARN, BAD, INFO, OFF = "ok", "warn", "bad", "info", "off"


@dataclass(frozen=True)
class Look:
    """How a state is shown: its tone, its icon and its word (translated when rendered)."""

    tone: str
    icon: str
    word: str


def badge(look: Look, consequence: str = "", *, word: str = "") -> SafeString:
    spin = "spin" if look.icon == "loader" else ""
    head = format_html('<span class="st {}">{}{}</span>', look.tone, icon(look.icon, spin), word or look.word)
    return format_html("{}<small>{}</small>", head, consequence) if consequence else head
