"""A claim is a new fence and a lease by the database's clock; without the current fence nothing is written (I15)."""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q


class LeaseLost(Exception):
    """Somebody else holds the row now, or it was cancelled: stop at once, write nothing."""


def next_lease(at: datetime) -> datetime:
    return at + timedelta(seconds=settings.LEASE_SECONDS)


def who(pid: int | None = None) -> str:
    return f"{socket.gethostname()}:{pid or os.getpid()}"


def nobodys(at: datetime) -> Q:
    """Return the condition of rows that nobody holds a lease of."""
    return Q(leased_until=None) | Q(leased_until__lt=at)
