"""Alerts are mailed once each way, whoever dies and however many mail at once (R-19)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections

from backups import alerts
from tests.backups.world import World
from tests.faults import relay as relays


@pytest.fixture
def relay(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[relays.Relay]:
    """A relay that this process and its children send to."""
    with relays.running() as found:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", found.port
        settings.ALERT_RECIPIENTS = ["dba@example.com"]
        monkeypatch.setenv("EMAIL_HOST", "127.0.0.1")
        monkeypatch.setenv("EMAIL_PORT", str(found.port))
        monkeypatch.setenv("FARSHORE_ALERT_RECIPIENTS", "dba@example.com")
        yield found


def told(relay: relays.Relay) -> list[tuple[str, str]]:
    return [(mail["Subject"].split(":")[0].removeprefix("[Farshore] "), mail["Message-ID"]) for mail in relay.mails]


def mail() -> int:
    """Mail as soon as the database has seen that the dead one is gone."""
    until = time.monotonic() + 20
    while not (sent := alerts.mail_due()) and time.monotonic() < until:
        pass
    return sent


@pytest.mark.long
def test_who_dies_between_mailing_and_writing_it_down_has_the_same_mail_sent_again(
    world: World, relay: relays.Relay, killed: Callable[..., None]
) -> None:
    alerts.open_alert("story", "nobody:1", "Something is wrong.")
    killed("mailed, not written down", "mail")
    assert mail() == 1 and alerts.mail_due() == 0
    [(_, first), (_, second)] = told(relay)
    assert first == second


@pytest.mark.long
def test_what_closes_after_such_a_death_is_no_mail_that_was_sent_before(
    world: World, relay: relays.Relay, killed: Callable[..., None]
) -> None:
    alerts.open_alert("story", "nobody:1", "Something is wrong.")
    killed("mailed, not written down", "mail")
    alerts.close_alert("story", "nobody:1")
    assert mail() == 1 and alerts.mail_due() == 0
    [(one, first), (other, second)] = told(relay)
    assert (one, other) == ("Open", "Opened and closed") and first != second


def test_while_one_mails_no_other_does(world: World, relay: relays.Relay) -> None:
    alerts.open_alert("story", "nobody:1", "Something is wrong.")
    other = connections["default"].copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [alerts.MAILING])
    assert alerts.mail_due() == 0 and relay.mails == []
    other.close()  # as a worker that was killed leaves it
    assert mail() == 1 and len(relay.mails) == 1
