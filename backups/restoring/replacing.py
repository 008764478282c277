"""The new server takes the place of the one that Farshore ran, and the old one can come back (R-2.3, I20).

Who stands where is decided by rows alone, in one transaction: nothing on the disk is moved or written over. Before it
the old one runs, or is started again by whoever claims it; after it the new one does, and the old one's data is kept
aside until a person confirms.
"""

from __future__ import annotations

from pathlib import Path

from django.db.models import F, Q, QuerySet

from backups import events
from backups.engines import confinement
from backups.engines.facts import Connection
from backups.events import By
from backups.logs import log_receiving
from backups.models import Instance, Restore
from backups.restoring.asking import password_of
from backups.restoring.onto import server_of
from backups.servers import reaching
from regions import clock
from regions.refusals import Refusal

State = Restore.State


def original_of(restore: Restore) -> Restore:
    """Return the restore whose server is to be replaced; raises Refusal when nobody keeps it any more."""
    old = server_of(restore.onto)
    if old is None or old.cancel_asked_at:
        raise Refusal(
            "OriginalGone",
            f"The server of {restore.onto.name} is being removed, or is gone.",
            "Restore into a new instance.",
            "onto",
        )
    return old


def ask_for_room(restore: Restore) -> Restore:
    """Ask whoever holds the old server to stop it and not to start it again; raises Refusal when there is none."""
    old = original_of(restore)
    Restore.objects.filter(pk=old.pk, state=State.READY).update(makes_room_for=restore)
    return old


def has_stopped(old: Restore) -> bool:
    """Whether nobody holds the old server and nothing of it runs; this is the machine it lies on."""
    return _unheld(old).exists() and not confinement.living_in(Path(old.folder))


def _unheld(old: Restore) -> QuerySet[Restore]:
    free = Q(leased_until=None) | Q(leased_until__lt=clock.now())
    return Restore.objects.filter(free, pk=old.pk, state=State.READY, cancel_asked_at=None)


def change_places(restore: Restore, old: Restore, reached: Connection) -> bool:
    """The new server is the instance from now on; False when the old one was started again meanwhile.

    Call it in the transaction that makes the restore ready.
    """
    standing_down = _unheld(old).filter(makes_room_for=restore)
    if not standing_down.update(state=State.ASIDE, leased_until=None, fence=F("fence") + 1):
        return False
    Restore.objects.filter(pk=restore.pk).update(result=restore.onto)
    _belongs_to(restore.onto, reached.username, reached.password)
    said = f"{restore.onto.name} is now the server that was restored; what it was before is kept aside."
    _record("replaced", said, restore, By(restore.asked_by))
    return True


def start_again_what_stood_down(restore: Restore) -> None:
    """The old server need not make room any more: whoever claims it starts it as it was. Safe to repeat."""
    stood_down = Restore.objects.filter(makes_room_for=restore, state=State.READY)
    stood_down.update(makes_room_for=None, attempts=0, due_at=clock.now())


def put_back(restore: Restore) -> None:
    """The instance is its old server again, as that was when it stopped; call it when the new one is gone."""
    old = Restore.objects.filter(makes_room_for=restore, state=State.ASIDE, cancel_asked_at=None).first()
    if old is None:
        return
    at = clock.now()
    Restore.objects.filter(pk=old.pk).update(state=State.READY, makes_room_for=None, attempts=0, due_at=at)
    _belongs_to(restore.onto, old.username, password_of(old))
    _record("put_back", f"{restore.onto.name} is again the server that it was before the restore.", restore, By())


def _belongs_to(instance: Instance, username: str, password: str) -> None:
    """Reach the instance as its server of now asks; a role that somebody entered is one of the data and stays.

    Its logs go on in another history: whoever receives them begins anew.
    """
    row = Instance.objects.get(pk=instance.pk)
    if row.username == username:
        reaching.keep_password(row, password)
        Instance.objects.filter(pk=row.pk).update(sealed_password=row.sealed_password)
    log_receiving.begin_anew(row)


def _record(what: str, sentence: str, restore: Restore, by: By) -> None:
    events.record(f"restore.{what}", sentence, by=by, instance=restore.instance, restore=restore.code)
