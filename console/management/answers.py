"""What a command says when nobody is there to answer it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.core.management.base import OutputWrapper
from django.db import OperationalError

NOBODY_ANSWERS = 3
Answer = TypeVar("Answer")


def asked(words: OutputWrapper, question: Callable[[], Answer]) -> Answer:
    """Return the answer; without a database say so in one sentence and exit 3, unlike any other state."""
    try:
        return question()
    except OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        words.write(f"The database does not answer: is `manage.py up` running here? {reason}")
        raise SystemExit(NOBODY_ANSWERS) from None
