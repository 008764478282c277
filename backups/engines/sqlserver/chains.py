"""Which full backup a differential needs, and which logs continue it (`sqlserver.md` §2, R-8.3)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from backups.engines.chains import ChainRules, ChainSet, Times, plain_span
from backups.engines.facts import Kind

GRAIN = timedelta(seconds=1)  # a header's times are cut to whole seconds


class Identified(Protocol):
    """What the rule looks at: facts as read, and rows that keep them, both have it."""

    @property
    def kind(self) -> str: ...

    @property
    def set_guid(self) -> str: ...

    @property
    def base_guid(self) -> str: ...

    @property
    def is_copy_only(self) -> bool: ...


Full = TypeVar("Full", bound=Identified)


def base_of(differential: Identified, fulls: Iterable[Full]) -> Full | None:
    """Return the full backup this differential needs, None when it is not among `fulls`."""
    return next((full for full in fulls if is_base(full, differential)), None)


def is_base(full: Identified, differential: Identified) -> bool:
    """Say whether the differential was made from this full: by identity, never by time; copy-only fulls are no base."""
    if differential.kind != Kind.DIFFERENTIAL or full.kind != Kind.FULL or full.is_copy_only:
        return False
    return bool(full.set_guid) and full.set_guid == differential.base_guid


def _end(data: ChainSet) -> int | None:
    """Logs continue a full (copy-only too) or differential where its own log ends."""
    return data.last


def _times(kind: str, started_at: datetime | None, finished_at: datetime) -> Times:
    """A log surely holds what was committed before it began; a full is surely whole a second after its end."""
    if kind == Kind.LOG:
        return None, started_at or finished_at
    return started_at, finished_at + GRAIN


CHAIN_RULES = ChainRules(logs_from=_end, span=plain_span, is_base=is_base, times=_times)
