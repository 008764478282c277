"""Who acts through the console, and from where."""

from __future__ import annotations

from django.http import HttpRequest

from backups.events import By


def acting(request: HttpRequest) -> By:
    return By(request.user, request.META.get("REMOTE_ADDR", ""))
