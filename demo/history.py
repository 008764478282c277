"""Back-dated backups: real files whose headers lie in the past, copied through the doors a person would use.

No limit is shortened for it. A copy whose date has passed cannot be planned, so those are copied under a long
retention, which is shortened afterwards: what is past the new date expires at once and is in its grace, what reaches
it a little later expires at the next sweep.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from backups import policies
from backups.copying import planning
from backups.events import By
from backups.models import BackupSet, Copy, Event, Instance
from demo import cast, mtf
from demo.cast import Actor
from regions.refusals import Refusal

log = logging.getLogger(__name__)
PAGES = 3 * 128  # 3 MiB
SECONDS = 20


class Ending(NamedTuple):
    """What becomes of an instance, and the event that says it has become so."""

    event: str
    bring_about: Callable[[Instance, By], None]


def _shorten(instance: Instance, by: By) -> None:
    policy = policies.enabled_policy(instance)
    wanted = policies.Settings(True, policies.SHORTEST_DAYS, policy.destination_id)
    policies.apply(instance, wanted, by, standing_of=by)


def _disable(instance: Instance, by: By) -> None:
    policy = policies.enabled_policy(instance)
    policies.apply(instance, policies.Settings(False, policy.retention_days), by)


ENDINGS = {
    "shortened": Ending("policy.retention", _shorten),
    "released": Ending("instance.released", policies.release),
    "disabled": Ending("policy.disabled", _disable),
}


def write(actor: Actor, folder: Path) -> None:
    """Put the actor's old backups where its job would have put them: all of them, once."""
    if folder.exists():
        return
    draft = folder.with_name(f".{folder.name}.making")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    now = datetime.now(UTC).replace(microsecond=0)
    for age in actor.past.ages:
        _write_one(actor, draft, now - age)
    draft.rename(folder)


def _write_one(actor: Actor, folder: Path, finished_at: datetime) -> None:
    started_at, name = finished_at - timedelta(seconds=SECONDS), actor.name.capitalize()
    backup = mtf.full(
        name,
        server=actor.server,
        first=mtf.lsn(int(finished_at.timestamp()) // 60),
        started_at=started_at,
        seconds=SECONDS,
        pages=PAGES,
        seed=actor.name,
    )
    path = folder / f"{name}_full_{finished_at:%Y%m%d_%H%M%S}.bak"
    with open(path, "wb") as out:
        mtf.write(out, backup)
    os.utime(path, (finished_at.timestamp(), finished_at.timestamp()))


class Stories:
    """The actors with a past, each led step by step to its ending; every step is read from the rows, so that a
    restart goes on where the last run was."""

    def __init__(self, by: By) -> None:
        self.by = by
        self.open = [actor for actor in cast.ACTORS if actor.past]

    def advance(self) -> None:
        self.open = [actor for actor in self.open if not self._is_over(actor)]

    def _is_over(self, actor: Actor) -> bool:
        instance = Instance.objects.filter(code=actor.code).first()
        ending = ENDINGS[actor.past.ending]
        if instance is None or Event.objects.filter(instance=instance, kind=ending.event).exists():
            return True
        try:
            if self._all_copied(instance, actor):
                ending.bring_about(instance, self.by)
        except (policies.Refusals, Refusal) as refused:  # a person has done something else with it meanwhile
            log.info("the story ends here", extra={"instance": actor.name, "reason": str(refused)})
            return True
        return False

    def _all_copied(self, instance: Instance, actor: Actor) -> bool:
        old = list(instance.sets.valid().filter(finished_at__lt=instance.created_at).order_by("finished_at"))
        if len(old) < len(actor.past.ages):
            return False
        if not instance.policies.exists():
            wanted = policies.Settings(True, actor.days, actor.to)
            policies.apply(instance, wanted, self.by, standing_of=self.by)
        for found in old:
            self._copy_once(instance, found)
        return not Copy.objects.pending().filter(set__in=old).exists()

    def _copy_once(self, instance: Instance, found: BackupSet) -> None:
        policy = policies.enabled_policy(instance)
        if policy and not found.copies.exists():
            planning.copy_now(policy, found, self.by)
