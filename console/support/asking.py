"""Acting through verbs on rows: what they refuse is told in their own words, above the list."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.auth import get_permission_codename
from django.http import HttpRequest

from regions.refusals import Refusal


def ask_for_each(request: HttpRequest, rows: Iterable[Any], verb: Callable[[Any], object], done: str) -> None:
    """Do `verb` to each row and say what came of it; one refusal does not stop the others."""
    count = 0
    for row in rows:
        try:
            verb(row)
            count += 1
        except Refusal as refused:
            messages.error(request, f"{row}: {refused}")
    if count:
        messages.success(request, f"{done}: {count}.")


class WholeDays(forms.IntegerField):
    """Digits and nothing else: Python would also read 1_000 and ７."""

    def to_python(self, value: Any) -> int | None:
        if value not in self.empty_values and not (str(value).isascii() and str(value).isdigit()):
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid")
        return super().to_python(value)


class Operated(ModelAdmin):
    """Rows that are facts, and things that may be asked of them by whoever has the right to change them."""

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.{get_permission_codename('change', self.opts)}")
