"""Icons come from the lucide package; each is drawn once per process: lists show the same few again and again."""

from __future__ import annotations

from functools import cache

from django.utils.safestring import SafeString
from lucide.templatetags.lucide import lucide


@cache
def icon(name: str, extra: str = "") -> SafeString:
    """Return the icon as inline SVG, hidden from screen readers: the word beside it speaks."""
    return lucide(name, size=18, **{"class": f"i {extra}".strip(), "aria-hidden": "true", "focusable": "false"})
