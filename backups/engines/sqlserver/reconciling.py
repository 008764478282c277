"""What msdb remembers against what lies in the store, by identity: what is missing where, who broke a chain. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backups.engines.facts import Breaker, HistorySet, Kind, SetFacts

# What a header and msdb both know, and a set has for ever.
SAME_IN_BOTH = (
    "database",
    "kind",
    "first_position",
    "last_position",
    "checkpoint_position",
    "fork",
    "family_guid",
    "base_guid",
    "media_set_guid",
    "family_count",
    "is_copy_only",
)


@dataclass(frozen=True)
class Contradiction:
    """A set that msdb and its own header tell differently about; `fields` are those they differ in."""

    remembered: HistorySet
    read: SetFacts
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Reconciled:
    """`not_in_store`: msdb names them, and their files were not found whole; `not_in_history`: the other way round
    (another server wrote them, or msdb was cleaned). `agreeing`: both know them and say the same."""

    agreeing: tuple[HistorySet, ...]
    not_in_store: tuple[HistorySet, ...]
    not_in_history: tuple[SetFacts, ...]
    contradicting: tuple[Contradiction, ...]


def reconcile(history: Iterable[HistorySet], stored: Iterable[SetFacts]) -> Reconciled:
    """Compare; `stored` has one entry for every stripe that was read."""
    stripes: dict[str, list[SetFacts]] = defaultdict(list)
    for facts in stored:
        stripes[facts.set_guid].append(facts)
    agreeing, missing, contradicting = [], [], []
    known = set()
    for one in history:
        guid = one.facts.set_guid
        known.add(guid)
        found = stripes.get(guid, [])
        fields = differences(one.facts, found[0]) if found else ()
        if fields:
            contradicting.append(Contradiction(one, found[0], fields))
        elif len({facts.family_sequence for facts in found}) < one.facts.family_count:
            missing.append(one)
        else:
            agreeing.append(one)
    unknown = [found[0] for guid, found in stripes.items() if guid not in known]
    return Reconciled(tuple(agreeing), tuple(missing), tuple(unknown), tuple(contradicting))


def differences(remembered: SetFacts, read: SetFacts) -> tuple[str, ...]:
    """Name what msdb and the header say differently of a set."""
    return tuple(field for field in SAME_IN_BOTH if _plain(remembered, field) != _plain(read, field))


def _plain(facts: SetFacts, field: str) -> object:
    """Of a log only the header keeps no checkpoint that msdb has in the same form: it is not compared."""
    if field == "checkpoint_position" and facts.kind is Kind.LOG:
        return None
    return getattr(facts, field)


LOG_CHAIN, DIFFERENTIAL_BASE = "the log chain", "the base of differentials"


def breakers(history: Iterable[HistorySet], held: Iterable[str], *, in_transit: Iterable[str] = ()) -> list[Breaker]:
    """Name who broke what: logs and fulls that msdb has, and neither the store nor anything on its way to it.

    `held` and `in_transit` are GUIDs of sets. Copy-only backups break nothing. A set on a plain device counts only when
    a later set of its database is held: until then it may still be found.
    """
    here = {*held, *in_transit}
    ordered = sorted(history, key=lambda one: one.facts.finished_at)
    found = []
    for number, one in enumerate(ordered):
        if one.facts.set_guid in here or one.facts.is_copy_only or one.facts.kind is Kind.DIFFERENTIAL:
            continue
        if one.is_foreign or _is_overtaken(one, ordered[number + 1 :], here):
            found.append(Breaker(one, LOG_CHAIN if one.facts.kind is Kind.LOG else DIFFERENTIAL_BASE))
    return found


def _is_overtaken(one: HistorySet, later: Sequence[HistorySet], here: set[str]) -> bool:
    return any(
        other.facts.set_guid in here
        and (other.facts.database, other.facts.family_guid) == (one.facts.database, one.facts.family_guid)
        for other in later
    )
