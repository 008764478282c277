"""PostgreSQL: every WAL segment from the set's start, on one timeline and its history (R-8.3)."""

from __future__ import annotations

from backups.engines.chains import ChainRules, ChainSet, is_incremental_base, plain_span, plain_times


def _start(data: ChainSet) -> int | None:
    """Replay begins where the backup began, not where it ended."""
    return data.first if data.last is not None else None


CHAIN_RULES = ChainRules(logs_from=_start, span=plain_span, is_base=is_incremental_base, times=plain_times)
