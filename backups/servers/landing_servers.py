"""Landing servers: registered after a look that proves them, looked at again every minute, retired (R-17.1).

Registering one is a right of who runs the installation; resource groups restore onto those they were granted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from django.db import transaction
from django.db.models import OuterRef, QuerySet

from backups import events
from backups.engines import ENGINES, Engine, engine_of
from backups.engines.facts import Connection, LandingFacts
from backups.events import By
from backups.models import Instance, LandingServer, ResourceGroup, Restore
from backups.servers import certificate_book, reaching
from regions import clock, secrets
from regions.models import Region
from regions.refusals import Refusal

log = logging.getLogger(__name__)
LONGEST_NAME = 100


@dataclass(frozen=True)
class Wanted:
    """A landing server as somebody describes it; `folder` is `called` as the region's workers see it."""

    name: str
    region: Region
    engine: str
    host: str
    username: str
    password: str = field(repr=False)
    called: str
    folder: str
    groups: Iterable[ResourceGroup] = ()
    port: int | None = None
    tls: str = "prefer"


def offering() -> dict[str, Engine]:
    """Return the engines whose databases are restored on landing servers, by name."""
    return {name: engine for name, engine in ENGINES.items() if engine.restore_database is not None}


def label_of(row: LandingServer) -> str:
    return engine_of(row.engine).capabilities.label


def script_for(engine: str, login: str = "farshore", version: str = "") -> str:
    """Return what an administrator runs there to let Farshore in with no more rights than a restore takes."""
    major = version.partition(".")[0]
    return engine_of(engine).login_script(login, (), major=int(major) if major.isdecimal() else 0, restores=True)


# ---- registering


def test(wanted: Wanted) -> LandingFacts:
    """Look at the server as it is described; raises Refusal beside the field it is about. Nothing is kept."""
    return _look(_row(wanted))


def register(wanted: Wanted, by: By) -> LandingServer:
    """Add a landing server after a look that proves it; raises Refusal, and then nothing is kept."""
    row = _row(wanted)
    if refusal := why_not_name(row.name):
        raise refusal
    _write(row, _look(row))
    with transaction.atomic():
        LandingServer.objects.select_for_update().filter(region=row.region).exists()
        if refusal := why_not_name(row.name):
            raise refusal
        row.save()
        row.groups.set(wanted.groups)
        _record(
            "registered", f"{row.name}, at {row.host}, was registered as a landing server of {row.region}.", row, by
        )
    certificate_book.settle(row.region_id, *row.certificates)
    return row


def why_not_name(name: str) -> Refusal | None:
    """Return why no landing server may be called this."""
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        sentence = f"The name has 1 to {LONGEST_NAME} characters, all of them visible."
        return Refusal("InvalidName", sentence, "Choose another name.", "name")
    if LandingServer.objects.living().filter(name__iexact=name).exists():
        return Refusal("NameTaken", f"There is a landing server {name} already.", "Choose another name.", "name")
    return None


def _row(wanted: Wanted) -> LandingServer:
    engine = offering().get(wanted.engine)
    if engine is None:
        raise Refusal("RestoreNotOffered", "This engine restores on no landing server.", "Choose another.", "engine")
    row = LandingServer(
        name=wanted.name.strip(),
        region=wanted.region,
        engine=wanted.engine,
        host=wanted.host.strip(),
        port=wanted.port or engine.capabilities.default_port,
        username=wanted.username,
        tls=wanted.tls,
        share_called=wanted.called.strip(),
        share_folder=wanted.folder.strip(),
        registered_at=clock.now(),
    )
    if not Path(row.share_folder).is_absolute():
        raise Refusal("ShareNotHere", "The folder begins with a /.", "Enter its whole path.", "share_folder")
    row.sealed_password = secrets.seal(wanted.password.encode(), identity_of(row))
    return row


def identity_of(row: LandingServer) -> str:
    """Return what the sealed password is bound to: moving it to another row makes it unreadable."""
    return f"landing:{row.code}"


def connection_of(row: LandingServer) -> Connection:
    """Return how to reach it, the address pinned by the network door, the password opened; raises Refusal."""
    return Connection(
        host=row.host,
        port=row.port,
        username=row.username,
        password=secrets.open_sealed(bytes(row.sealed_password or b""), identity_of(row)).decode(),
        tls=row.tls,
        hostaddr=reaching.pinned(row.host, row.port),
    )


# ---- looking


def _look(row: LandingServer) -> LandingFacts:
    inspect = engine_of(row.engine).inspect_landing
    return inspect(connection_of(row), share_called=row.share_called, share_folder=Path(row.share_folder))


def _write(row: LandingServer, found: LandingFacts) -> None:
    row.version, row.databases, row.certificates = found.version, list(found.databases), list(found.certificates)
    row.bytes_free, row.notes, row.is_simulation = found.bytes_free, list(found.notes), found.is_simulation
    row.error = row.remedy = ""
    row.looked_at = clock.now()


def look(row: LandingServer) -> Refusal | None:
    """Look at it again and write down what that tells; return what is wrong, None when nothing is. Repeatable."""
    refusal, known = None, set(row.certificates)
    try:
        _write(row, _look(row))
    except Refusal as said:
        refusal = said
        row.error, row.remedy, row.looked_at = said.sentence, said.remedy, clock.now()
    told = ["version", "databases", "certificates", "bytes_free", "notes", "is_simulation", "error", "remedy"]
    row.save(update_fields=[*told, "looked_at"])
    if changed := known ^ set(row.certificates):
        certificate_book.settle(row.region_id, *changed)
    return refusal


def retry(row: LandingServer, by: By) -> Refusal | None:
    """Look at it because somebody asks, and leave an event."""
    refusal = look(row)
    word = f"failed its look: {refusal.sentence}" if refusal else "answered"
    _record("looked_at", f"The landing server {row.name} {word}.", row, by)
    return refusal


def look_around(region_id: str) -> None:
    """Look at every landing server of a region; one that does not answer does not hold up the others."""
    for row in LandingServer.objects.living().filter(region=region_id):
        try:
            look(row)
        except Exception:  # with its traceback; the next one is somebody else's
            log.exception("could not look at a landing server", extra={"landing": row.code})


def in_trouble() -> dict[str, dict]:
    """Return the alerts about landing servers that nothing can be restored on, by subject."""
    return {
        f"landing:{row.pk}": {
            "sentence": f"Nothing can be restored on the landing server {row.name}: {row.error}",
            "remedy": row.remedy,
        }
        for row in LandingServer.objects.living().exclude(error="")
    }


# ---- who may use it, and until when


def usable_by(group_id: int | OuterRef, engine: str | OuterRef) -> QuerySet[LandingServer]:
    """Return the landing servers of an engine that a resource group was granted."""
    return LandingServer.objects.living().filter(engine=engine, groups=group_id).select_related("region")


def usable_for(instance: Instance) -> QuerySet[LandingServer]:
    return usable_by(instance.group_id, instance.engine)


def grant(row: LandingServer, groups: Iterable[ResourceGroup], by: By) -> None:
    """Say which resource groups may restore onto it; what they restored there stays theirs."""
    with transaction.atomic():
        row.groups.set(groups)
        named = ", ".join(row.groups.order_by("name").values_list("name", flat=True)) or "nobody"
        _record("granted", f"The landing server {row.name} may be used by: {named}.", row, by)


def why_not_retire(row: LandingServer) -> Refusal | None:
    """Return what still needs it: a restore under way, or a database that Farshore is to be able to remove."""
    standing = Restore.objects.filter(landing=row, state__in=Restore.HELD)
    if count := standing.count():
        said = f"{count} restored databases stand on {row.name}, or are on their way there."
        return Refusal("LandingInUse", said, "Remove them first, or write them off where the server is gone.")
    return None


def retire(row: LandingServer, by: By) -> None:
    """Use it no more; its password is forgotten. Safe to repeat; raises Refusal."""
    with transaction.atomic():
        locked = LandingServer.objects.select_for_update().get(pk=row.pk)
        if locked.retired_at:
            return
        if refusal := why_not_retire(locked):
            raise refusal
        LandingServer.objects.filter(pk=row.pk).update(retired_at=clock.now(), sealed_password=None)
        _record("retired", f"The landing server {row.name} was retired.", row, by)
    certificate_book.settle(row.region_id, *row.certificates)
    row.refresh_from_db()


def _record(what: str, sentence: str, row: LandingServer, by: By) -> None:
    events.record(f"landing.{what}", sentence, by=by, landing=row.code)
