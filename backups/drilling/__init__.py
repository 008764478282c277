"""Drills carried out: a copy restored, looked into and removed again, by a verdict that rests on what was seen.

Call `run` from a thread that lives as long as the drill: a throw-away server ends with it, by kill -9 too.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from backups.drilling import drills
from backups.drilling.landed import LandedTrial
from backups.drilling.local import PLACE, LocalTrial
from backups.drilling.trial import Trial
from backups.engines import engine_of
from backups.engines.facts import Stopped
from backups.leases import LeaseLost
from backups.models import Drill
from backups.servers.places_for_servers import place_for
from regions import clock
from regions.refusals import Refusal

__all__ = ["PLACE", "LandedTrial", "LocalTrial", "Trial", "clear_leftovers", "run"]

log = logging.getLogger(__name__)
State = Drill.State


def run(drill: Drill, *, is_patient: bool = True) -> None:
    """Carry a claimed drill through to its verdict; nothing is written once its lease is lost.

    Not `is_patient`: a store that does not answer is a failed drill, not one to be tried again later.
    """
    beat = drills.Heartbeat(drill)
    beat.start()
    try:
        trial = _trial_of(drill)(drill, beat, is_patient)
        trial.clear_former()
        if drill.attempts > drills.MOST_ATTEMPTS:
            said = f"It was begun {drills.MOST_ATTEMPTS} times and never came to an end; see the workers' logs."
            drills.finish(drill, State.FAILED, said)
        else:
            clear_leftovers()
            trial.run()
    except Refusal as refusal:
        _clear_later(drill, refusal)
    except (LeaseLost, Stopped):
        log.info("drill given up", extra={"drill": drill.pk})
    finally:
        beat.end()


def _clear_later(drill: Drill, refusal: Refusal) -> None:
    """What an earlier attempt left is not gone: it is looked for again, but not for ever."""
    if drill.attempts > drills.MOST_ATTEMPTS:
        drills.finish(drill, State.FAILED, f"What it left could not be removed: {refusal}")
    else:
        drills.put_off(drill, str(refusal))


def _trial_of(drill: Drill) -> type[Trial]:
    return LocalTrial if engine_of(drill.instance.engine).restore else LandedTrial


def clear_leftovers() -> None:
    """Remove servers whose drill is over or somebody else's: their worker was killed before it could."""
    with suppress(Refusal):
        for folder in place_for(PLACE).iterdir():
            pk, _, fence = folder.name.partition("-")
            drill = Drill.objects.filter(pk=pk).select_related("instance").first() if pk.isdecimal() else None
            if drill and not _is_held(drill, fence):
                engine_of(drill.instance.engine).discard(folder)


def _is_held(drill: Drill, fence: str) -> bool:
    held = drill.state == State.RUNNING and drill.leased_until and drill.leased_until > clock.now()
    return bool(held) and str(drill.fence) == fence
