"""What a set was made from: its full, and the incrementals between, as far as their files are still at the source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from backups.engines import engine_of
from backups.engines.chains import chain_set
from backups.models import BackupSet, Instance


def bases_of(found: BackupSet) -> list[BackupSet]:
    """Return what a set needs, at any depth, the full first; as far down as that is still valid at the source."""
    return Bases([found], {found.instance_id: found.instance}).of(found)


class Bases:
    """The fulls, or incrementals, that sets were made from, where their files are still at the source.

    They are read for all the sets at once, with a statement for each step down.
    """

    def __init__(self, sets: Iterable[BackupSet], instances: Mapping[int, Instance]) -> None:
        self._named: dict[tuple[int, str], list[BackupSet]] = {}
        wanted = self._unknown(sets)
        while wanted:
            self._named |= {key: [] for key in wanted}
            where = {"instance__in": {pk for pk, _ in wanted}, "set_guid__in": {guid for _, guid in wanted}}
            found = with_instances(BackupSet.objects.valid().filter(**where).order_by("pk"), instances)
            named = [one for one in found if (one.instance_id, one.set_guid) in wanted]
            for one in named:
                self._named[one.instance_id, one.set_guid].append(one)
            wanted = self._unknown(named)

    def _unknown(self, sets: Iterable[BackupSet]) -> set[tuple[int, str]]:
        return {(one.instance_id, one.base_guid) for one in sets if one.base_guid} - self._named.keys()

    def of(self, found: BackupSet) -> list[BackupSet]:
        chain = [found]
        while (base := base_of(chain[0], self._named_by(chain[0]))) and base not in chain:
            chain.insert(0, base)
        return chain[:-1]

    def _named_by(self, found: BackupSet) -> list[BackupSet]:
        return self._named.get((found.instance_id, found.base_guid), [])


def base_of(differential: BackupSet, named: Iterable[BackupSet]) -> BackupSet | None:
    """Return the full, or the incremental, that a set was made from, of those that have the name it gives."""
    rules = engine_of(differential.instance.engine).chain_rules
    made = chain_set(differential.pk, differential, rules)
    return next((base for base in named if rules.is_base(chain_set(base.pk, base, rules), made)), None)


def with_instances(sets: Iterable[BackupSet], instances: Mapping[int, Instance]) -> list[BackupSet]:
    """Read sets and give each its instance, which is known already and need not be read again."""
    found = list(sets)
    for one in found:
        one.instance = instances[one.instance_id]
    return found
