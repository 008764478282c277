"""What is wrong, as rows that stay open until the cause ends; mailed once when they open and once when they close.

One that has closed before anybody was told of it (an outage of the relay, a cause that was short) is told in one mail
that says both.
"""

from __future__ import annotations

import hashlib
import logging
from smtplib import SMTPException

from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.db import IntegrityError, connection, transaction
from django.db.models import Q

from backups.models import Alert, Instance, ResourceGroup
from regions import clock
from regions.models import Installation

log = logging.getLogger(__name__)
LONGEST_SUBJECT = 120
MAILING = 730_006
OPEN, CLOSED, BOTH = "Open", "Closed", "Opened and closed"


def fitting(subject: str) -> str:
    """Return a subject that ends in somebody's name as the column holds it: a database's may have 128 characters."""
    if len(subject) <= LONGEST_SUBJECT:
        return subject
    told_apart = hashlib.sha256(subject.encode()).hexdigest()[:16]
    return f"{subject[: LONGEST_SUBJECT - 17]}-{told_apart}"


def open_alert(
    code: str,
    subject: str,
    sentence: str,
    *,
    remedy: str = "",
    instance: Instance | None = None,
    group: ResourceGroup | None = None,
    user: User | None = None,
) -> Alert:
    """Open the alert, or bring the words of the open one up to date; safe to repeat.

    `group`: where no instance is; `user`: where it is about something of a person's own.
    """
    words = {"sentence": sentence, "remedy": remedy}
    found = Alert.objects.filter(code=code, subject=subject, closed_at=None).first()
    if found is None:
        try:
            with transaction.atomic():
                return Alert.objects.create(
                    code=code,
                    subject=subject,
                    opened_at=clock.now(),
                    instance=instance,
                    group_id=instance.group_id if instance else group and group.pk,
                    user=user,
                    **words,
                )
        except IntegrityError:  # somebody opened it between the look and the insert
            found = Alert.objects.get(code=code, subject=subject, closed_at=None)
    if (found.sentence, found.remedy) != (sentence, remedy):
        Alert.objects.filter(pk=found.pk).update(**words)
    return found


def close_alert(code: str, subject: str) -> bool:
    """Close the alert if it is open; its cause has ended."""
    return bool(Alert.objects.filter(code=code, subject=subject, closed_at=None).update(closed_at=clock.now()))


def close_alerts_of(subject: str) -> int:
    return Alert.objects.filter(subject=subject, closed_at=None).update(closed_at=clock.now())


def keep(code: str, subjects: dict[str, dict], scope: str = "") -> None:
    """Make the open alerts of a code exactly `subjects` (subject → open_alert's words); closes the rest.

    `scope` narrows what may be closed to subjects that begin with it.
    """
    for subject, words in subjects.items():
        open_alert(code, subject, **words)
    stale = Alert.objects.filter(code=code, closed_at=None, subject__startswith=scope).exclude(subject__in=subjects)
    stale.update(closed_at=clock.now())


def mail_due(limit: int = 100) -> int:
    """Mail what has opened or closed since the last time; what cannot be sent stays due. Returns how many went out.

    One at a time mails, so that nothing goes out twice. Who dies between sending a mail and writing that down has it
    sent again, better than never, and under the same Message-ID: a mailbox that knows it already may drop it.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [MAILING])
        if not cursor.fetchone()[0]:
            return 0
    try:
        return _mail_all(limit)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [MAILING])


def _mail_all(limit: int) -> int:
    unsent = Q(mailed_open_at=None) | Q(closed_at__isnull=False, mailed_close_at=None)
    due = list(Alert.objects.filter(unsent).order_by("pk")[:limit])
    recipients = list(settings.ALERT_RECIPIENTS)
    sent = 0
    for alert in due:
        if recipients and not _mail(alert, recipients):
            break
        now = clock.now()
        stamp = {"mailed_open_at": alert.mailed_open_at or now}
        if alert.closed_at:
            stamp["mailed_close_at"] = now
        Alert.objects.filter(pk=alert.pk).update(**stamp)
        sent += 1
    return sent


def _mail(alert: Alert, recipients: list[str]) -> bool:
    word = _news_of(alert)
    body = f"{alert.sentence}\n\n{alert.remedy}\n\nOpened {alert.opened_at:%Y-%m-%d %H:%M} UTC."
    if alert.closed_at:
        body += f"\nClosed {alert.closed_at:%Y-%m-%d %H:%M} UTC."
    subject = " ".join(f"[Farshore] {word}: {alert.sentence}".split())[:180]
    headers = {"Message-ID": _message_id(alert, word)}
    if word == CLOSED:
        headers["In-Reply-To"] = headers["References"] = _message_id(alert, OPEN)
    try:
        EmailMessage(subject, body, settings.DEFAULT_FROM_EMAIL, recipients, headers=headers).send()
    except (SMTPException, OSError) as error:
        log.warning("alert mail could not be sent", extra={"alert": alert.pk, "reason": str(error)})
        return False
    return True


def _news_of(alert: Alert) -> str:
    if alert.closed_at is None:
        return OPEN
    return CLOSED if alert.mailed_open_at else BOTH


def _message_id(alert: Alert, word: str) -> str:
    """Name the mail that tells this of this alert, the same whenever it is sent."""
    told = f"alert-{alert.pk}-{alert.opened_at:%Y%m%d%H%M%S}-{word.lower().replace(' ', '-')}"
    return f"<{told}@{Installation.current().uuid}.farshore>"
