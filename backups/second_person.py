"""The second person: never who asked; where there is nobody else, the same one again, a day later (design.md §8)."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.auth import get_user_model

from backups.events import By
from regions import clock
from regions.refusals import Refusal

DAY = timedelta(days=1)


def is_alone(by: By) -> bool:
    """Whether there is no other user who could agree."""
    others = get_user_model().objects.filter(is_active=True)
    return not others.exclude(pk=by.user.pk).exists()


def require_a_day(asked_at: datetime) -> None:
    """Raise Refusal while somebody who is alone has not slept over it."""
    if asked_at > clock.now() - DAY:
        raise Refusal(
            "ConfirmLater",
            "There is nobody else to agree; you can confirm it a day after you asked.",
            f"Come back after {asked_at + DAY:%Y-%m-%d %H:%M} UTC.",
        )


def require_another(asked_by: object, asked_at: datetime, by: By) -> None:
    """Raise Refusal unless this person may be the second one for what was asked for."""
    if by.user is None:
        raise Refusal("SecondPersonNeeded", "Only a person can agree to this.", "Say who agrees.")
    if by.user != asked_by:
        return
    if not is_alone(by):
        raise Refusal("SecondPersonNeeded", "You asked for this yourself.", "Ask somebody else to agree.")
    require_a_day(asked_at)
