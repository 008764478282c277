"""A retention period as people enter it (R-12.3)."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from backups.policies import LONGEST_DAYS, SHORTEST_DAYS


class WholeDays(forms.Field):
    """Digits and nothing else: 7.5, 7.0, 1e3 and an empty field are refused alike (R-12.3)."""

    widget = forms.NumberInput
    default_error_messages = {
        "required": _("Enter a whole number of days from 7 to 1825."),
        "invalid": _("Enter a whole number of days from 7 to 1825."),
    }

    def to_python(self, value: Any) -> int | None:
        text = str(value or "").strip()
        if not text:
            return None
        days = int(text) if text.isascii() and text.isdecimal() and len(text) <= 6 else -1
        if not SHORTEST_DAYS <= days <= LONGEST_DAYS:
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid")
        return days

    def widget_attrs(self, widget: forms.Widget) -> dict[str, Any]:
        return {"min": SHORTEST_DAYS, "max": LONGEST_DAYS, "step": 1, "inputmode": "numeric", "list": "usual-days"}
