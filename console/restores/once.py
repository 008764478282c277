"""A form that is sent twice means one restore: its token is taken once."""

from __future__ import annotations

import uuid

from django.core.cache import cache

REMEMBERED_SECONDS = 3600


def new_token() -> str:
    return str(uuid.uuid4())


def is_first(token: str) -> bool:
    """Whether a form with this token is sent for the first time; of two that come at once one is."""
    return not token or cache.add(f"restores:{token}", True, REMEMBERED_SECONDS)
