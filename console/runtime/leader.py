"""A beat that ticks only while it leads: it holds a PostgreSQL advisory lock on a connection of its own."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import psycopg
from celery.beat import Scheduler
from django.conf import settings

from regions import vanishing

LOCK = 7_300_011_120_377
LOOK_AGAIN_SECONDS = 1.0
LONG_AGO = timedelta(days=1)
log = logging.getLogger(__name__)


def connect() -> psycopg.Connection[tuple[Any, ...]]:
    """A connection that notices within seconds that the other side is gone, and whose other side notices it too."""
    place = settings.DATABASES["default"]
    connection = psycopg.connect(
        dbname=place["NAME"],
        host=place["HOST"] or None,
        port=place["PORT"] or None,
        user=place["USER"] or None,
        password=place["PASSWORD"] or None,
        autocommit=True,
        **{**place["OPTIONS"], "connect_timeout": "3", "application_name": "farshore beat"},
        keepalives_idle=5,
        tcp_user_timeout=5000,
    )
    connection.execute(vanishing.NOTICE)
    return connection


class LeaderScheduler(Scheduler):
    """In memory: nothing is owed for the time in which nobody led, since every sweep looks at the whole."""

    _connection: psycopg.Connection[tuple[Any, ...]] | None = None
    _leads = False

    def tick(self, *args: Any, **kwargs: Any) -> float:
        if not self.leads():
            return LOOK_AGAIN_SECONDS
        return min(super().tick(*args, **kwargs), LOOK_AGAIN_SECONDS)

    def leads(self) -> bool:
        """Take the lock or show that we still hold it: a lost connection has lost the lock."""
        try:
            now_leads = self._ask()
        except psycopg.Error as gone:
            log.warning("the database does not answer: %s", gone)
            self._connection, now_leads = None, False
        if now_leads != self._leads:
            log.info("this beat leads now" if now_leads else "this beat leads no more")
            self._ring_everything_next()
        self._leads = now_leads
        return now_leads

    def _ring_everything_next(self) -> None:
        """A new leader knows not when the last one rang; hourly sweeps must not wait an hour after every restart."""
        for entry in self.schedule.values():
            entry.last_run_at = self.app.now() - LONG_AGO
        self._heap = None

    def _ask(self) -> bool:
        if self._connection is None or self._connection.closed:
            self._connection, self._leads = connect(), False
        if self._leads:
            self._connection.execute("SELECT 1")
            return True
        row = self._connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone()
        return bool(row and row[0])
