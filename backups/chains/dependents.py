"""What keeps a copy besides its own date: the copies that need it, and holds (R-12.6, I5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from django.db.models import Count, QuerySet

from backups.chains import log_chain, windows
from backups.models import CopiedFile, Copy

NEVER = datetime.max.replace(tzinfo=UTC)


def effective(own: Mapping[int, datetime], needed_by: Mapping[int, Iterable[int]]) -> dict[int, datetime]:
    """Return each copy's date: the latest of its own and those of the copies that need it, at any depth. Pure."""
    needs: dict[int, list[int]] = {}
    for needed, needing in needed_by.items():
        for dependent in needing:
            if needed in own and dependent in own:
                needs.setdefault(dependent, []).append(needed)
    found: dict[int, datetime] = {}
    for latest in sorted(own, key=lambda copy: own[copy], reverse=True):
        stack = [latest]
        while stack:
            if (copy := stack.pop()) not in found:
                found[copy] = own[latest]
                stack.extend(needs.get(copy, ()))
    return found


def all_of(copies: QuerySet[Copy]) -> dict[int, set[int]]:
    """Return copy → copies whose dates it has to follow: those of `in_chains`, and sets in one file by each other."""
    needed = in_chains(copies)
    for sharing in _sharing_a_file(copies):
        for one in sharing:
            needed.setdefault(one, set()).update(sharing - {one})
    return needed


def in_chains(copies: QuerySet[Copy]) -> dict[int, set[int]]:
    """Return copy → copies that cannot be restored without it, the next ones of its chain (log_chain.needs, I5)."""
    needed: dict[int, set[int]] = {}
    for rules, sets in windows.chains_among(copies):
        needs = log_chain.needs(*windows.data_and_logs(sets), rules)
        for one, needing in log_chain.needed_by(needs).items():
            needed.setdefault(one, set()).update(needing)
    return needed


def _sharing_a_file(copies: QuerySet[Copy]) -> list[set[int]]:
    carried = CopiedFile.objects.filter(copy__in=copies.order_by().values("pk"))
    shared = carried.values("transfer").annotate(n=Count("copy")).filter(n__gt=1).values("transfer")
    by_transfer: dict[int, set[int]] = {}
    for copy, transfer in carried.filter(transfer__in=shared).values_list("copy", "transfer"):
        by_transfer.setdefault(transfer, set()).add(copy)
    return list(by_transfer.values())


def never_while_held(copies: QuerySet[Copy]) -> dict[int, datetime]:
    """Return NEVER for each copy that has a hold on it."""
    held = copies.filter(holds__released_at=None, holds__isnull=False)
    return dict.fromkeys(held.values_list("pk", flat=True), NEVER)


def held_with_what_they_need(
    copies: QuerySet[Copy], own: Mapping[int, datetime], needed_by: Mapping[int, Iterable[int]]
) -> set[int]:
    """Return those a hold keeps, itself or because what is held needs them."""
    dates = effective({**own, **never_while_held(copies)}, needed_by)
    return {pk for pk, date in dates.items() if date == NEVER}
