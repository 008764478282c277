"""What stands beside an instance's databases (logins, jobs, linked servers), recorded with each full and kept where its
copies go: a database without its logins is not back (`engines.facts.Surroundings`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.db import transaction

from backups import bell, events
from backups.engines import engine_of
from backups.engines.facts import Surroundings
from backups.events import By
from backups.models import BackupSet, Instance, ServerScript
from backups.servers import reaching
from regions import clock, secrets
from regions.refusals import Refusal

log = logging.getLogger(__name__)
LOOKS_APART = timedelta(hours=1)
KEPT = 50  # states of one instance; the newest goes to the destinations


def are_told(instance: Instance) -> bool:
    return bool(instance.host) and not instance.released and engine_of(instance.engine).look_around is not None


def is_due(instance: Instance) -> bool:
    """Whether the server can be asked, and its last answer is an hour old."""
    newest = newest_of(instance) if are_told(instance) else None
    return are_told(instance) and (newest is None or newest.seen_at <= clock.now() - LOOKS_APART)


def record_if_due(instance: Instance) -> None:
    """Ask the server when it is due; a backup must not fail for it, and one that does not answer is asked again."""
    if not is_due(instance):
        return
    try:
        record(instance)
    except Refusal as refusal:
        log.warning("script not recorded", extra={"instance": instance.code, "reason": str(refusal)})
    except Exception:  # an answer that nobody has thought of
        log.exception("script not recorded", extra={"instance": instance.code})


def record(instance: Instance) -> ServerScript:
    """Ask the server and keep what it says where it has changed; raises Refusal."""
    return keep(instance, engine_of(instance.engine).look_around(reaching.connection_of(instance)))


def keep(instance: Instance, seen: Surroundings) -> ServerScript:
    digest, at = hashlib.sha256(seen.script.encode()).hexdigest(), clock.now()
    with transaction.atomic():
        Instance.objects.select_for_update(no_key=True).get(pk=instance.pk)
        newest = newest_of(instance)
        if newest and newest.sha256 == digest:
            ServerScript.objects.filter(pk=newest.pk).update(seen_at=at)
            return newest
        row = ServerScript(instance=instance, sha256=digest, first_seen_at=at, seen_at=at)
        row.names, row.notes = {kind: list(names) for kind, names in seen.names.items()}, list(seen.notes)
        row.sealed = secrets.seal(seen.script.encode(), identity_of(row))
        row.save()
        _forget_the_oldest(instance)
        said = f"What stands beside the databases of {instance.name} was recorded: {in_words(row)}."
        events.record("server_script.recorded", said, instance=instance, script=row.pk)
        bell.ring_state(instance.pk)
    return row


def _forget_the_oldest(instance: Instance) -> None:
    kept = instance.scripts.order_by("-first_seen_at", "-pk").values("pk")[:KEPT]
    instance.scripts.exclude(pk__in=kept).delete()


def newest_of(instance: Instance, until: datetime | None = None) -> ServerScript | None:
    found = instance.scripts.order_by("-first_seen_at", "-pk")
    return (found.filter(first_seen_at__lte=until) if until else found).first()


def of_set(found: BackupSet) -> ServerScript | None:
    """Return what stood beside the database when its backup ended; the earliest that is known where that is later."""
    return (
        newest_of(found.instance, found.finished_at) or found.instance.scripts.order_by("first_seen_at", "pk").first()
    )


def read(row: ServerScript, by: By) -> str:
    """Open the script for a person, which leaves an event: it may hold hashes of passwords."""
    script = secrets.open_sealed(bytes(row.sealed), identity_of(row)).decode()
    events.record("server_script.read", f"The script of {row.instance.name} was read.", by=by, instance=row.instance)
    return script


def identity_of(row: ServerScript) -> str:
    """Return what the sealed script is bound to: moving it to another row makes it unreadable."""
    return f"server-script:{row.instance.code}:{row.sha256}"


def missing(row: ServerScript, there: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return, by kind, what stood beside the databases and a new server does not have; {} when it has all."""
    found = {kind: sorted(set(names) - set(there.get(kind, ()))) for kind, names in row.names.items()}
    return {kind: names for kind, names in found.items() if names}


def missing_in_words(row: ServerScript, there: Mapping[str, Sequence[str]]) -> list[str]:
    """Say what is missing, a sentence for each kind, and where to get it."""
    lacking = missing(row, there)
    said = [f"Not on this server yet, {WORDS.get(kind, kind)}: {', '.join(names)}." for kind, names in lacking.items()]
    return [*said, "The script on the set's page makes them, certificates excepted."] if said else []


WORDS = {"login": "logins", "job": "jobs", "linked_server": "linked servers", "certificate": "certificates"}


def in_words(row: ServerScript) -> str:
    counted = [f"{len(names)} {WORDS.get(kind, kind)}" for kind, names in row.names.items()]
    return ", ".join(counted) or "nothing"
