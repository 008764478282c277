"""The catalogue from a store alone: manifests and state objects become rows again (R-1.2, design.md §3 "Manifest").

Into an empty Farshore, or one that was brought back before. Rows get the numbers they had, because object keys are
built from them. What is missing or cannot be read is told, object by object, and never guessed; nothing is enabled,
nothing in the store is changed, and nothing expires until a person confirms (backups.recoveries). Running it again adds
only what is not known yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from django.db import transaction

from backups import events, recoveries, seals
from backups.chains import windows
from backups.events import By
from backups.keeping import retention
from backups.models import PENDING, Copy, Instance, Recovery, StateObject
from backups.self_recovery.rebuilding import batches, contents, rows
from backups.self_recovery.rebuilding.adopting import adopt, require_lost
from backups.self_recovery.rebuilding.contents import Contents, Document, Find, Place
from backups.self_recovery.rebuilding.numbers import number_on
from backups.self_recovery.rebuilding.recognising import recognise
from backups.self_recovery.rebuilding.report import WRONG, Report
from regions.models import Store
from regions.storage import Storage

__all__ = ["Report", "adopt", "number_on", "rebuild"]

Answer = TypeVar("Answer")


def rebuild(store: Store, by: By, *, rehash: bool = False) -> Report:
    """Bring the catalogue of an attached store back; raises Refusal where this Farshore never lost one.

    `rehash`: an object that is not the recorded one by its ETag (the folder was moved to another disk, say) is read
    whole, and accepted when it hashes to what was recorded.
    """
    require_lost()
    storage, report = store.open(), Report(store)
    found = contents.look(storage)
    fresh = _unknown(store, found)
    _hold_everything(store, storage, bool(fresh), by)
    states = {code: contents.newest_state(storage, infos, report) for code, infos in found.states.items()}
    _describe(states, report)
    recognise(store, storage, found, report, rehash=rehash)
    touched = _bring_back_copies(fresh, found, storage, report, rehash) | _place_holds(states, report)
    if report.added:
        number_on(found.highest)
    for instance in Instance.objects.filter(pk__in=touched):
        retention.reschedule(instance.pk, store.pk)
        windows.rebuild(instance, store)
    _count_states(store, found)
    _tell_unnamed(found, report)
    _record(report, by)
    return report


def _unknown(store: Store, found: Contents) -> list[Place]:
    copies = Copy.objects.filter(destination_store=store).exclude(state__in=PENDING)
    known = set(copies.values_list("pk", "manifest_key"))
    return [place for place in found.manifests if (place.copy, place.info.key) not in known]


def _hold_everything(store: Store, storage: Storage, has_news: bool, by: By) -> None:
    """Before anything is brought back, so that no sweep expires it at once; what comes later waits for a person too."""
    recovery = recoveries.of_store(store)
    if recovery is None or (has_news and recovery.confirmed_at):
        recoveries.begin(store, Recovery.Kind.MANIFESTS, by, lost=seals.kept_head(storage))


def _safely(report: Report, what: str, step: Callable[[], Answer]) -> Answer | None:
    """Do one step on its own; what is wrong with it is told, and the next goes on."""
    try:
        return step()
    except WRONG as error:
        report.tell(what, error)
        return None


def _describe(states: dict[str, Document | None], report: Report) -> None:
    for code, state in sorted(states.items()):
        if state:
            _safely(report, f"The state of {code}", lambda code=code, state=state: rows.describe(code, state, report))


def _bring_back_copies(fresh: list[Place], found: Contents, storage: Storage, report: Report, rehash: bool) -> set[int]:
    """Turn every manifest that is not known yet into rows; return the instances that have got something."""
    touched: set[int] = set()
    batch: list[Find] = []
    for place, body in contents.read_all(storage, fresh):
        read = partial(contents.find_of, place, body, found, storage, rehash)
        if find := _safely(report, place.info.key, read):
            batch.append(find)
        if batches.is_full(batch):
            touched |= batches.bring_back(batch, report)
            batch = []
    return touched | batches.bring_back(batch, report)


def _place_holds(states: dict[str, Document | None], report: Report) -> set[int]:
    touched = set()
    for code, state in sorted(states.items()):
        for said in (state or {}).get("holds", []):
            if instance := _safely(report, f"A hold of {code}", lambda said=said: rows.hold(said, report)):
                touched.add(instance)
    return touched


def _count_states(store: Store, found: Contents) -> None:
    """The next state object of an instance gets the number after the newest there."""
    for instance in Instance.objects.filter(code__in=found.states):
        numbers = sorted(contents.number_of(info) for info in found.states[instance.code])
        counted = {"sequence": numbers[-1], "oldest": numbers[0]}
        StateObject.objects.get_or_create(instance=instance, store=store, defaults=counted)


def _tell_unnamed(found: Contents, report: Report) -> None:
    """Objects that no copy names: attempts that were under way, or whose manifest is lost. They are left alone."""
    named: Iterable[str] = report.store.transfers.values_list("key", flat=True)
    for key in sorted(found.objects.keys() - set(named)):
        report.tell(key, "No manifest that could be read names it; it is left alone.")


def _record(report: Report, by: By) -> None:
    if not report.added:
        return
    said = ", ".join(f"{count} {noun}" for noun, count in report.added.items())
    with transaction.atomic():
        recovery = Recovery.objects.select_for_update().get(store=report.store)
        recovery.copies += report.added.get("copies", 0)
        recovery.troubles = len(report.troubles)
        recovery.save(update_fields=["copies", "troubles"])
        events.record(
            "recovery.rebuilt",
            f"The catalogue was rebuilt from the store of {report.store.region}: {said};"
            f" {len(report.troubles)} objects have something wrong.",
            by=by,
            store=report.store.pk,
            **report.added,
        )
