"""A claim is a new fence and a lease by the database's clock; without the current fence nothing is written (I15)."""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta

from django.conf import settings


class LeaseLost(Exception):
    """Somebody else holds the row now, or it was cancelled: stop at once, write nothing."""


def next_lease(at: datetime) -> datetime:
    return at + timedelta(seconds=settings.LEASE_SECONDS)


def who(pid: int | None = None) -> str:
    return f"{socket.gethostname()}:{pid or os.getpid()}"
