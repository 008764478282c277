"""One attempt at a restore, whatever it builds on: how it is tried, given up, failed and ended.

Nothing is made before where it will lie is journaled, and whoever claims begins by clearing what attempts before left
there. Nothing is written to be over before that is proved gone.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.db import transaction

from backups import alerts, events
from backups.copying import damage
from backups.engines import Engine, engine_of
from backups.engines.facts import Stopped
from backups.leases import LeaseLost
from backups.models import Restore
from backups.restoring import pins, places, registering, replacing
from backups.restoring.reading import SourceDamaged
from backups.restoring.watching import Watch, keep, mine
from regions import clock
from regions.refusals import Refusal
from regions.storage import StorageError

State = Restore.State
MOST_ATTEMPTS = 3
FREE = {"leased_until": None, "leased_by": ""}


@dataclass
class Attempt:
    """One claimed restore in the hands of its child process. `made` is the word for what comes of it."""

    restore: Restore
    watch: Watch
    engine: Engine = field(init=False)
    made: ClassVar[str] = "server"
    nothing_left: ClassVar[dict[str, Any]] = {}  # what the row says once all is cleared

    def __post_init__(self) -> None:
        self.engine = engine_of(self.restore.instance.engine)

    # -- what differs

    def cleared(self) -> bool:
        """Remove what this attempt and those before it have left; False when that will be tried later."""
        places.clear(self.restore)
        return True

    @property
    def disk(self) -> str:
        """Where the bytes go."""
        return str(places.room())

    # -- trying

    def is_tried_too_often(self) -> bool:
        if self.restore.attempts <= MOST_ATTEMPTS:
            return False
        self._fail("WorkerDied", f"The worker that restored ended {MOST_ATTEMPTS} times without a word.", "")
        return True

    def attempt(self, work: Callable[[], Any]) -> Any:
        """Return what the work comes to; None when it was given up or failed, and then nothing of it is left."""
        try:
            return work()
        except (Stopped, LeaseLost):
            self._give_up()
        except SourceDamaged as damaged:
            self._fail_of_damage(damaged)
        except Refusal as refusal:
            self._fail(refusal.code, refusal.sentence, refusal.remedy)
        except StorageError as error:
            self._fail(error.code or "StoreFailed", error.sentence, "See whether the store answers, then try again.")
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._fail("NoSpace", f"The disk that holds {self.disk} became full.", "Make room, then try again.")
            elif self._fail_of_surprise(error):
                raise
        except Exception as surprise:
            if self._fail_of_surprise(surprise):
                raise
        return None

    def _look_up(self) -> None:
        """Raise Stopped when nobody wants the restore any more."""
        if self.watch.asks_to_stop():
            raise Stopped("the restore is no longer wanted")

    # -- ending

    def end_as_asked(self) -> None:
        """Stop and discard everything, prove it, and only then write it down."""
        if not self.cleared():
            return
        ready = self.restore.state in Restore.STANDING
        if not self._end(State.REMOVED if ready else State.CANCELLED):
            return
        if ready:
            self._record("removed", self._removed)
        else:
            self._record("cancelled", f"The restore into {self.restore.goes_by} was cancelled; nothing of it is left.")

    @property
    def _removed(self) -> str:
        return f"The restored {self.made} {self.restore.goes_by} was removed; nothing of it is left."

    def _give_up(self) -> None:
        """The engine has stopped and discarded; why it was asked to stands in the row, or this process is leaving."""
        row = mine(self.restore).first()
        if row is None:
            return
        if row.cancel_asked_at:
            self.end_as_asked()
            return
        if not self.cleared():
            return
        attempts = max(row.attempts - 1, 0)  # it was not the restore's fault
        replacing.start_again_what_stood_down(self.restore)
        back = {"state": State.QUEUED, "stage": "", "attempts": attempts, "due_at": clock.now()}
        mine(self.restore).update(**back, **FREE, **self.nothing_left)

    def _fail_of_damage(self, damaged: SourceDamaged) -> None:
        """Look again before a copy is called damaged; the copy itself is left as it is (I20)."""
        source = damaged.source
        where = source.copy.destination_store.region if source.copy else source.set.instance.region
        sentence = f"What lies in {where} is not {source.set} as it was verified: {damaged}"
        try:
            if source.copy and not damage.examine(source.copy, damaged.part):
                sentence += " A second look found it whole, so that it was damaged on its way."
        except StorageError as error:
            sentence += f" It could not be looked at again: {error.sentence}"
        self._fail("SourceDamaged", sentence, "Restore from another set, or to a moment that does not need this one.")

    def _fail_of_surprise(self, surprise: Exception) -> bool:
        """True: it is ours to explain; else somebody else has taken over and cleared what we worked in."""
        said = f"Something unexpected happened: {type(surprise).__name__}."
        return self._fail("Unexpected", said, "See the worker's log.")

    def _fail(self, code: str, sentence: str, remedy: str) -> bool:
        if not self.cleared():
            return True
        if not self._end(State.FAILED, error_code=code, error=sentence, remedy=remedy):
            return False
        self._record("failed", f"The restore into {self.restore.goes_by} failed: {sentence}", code=code)
        return True

    def _end(self, state: str, **changes: Any) -> bool:
        """Write that it is over, under the fence; with it go pins, password and the instance it had become."""
        with transaction.atomic():
            at = clock.now()
            ending = {"removed_at": at} if state == State.REMOVED else {"finished_at": at}
            over = {"state": state, "sealed_password": None, **ending, **FREE, **self.nothing_left}
            won = mine(self.restore).update(**over, **changes)
            if not won:
                return False
            pins.release(self.restore)
            alerts.close_alert("restored_server_down", self._subject)
            replacing.start_again_what_stood_down(self.restore)
            replacing.put_back(self.restore)
            registering.release_result(self.restore)
        return True

    @property
    def _subject(self) -> str:
        return f"restore:{self.restore.pk}"

    def _keep(self, **changes: Any) -> None:
        if not keep(self.restore, **changes):
            raise LeaseLost

    def _record(self, what: str, sentence: str, **data: Any) -> None:
        events.record(f"restore.{what}", sentence, instance=self.restore.instance, restore=self.restore.code, **data)
