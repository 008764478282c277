"""Puts the files of striped backups together: a set is whole only when every family of its media set is there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from backups.engines.facts import Inspection, SetFacts

_SAME_IN_EVERY_STRIPE = (
    "database",
    "server",
    "kind",
    "started_at",
    "first_position",
    "last_position",
    "family_guid",
    "base_guid",
    "position",
)


@dataclass(frozen=True)
class StripedSet:
    """One backup set and where its stripes lie: `files` maps the family sequence to the file's name.

    `facts` are those of its lowest stripe. `missing` names the sequences not there yet, `contradicting` the files that
    claim to belong to it and do not agree, `spare` the files that hold a stripe which is there already.
    """

    facts: SetFacts
    files: Mapping[int, str]
    missing: tuple[int, ...] = ()
    contradicting: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        return not self.missing and not self.contradicting


@dataclass(frozen=True)
class Grouping:
    complete: tuple[StripedSet, ...]
    incomplete: tuple[StripedSet, ...]


def group(inspections: Mapping[str, Inspection]) -> Grouping:
    """Sort the sets of these files (name -> what reading it gave) into complete and incomplete ones.

    Refused files count for nothing. The answer does not depend on the order of the files.
    """
    members: dict[tuple[str, str], list[tuple[int, str, SetFacts]]] = defaultdict(list)
    for file, inspection in sorted(inspections.items()):
        for facts in inspection.sets:
            members[facts.media_set_guid, facts.set_guid].append((facts.family_sequence, file, facts))
    sets = [_striped_set(sorted(found, key=lambda member: member[:2])) for _, found in sorted(members.items())]
    return Grouping(
        complete=tuple(found for found in sets if found.is_complete),
        incomplete=tuple(found for found in sets if not found.is_complete),
    )


def _striped_set(members: list[tuple[int, str, SetFacts]]) -> StripedSet:
    _, _, lowest = members[0]
    files: dict[int, str] = {}
    contradicting, spare = [], []
    for sequence, file, facts in members:
        if not _agree(lowest, facts):
            contradicting.append(file)
        elif sequence in files:
            spare.append(file)
        else:
            files[sequence] = file
    missing = tuple(n for n in range(1, lowest.family_count + 1) if n not in files)
    return StripedSet(lowest, files, missing, tuple(contradicting), tuple(spare))


def _agree(one: SetFacts, other: SetFacts) -> bool:
    if one.family_count != other.family_count:
        return False
    return all(getattr(one, field) == getattr(other, field) for field in _SAME_IN_EVERY_STRIPE)
