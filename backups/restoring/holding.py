"""The worker's part of a restore: claimed, built by a child process that goes on to hold the running server.

A server lives no longer than the child: whoever claims a ready restore whose lease ran out starts it again. Nothing is
made before the folder it lies in is journaled, and whoever claims begins by clearing what attempts before left there.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet

from backups import alerts, events
from backups.engines.facts import RestoreRequest, RestoreResult, RunningServer
from backups.events import By
from backups.leases import LeaseLost, next_lease, who
from backups.models import Instance, Restore
from backups.restoring import pins, places, registering, replacing
from backups.restoring.asking import identity_of, password_of
from backups.restoring.attempts import Attempt
from backups.restoring.counting import Counting
from backups.restoring.landed import Landed
from backups.restoring.onto import server_of
from backups.restoring.reading import sources_of
from backups.restoring.watching import Progress, Watch, keep, mine
from regions import clock, secrets
from regions.refusals import Refusal

State = Restore.State
LOOK_SECONDS = 0.5
COUNT_SECONDS = 60
ROOM_SECONDS = 60  # beyond a lease: so long a server may take to stop
PAUSE = timedelta(seconds=5)
LONGEST_WAIT = timedelta(minutes=10)

# ---- claiming


def _due(at: datetime) -> QuerySet[Restore]:
    free = Q(leased_until=None) | Q(leased_until__lt=at)
    kept_aside = Q(state=State.ASIDE, cancel_asked_at=None)
    landed = Q(state=State.READY, landed_as__gt="", cancel_asked_at=None)  # nobody need hold a database
    stands_down = Q(makes_room_for__state=State.RUNNING, makes_room_for__leased_until__gte=at)
    return Restore.objects.filter(free, state__in=Restore.HELD, due_at__lte=at).exclude(
        kept_aside | landed | stands_down
    )


def regions_with_work() -> list[str]:
    return list(_due(clock.now()).values_list("region", flat=True).distinct())


def claim(region_id: str) -> Restore | None:
    """Take the next restore that is due in a region and can be held by this machine, under a new fence and a lease."""
    with transaction.atomic():
        at = clock.now()
        rows = _due(at).select_for_update(skip_locked=True, of=("self",)).filter(region=region_id)
        may_build = _building_here(at) < settings.RESTORES_AT_ONCE
        for restore in rows.select_related("instance", "region", "onto", "landing").order_by("due_at", "pk")[:50]:
            if _is_here(restore) and (restore.state in Restore.STANDING or may_build or restore.cancel_asked_at):
                return _claimed(restore, at)
    return None


def _building_here(at: datetime) -> int:
    held = Restore.objects.filter(state=State.RUNNING, leased_until__gt=at)
    return held.filter(leased_by__startswith=f"{socket.gethostname()}:").count()


def _is_here(restore: Restore) -> bool:
    """A server stands on one machine's disk, and what replaces it is built there; any other leaves it to that one."""
    if restore.landed_as:
        return True
    if restore.onto and restore.state in Restore.ACTIVE and (standing := server_of(restore.onto)):
        return _is_here(standing)
    if restore.state not in Restore.STANDING:
        return True
    return Path(restore.folder).is_dir() or restore.leased_by.split(":")[0] in ("", socket.gethostname())


def _claimed(restore: Restore, at: datetime) -> Restore:
    restore.fence, restore.attempts = restore.fence + 1, restore.attempts + 1
    restore.state = restore.state if restore.state in Restore.STANDING else State.RUNNING
    if restore.state == State.READY:
        restore.makes_room_for = None
    restore.started_at = restore.started_at or at
    restore.leased_until, restore.leased_by = next_lease(at), who()
    changed = ["fence", "attempts", "state", "makes_room_for", "started_at", "leased_until", "leased_by"]
    restore.save(update_fields=changed)
    return restore


# ---- working


def run(restore: Restore, leaving: threading.Event) -> None:
    """Do a claimed restore and hold its server until it is removed, lost, or this process is `leaving`.

    Call it from the main thread: the engine's processes end with the thread that started them.
    """
    watch = Watch(restore, leaving)
    watch.start()
    try:
        if restore.landed_as:
            Landed(restore, watch).carry_out()
            return
        work = Work(restore, watch)
        if restore.cancel_asked_at:
            work.end_as_asked()
        elif server := work.bring_back() if restore.state == State.READY else work.build():
            work.hold(server)
    finally:
        watch.end()


@dataclass
class Work(Attempt):
    """An attempt at a server of its own, which is held from then on."""

    counting: Counting | None = None

    # -- building

    def build(self) -> RunningServer | None:
        """Build the server from the beginning; None when it was given up or failed, and then nothing of it is left."""
        self.cleared()
        replacing.start_again_what_stood_down(self.restore)
        return None if self.is_tried_too_often() else self.attempt(self._build)

    def _build(self) -> RunningServer:
        place, name = places.place_of(self.restore), str(self.restore.fence)
        self._keep(folder=str(place / name), stage="", done=0, error_code="", error="", remedy="")
        if self.restore.onto:
            replacing.original_of(self.restore)
        data, logs = sources_of(self.restore)
        told = Progress(self.restore)
        result = self.engine.restore(
            RestoreRequest(
                place=places.prepared(self.restore),
                name=name,
                sets=data,
                logs=logs,
                until=self.restore.until if logs else None,  # without logs a set is what it was when it was taken
                forks=self._forks_lived(),
                address=settings.RESTORE_ADDRESS,
                progress=told,
                stop=self.watch.asks_to_stop,
            )
        )
        try:
            self._count(result.server, told)
            result, old = self._replace(result, told) if self.restore.onto else (result, None)
            self._ready(result, old)
        except BaseException:
            places.discard(self.restore, result.server.folder)
            raise
        return result.server

    def _forks_lived(self) -> tuple[str, ...]:
        """An instance whose server is replaced has lived on in histories that the new one must not be taken for."""
        if self.restore.onto is None:
            return ()
        return tuple(self.restore.onto.sets.exclude(fork="").order_by().values_list("fork", flat=True).distinct())

    def _replace(self, result: RestoreResult, told: Progress) -> tuple[RestoreResult, Restore]:
        """Bring the new server, checked and counted, to the address of the old one, which has stopped for it."""
        while self.counting and self.counting.is_alive():  # it asks a server that is about to stop
            self._look_up()
            self.counting.join(0.1)
        self._keep()
        old, began = replacing.ask_for_room(self.restore), time.monotonic()
        told("replace", 0, None)
        while not replacing.has_stopped(old):
            self._look_up()
            if time.monotonic() - began > settings.LEASE_SECONDS + ROOM_SECONDS:
                raise Refusal("OriginalBusy", f"The server of {self.restore.onto.name} does not stop.", "Try again.")
            time.sleep(0.1)
        result.server.stop()
        password = result.server.connection.password
        server = self.engine.take_over(result.server.folder, password, address=old.host, port=old.port)
        seconds = {**result.seconds, "replace": round(time.monotonic() - began, 3)}
        return replace(result, server=server, seconds=seconds), old

    def _count(self, server: RunningServer, told: Progress) -> None:
        """Count the rows; where that takes long the server is not kept from who needs it, and it goes on beside."""
        told("count", 0, None)
        self.counting = Counting(server, self.engine.count_rows, self.watch.asks_to_stop)
        self.counting.start()
        until = time.monotonic() + COUNT_SECONDS
        while self.counting.is_alive() and time.monotonic() < until:
            self._look_up()
            self.counting.join(0.1)

    def _ready(self, result: RestoreResult, old: Restore | None) -> None:
        """Write the fact, and with it the instance that the server has become; raises LeaseLost when it is not ours."""
        restore, reached, at = self.restore, result.server.connection, clock.now()
        instance, why_none = registering.described(restore, reached) if old is None else (None, "")
        notes = [*result.notes, *([f"It is not listed as an instance: {why_none}"] if why_none else [])]
        counted = self._counted({**result.seconds}, notes)
        with transaction.atomic():
            won = (
                mine(restore)
                .filter(state=State.RUNNING, cancel_asked_at=None)
                .update(
                    state=State.READY,
                    stage="",
                    attempts=0,
                    finished_at=at,
                    leased_until=next_lease(at),
                    host=reached.host,
                    port=reached.port,
                    username=reached.username,
                    sealed_password=secrets.seal(reached.password.encode(), identity_of(restore)),
                    restored_until=result.restored_until,
                    last_change_at=result.last_change_at,
                    **counted,
                )
            )
            if not won:
                raise LeaseLost
            if old and not replacing.change_places(restore, old, reached):
                raise LeaseLost
            if instance:
                self._register(instance)
            pins.release(restore)
            said = f"{restore.name} is ready at {reached.host}, port {reached.port}."
            self._record("ready", said, seconds=round(sum(counted["seconds"].values()), 1))
        restore.refresh_from_db()

    def _counted(self, seconds: dict[str, float], notes: list[str]) -> dict[str, Any]:
        """What is known of the rows by now, as columns; once it is all, it is not asked for again."""
        counting = self.counting
        if counting is None or counting.is_alive():
            return {"seconds": seconds, "notes": notes}
        self.counting = None
        more = [f"Its rows could not be counted: {counting.why}"] if counting.why else []
        return {"seconds": {**seconds, "count": counting.seconds}, "notes": [*notes, *more], "rows": counting.rows}

    def _register(self, instance: Instance) -> None:
        instance.save()
        Restore.objects.filter(pk=self.restore.pk).update(result=instance)
        said = f"{instance.name} was added in {instance.region}: restored from {self.restore.instance.name}."
        events.record("instance.added", said, by=By(self.restore.asked_by), instance=instance)

    # -- holding

    def bring_back(self) -> RunningServer | None:
        """Start the server again that ended with its former child; None when it does not start, or is not wanted."""
        restore = self.restore
        if not Path(restore.folder).is_dir():
            self._gone()
            return None
        try:
            server = self.engine.start_again(Path(restore.folder), password_of(restore))
        except Refusal as refusal:
            self._try_later(refusal)
            return None
        reached = server.connection
        known = {"error": "", "remedy": "", "host": reached.host, "port": reached.port}
        if not keep(restore, attempts=0, **known):
            return None  # whoever has it now has ended our server already
        self._record("started_again", f"The restored server {restore.name} was started again.")
        alerts.close_alert("restored_server_down", self._subject)
        return server

    def hold(self, server: RunningServer) -> None:
        """Stay as long as the server; whatever ends this, the row says who has to do what next."""
        while server.is_running and not self.watch.asks_to_stop():
            if self.counting and not self.counting.is_alive():
                mine(self.restore).update(**self._counted(self.restore.seconds, self.restore.notes))
            connection.close()  # it would be a dead one by the time it is needed again
            time.sleep(LOOK_SECONDS)
        if self.watch.lost.is_set():
            return  # whoever has it now clears or starts it; to stop it by its folder could stop theirs
        if self.watch.unwanted.is_set():
            self.end_as_asked()
            return
        server.stop()
        pause = timedelta(0) if self.watch.leaving.is_set() else PAUSE  # it ended by itself: not again and again
        mine(self.restore).update(due_at=clock.now() + pause, leased_until=None)  # `leased_by` says on whose disk it is

    def _try_later(self, refusal: Refusal) -> None:
        restore, at = self.restore, clock.now()
        wait = min(timedelta(seconds=2**restore.attempts), LONGEST_WAIT)
        said = f"The restored server {restore.name} does not start: {refusal.sentence}"
        won = mine(restore).update(error=refusal.sentence, remedy=refusal.remedy, due_at=at + wait, leased_until=None)
        if won:
            alerts.open_alert(
                "restored_server_down", self._subject, said, remedy=refusal.remedy, instance=restore.instance
            )

    def _gone(self) -> None:
        """Its data is no longer on the disk: there is nothing to start, and nothing to remove."""
        self._fail("ServerGone", f"The folder of the restored server {self.restore.name} is gone.", "Restore it again.")
