"""The moments of a weekly timetable. Pure."""

from __future__ import annotations

from datetime import datetime, time, timedelta

DAY = timedelta(days=1)
USUAL_TIME = time(2, 0)  # where no hour was entered


def last_slot(days: list[int], hour: time, at: datetime) -> datetime | None:
    """Return the newest moment of the timetable that is not after `at`; None when no day is chosen."""
    for back in range(8):
        slot = datetime.combine((at - back * DAY).date(), hour, tzinfo=at.tzinfo)
        if slot <= at and slot.weekday() in days:
            return slot
    return None


def next_slot(days: list[int], hour: time, after: datetime) -> datetime | None:
    """Return the first moment of the timetable after `after`; None when no day is chosen."""
    for ahead in range(8):
        slot = datetime.combine((after + ahead * DAY).date(), hour, tzinfo=after.tzinfo)
        if slot > after and slot.weekday() in days:
            return slot
    return None


def next_step(minutes: int, after: datetime) -> datetime:
    """Return the first moment after `after` that is a whole multiple of so many minutes of its day."""
    midnight = after.replace(hour=0, minute=0, second=0, microsecond=0)
    step = timedelta(minutes=minutes)
    return midnight + step * ((after - midnight) // step + 1)
