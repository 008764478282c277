"""Asking servers in the background how their databases stand, what stands beside them, and what backups they remember
(R-3.5, R-6.1).

Every side of every instance has a row that says when it is due; whoever claims it asks. Several are asked at once, none
for longer than a bell may take, and one that does not answer is asked less often: it holds up no other, and concludes
nothing (I19).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import QuerySet

from backups.default_backups import spoken_for
from backups.engines import ENGINES, engine_of
from backups.engines.facts import DatabaseStanding, HistoryPage, Surroundings
from backups.events import speakable
from backups.logs import log_gaps
from backups.models import Instance, ServerLook
from backups.servers import reaching, remembering, server_scripts, standings
from regions import clock
from regions.refusals import Refusal

log = logging.getLogger(__name__)

EVERY = timedelta(seconds=50)  # due again when the next bell rings, a minute later
LONGEST_PAUSE = timedelta(minutes=10)
LEASE = timedelta(minutes=3)  # a worker that died asking is taken over from after that
SILENT = timedelta(minutes=10)
AT_ONCE = 4
SECONDS = 45.0  # a bell takes no longer, whoever does not answer
MOST_PAGES = 20  # of one look; what is more comes with the next
PRIMARY = ServerLook.Side.PRIMARY


@dataclass
class Answer:
    """What one server said; `refusal` why it said no more. `standings` None: it was not asked, or did not answer."""

    standings: list[DatabaseStanding] | None = None
    surroundings: Surroundings | None = None
    pages: list[HistoryPage] = field(default_factory=list)
    refusal: Refusal | None = None

    @property
    def is_whole(self) -> bool:
        return self.refusal is None and bool(self.pages) and self.pages[-1].is_last


def told_engines() -> list[str]:
    return [name for name, engine in ENGINES.items() if engine.inspect_databases is not None]


def regions_with_servers() -> list[str]:
    """Return the regions in which servers are asked."""
    return list(_told().order_by().values_list("region", flat=True).distinct())


def _told() -> QuerySet[Instance]:
    return Instance.objects.living().filter(engine__in=told_engines()).exclude(host="")


def ask_due(region_id: str, seconds: float = SECONDS) -> int:
    """Ask every server of a region that is due, as far as the time goes; returns how many answered."""
    _keep_rows(region_id)
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="asking")
    asked: dict[Future[Answer], ServerLook] = {}
    try:
        for look in _claimed(region_id):
            wants_script = look.side == PRIMARY and server_scripts.is_due(look.instance)
            asked[pool.submit(_ask, look, clock.now() - remembering.KEPT, wants_script)] = look
        wait(asked, timeout=seconds)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    for future, look in asked.items():
        if future.cancelled():  # its turn did not come: it is the first at the next bell
            ServerLook.objects.filter(pk=look.pk).update(due_at=look.due_at)
    return sum(_take_in(look, _answer_of(future)) for future, look in asked.items() if not future.cancelled())


def _keep_rows(region_id: str) -> None:
    """See to it that each side that can be asked has its row, and no other has."""
    at = clock.now()
    instances = list(_told().filter(region=region_id))
    wanted = [(one.pk, PRIMARY) for one in instances]
    # Of a secondary only its group's databases count, and the primary says which these are.
    wanted += [(one.pk, ServerLook.Side.SECONDARY) for one in instances if one.secondary_host and one.databases_seen_at]
    there = ServerLook.objects.filter(instance__region=region_id)
    known = {(look.instance_id, look.side): look.pk for look in there}
    rows = [ServerLook(instance_id=pk, side=side, due_at=at) for pk, side in wanted if (pk, side) not in known]
    ServerLook.objects.bulk_create(rows, ignore_conflicts=True)
    there.filter(pk__in=[look for where, look in known.items() if where not in set(wanted)]).delete()


def _claimed(region_id: str) -> Iterator[ServerLook]:
    """Yield what is due and nobody else's, who has waited longest first; the primary before its secondary."""
    at = clock.now()
    due = ServerLook.objects.filter(instance__region=region_id, due_at__lte=at).order_by("due_at", "side", "pk")
    for look in due.select_related("instance"):
        mine = ServerLook.objects.filter(pk=look.pk, due_at=look.due_at)
        if mine.update(due_at=at + LEASE, asked_at=at):
            look.asked_at = at
            yield look


# ---- on the wire; nothing here touches our own database


def _ask(look: ServerLook, since: datetime, wants_script: bool) -> Answer:
    """Ask one server; raises nothing: a refusal is part of the answer."""
    answer, engine = Answer(), engine_of(look.instance.engine)
    try:
        connection = reaching.connection_of(look.instance, look.side)
        if look.side == PRIMARY:
            answer.standings = engine.inspect_databases(connection)
        if wants_script:
            answer.surroundings = engine.look_around(connection)
        while engine.read_history and len(answer.pages) < MOST_PAGES:
            cursor = answer.pages[-1].cursor if answer.pages else look.cursor
            answer.pages.append(engine.read_history(connection, cursor, since=since))
            if answer.pages[-1].is_last:
                break
    except Refusal as refusal:
        answer.refusal = refusal
    return answer


def _answer_of(future: Future[Answer]) -> Answer:
    if not future.done():
        said = "The server did not answer in the time there was."
        return Answer(refusal=Refusal("NoAnswer", said, "See how busy it is, and the network to it."))
    try:
        return future.result()
    except Exception:  # with its traceback; the next server is somebody else's
        log.exception("server not understood")
        return Answer(refusal=Refusal("NotUnderstood", "What the server said was not understood.", "See the log."))


# ---- what was said


def _take_in(look: ServerLook, answer: Answer) -> bool:
    """Write down what a server said; True when it answered all that it was asked."""
    try:
        _write(look, answer)
    except Exception:  # one server's odd names must not end the looks at all the others
        log.exception("answer not storable", extra={"instance": look.instance.code})
        answer.refusal = Refusal("NotStorable", "What the server said could not be written down.", "See the log.")
    _note(look, answer)
    return answer.refusal is None


def _write(look: ServerLook, answer: Answer) -> None:
    instance, at = look.instance, clock.now()
    if answer.standings is not None:
        standings.write(instance, answer.standings)
    if answer.surroundings is not None:
        server_scripts.keep(instance, answer.surroundings)
    for page in answer.pages:
        remembering.keep(look, page, at)
    if answer.is_whole:
        ServerLook.objects.filter(pk=look.pk).update(read_until=look.asked_at)
    remembering.tidy(instance)
    spoken_for.adopt(instance)
    log_gaps.name_breakers(instance)


def _note(look: ServerLook, answer: Answer) -> None:
    row, at = ServerLook.objects.filter(pk=look.pk), clock.now()
    if answer.refusal is None:
        row.update(answered_at=at, failures=0, failing_since=None, error="", due_at=look.asked_at + EVERY)
        return
    failures = look.failures + 1
    error = speakable(f"{answer.refusal.sentence} {answer.refusal.remedy}".strip())
    pause = min(LONGEST_PAUSE, EVERY * 2 ** min(failures - 1, 6))
    since = look.failing_since or at
    row.update(failures=failures, failing_since=since, error=error, due_at=at + pause)


# ---- who is silent


def silent(at: datetime) -> dict[str, dict]:
    """Return the alerts, by subject, of servers that have not answered for a while."""
    looks = ServerLook.objects.filter(failing_since__lte=at - SILENT, instance__released_at=None)
    return {
        f"server:{look.instance_id}:{look.side}": {
            "sentence": f"{_whose(look)} has not answered since {look.failing_since:%Y-%m-%d %H:%M} UTC, or not all"
            " that it was asked: what is known of its databases may be as old.",
            "remedy": look.error,
            "instance": look.instance,
        }
        for look in looks.select_related("instance")
    }


def _whose(look: ServerLook) -> str:
    return look.instance.name if look.side == PRIMARY else f"The secondary of {look.instance.name}"
