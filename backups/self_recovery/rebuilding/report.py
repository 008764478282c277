"""What a rebuilding has added, and what it could not: a sentence for each object."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError

from backups.events import speakable
from regions.models import Store
from regions.refusals import Refusal
from regions.storage import StorageError

# What an object that is not what it should be may end in; it costs the catalogue itself alone.
WRONG = (
    Refusal,
    StorageError,
    ValidationError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    DataError,
    IntegrityError,
)


@dataclass
class Report:
    store: Store
    added: dict[str, int] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    def add(self, noun: str) -> None:
        self.added[noun] = self.added.get(noun, 0) + 1

    def take_in(self, other: Report) -> None:
        """Add what another one has counted and told: a batch that was written."""
        for noun, count in other.added.items():
            self.added[noun] = self.added.get(noun, 0) + count
        self.troubles.extend(other.troubles)

    def tell(self, what: str, why: Exception | str) -> None:
        self.troubles.append(speakable(f"{what}: {_words(why)}"))


def _words(why: Exception | str) -> str:
    if isinstance(why, KeyError):
        return f"It does not say {why}."
    if isinstance(why, StorageError):
        return why.sentence
    if isinstance(why, Refusal | str):
        return str(why)
    return f"It holds something impossible ({type(why).__name__}: {why}).".splitlines()[0]
