"""What is due is sent: claimed one by one under a fence, posted outside any transaction, written down, tried again.

At least once: the worker may die between the POST and the row, and then the same message ID goes out again. One run at
a time in the whole installation, so that addresses that hang hold up one slot of one worker and none of the copies;
within it each endpoint has a thread of its own, and one that fails is left alone for a while.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import uniform

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q

from backups import alerts
from console.webhooks import endpoints, posting, signing, turns
from console.webhooks.audience import audience_of, may_learn_what_listens
from console.webhooks.models import Attempt, Delivery, Endpoint
from console.webhooks.posting import GONE, Outcome
from regions import clock
from regions.refusals import Refusal

log = logging.getLogger(__name__)
RUN_SECONDS = 10  # nothing new is begun after it; what was begun ends within WAIT_SECONDS (turns.LEASE is longer)
AT_ONCE = 32  # threads that wait for somebody else's machine
WAIT_SECONDS = posting.TOTAL_SECONDS + 5  # longer than any POST, unless a name is being resolved
LEASE = timedelta(seconds=60)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
# A little under a day and a half, in which a person has had a morning.
PAUSES = (MINUTE / 2, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 10 * HOUR, 15 * HOUR)
LONGEST_PAUSE_SECONDS = 600  # of an endpoint that fails, before anything else of it is tried
GIVEN_UP_AFTER = timedelta(days=5)
AGENT = "Farshore-Webhooks/1"

State = Delivery.State


@dataclass(frozen=True)
class Claim:
    """One delivery in our hands, and the attempt that was written down for it."""

    delivery: Delivery
    attempt: Attempt


def deliver_due(run_seconds: float = RUN_SECONDS) -> int:
    """Send what is due for as long as a run may take; return how many attempts were made. Safe to run beside itself."""
    with turns.turn() as mine:
        return _Run(time.monotonic() + run_seconds).work() if mine else 0


class _Run:
    """The threads only post; every row is written by the one that started them."""

    def __init__(self, ends_at: float) -> None:
        self.ends_at, self.made = ends_at, 0
        self.underway: dict[Future[Outcome], tuple[Claim, float]] = {}
        self.hands = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook")

    def work(self) -> int:
        try:
            for pk in _due():
                while len(self.underway) >= AT_ONCE:
                    self._settle_some()
                self._begin(pk)
            while self.underway:
                self._settle_some()
        finally:
            # A thread that still waits for a name ends by itself, unheard.
            self.hands.shutdown(wait=False, cancel_futures=True)
        return self.made

    def _begin(self, pk: int) -> None:
        """Claim the endpoint's next one and hand it to a thread."""
        if time.monotonic() >= self.ends_at or (claim := claim_next(pk)) is None:
            return
        self.made += 1
        try:
            prepared = prepare(claim)
        except Refusal as refusal:  # its secret cannot be opened: nothing to send, and somebody has to know
            _settled(claim, Outcome(None, refusal.sentence, 0))
            return
        tells_why = may_learn_what_listens(claim.delivery.endpoint.user)
        future = self.hands.submit(posting.post, *prepared, tells_why=tells_why)
        self.underway[future] = claim, time.monotonic() + WAIT_SECONDS

    def _settle_some(self) -> None:
        done, _ = wait(self.underway, timeout=1, return_when=FIRST_COMPLETED)
        at = time.monotonic()
        for future in [one for one, (_, until) in self.underway.items() if one in done or at > until]:
            claim, _ = self.underway.pop(future)
            outcome = _outcome_of(future) if future in done else Outcome(None, "It did not answer in time.", 0)
            if _settled(claim, outcome) and outcome.is_taken:
                self._begin(claim.delivery.endpoint_id)


def _outcome_of(future: Future[Outcome]) -> Outcome:
    """One receiver's surprise is a failure of its own, and nobody else's."""
    if error := future.exception():
        log.error("webhook not sent", exc_info=error)
        return Outcome(None, "It could not be sent.", 0)
    return future.result()


def _settled(claim: Claim, outcome: Outcome) -> bool:
    try:
        return settle(claim, outcome)
    except Exception:  # with its traceback; its lease runs out, and the others in flight are still written down
        log.exception("webhook not settled", extra={"message": claim.delivery.message_id})
        return False


# ---- claiming


def _free(at: datetime) -> Q:
    return Q(leased_until=None) | Q(leased_until__lt=at)


def _due() -> list[int]:
    """Return the endpoints for which something is due, those that have been well first."""
    at = clock.now()
    due = Delivery.objects.filter(_free(at), endpoint=OuterRef("pk"), state=State.WAITING, due_at__lte=at)
    ready = Endpoint.objects.enabled().filter(Q(paused_until=None) | Q(paused_until__lte=at), Exists(due))
    well_first = ("failures", F("last_delivered_at").desc(nulls_last=True), "paused_until", "pk")
    return list(ready.order_by(*well_first).values_list("pk", flat=True))


def claim_next(endpoint_pk: int) -> Claim | None:
    """Take the endpoint's next due delivery under a new fence, and write the attempt down; None when there is none.

    What its owner may no longer hear of is dropped on the way. Of an endpoint that somebody has locked none is taken:
    what came of it could not be written down, and a machine that vanished may have locked it for hours.
    """
    while True:
        with transaction.atomic():
            if not endpoints.lock(endpoint_pk, waits=False):
                return None
            at = clock.now()
            delivery = (
                Delivery.objects.select_for_update(skip_locked=True, of=("self",), no_key=True)
                .filter(_free(at), endpoint=endpoint_pk, state=State.WAITING, due_at__lte=at)
                .filter(endpoint__disabled_at=None)
                .select_related("endpoint__user", "instance")
                .order_by("due_at", "pk")
                .first()
            )
            if delivery is None:
                return None
            if audience_of(delivery.endpoint).may_hear(delivery):
                return _claimed(delivery, at)
            delivery.state, delivery.why, delivery.ended_at = State.DROPPED, "Its owner may not see this any more.", at
            delivery.save(update_fields=["state", "why", "ended_at"])


def _claimed(delivery: Delivery, at: datetime) -> Claim:
    delivery.fence, delivery.attempts, delivery.leased_until = delivery.fence + 1, delivery.attempts + 1, at + LEASE
    delivery.save(update_fields=["fence", "attempts", "leased_until"])
    return Claim(delivery, Attempt.objects.create(delivery=delivery, fence=delivery.fence, began_at=at))


def prepare(claim: Claim) -> tuple[str, dict[str, str], bytes]:
    """Return where it goes, its headers and its body; raises Refusal when no secret can be opened."""
    endpoint, at, body = claim.delivery.endpoint, claim.attempt.began_at, claim.delivery.body.encode()
    secrets = endpoints.secrets_of(endpoint, at)
    signed = signing.headers(secrets, claim.delivery.message_id, int(at.timestamp()), body)
    return endpoint.url, {"Content-Type": "application/json", "User-Agent": AGENT, **signed}, body


# ---- settling


def settle(claim: Claim, outcome: Outcome) -> bool:
    """Write down what came of it, under the fence; False when it is somebody else's by now (I15)."""
    at = clock.now()
    told = {"status": outcome.status, "error": outcome.error, "milliseconds": outcome.milliseconds, "ended_at": at}
    with transaction.atomic():
        endpoints.lock(claim.delivery.endpoint_id)
        Attempt.objects.filter(pk=claim.attempt.pk, ended_at=None).update(**told)
        mine = Delivery.objects.filter(pk=claim.delivery.pk, fence=claim.delivery.fence, state=State.WAITING)
        last = {"leased_until": None, "last_status": outcome.status, "last_error": outcome.error}
        if not mine.update(**last, **_next(claim.delivery, outcome, at)):
            return False
        _mark(claim.delivery.endpoint_id, outcome, at)
    if not outcome.is_taken:
        _despair(claim.delivery.endpoint_id, outcome, at)
    return True


def _next(delivery: Delivery, outcome: Outcome, at: datetime) -> dict[str, object]:
    if outcome.is_taken:
        return {"state": State.DELIVERED, "ended_at": at}
    if delivery.attempts > len(PAUSES):
        return {"state": State.FAILED, "ended_at": at, "why": f"It was tried {delivery.attempts} times."}
    return {"due_at": at + PAUSES[delivery.attempts - 1] * uniform(1, 1.1)}


def _mark(endpoint_pk: int, outcome: Outcome, at: datetime) -> None:
    row = Endpoint.objects.filter(pk=endpoint_pk)
    if outcome.is_taken:
        row.update(failures=0, failing_since=None, paused_until=None, last_delivered_at=at)
        return
    row.filter(failing_since=None).update(failing_since=at)
    failures = row.values_list("failures", flat=True)[0]
    pause = min(30 * 2 ** min(failures, 10), LONGEST_PAUSE_SECONDS)
    row.update(failures=F("failures") + 1, paused_until=at + timedelta(seconds=pause))


def _despair(endpoint_pk: int, outcome: Outcome, at: datetime) -> None:
    """Disable an endpoint that says it is gone, or with which nothing has worked for days."""
    endpoint = Endpoint.objects.select_related("user").get(pk=endpoint_pk)
    host = posting.host_of(endpoint.url)
    if outcome.status == GONE:
        _give_up(endpoint, f"{host} answered 410: it is gone for good.")
    elif endpoint.failing_since and at - endpoint.failing_since >= GIVEN_UP_AFTER:
        since = f"{endpoint.failing_since:%Y-%m-%d %H:%M}"
        _give_up(endpoint, f"{host} has taken nothing since {since} UTC. {outcome.error}")
    log.info("webhook not taken", extra={"webhook": endpoint.code, "host": host, "reason": outcome.error})


def _give_up(endpoint: Endpoint, why: str) -> None:
    with transaction.atomic():
        if endpoints.disable_by_itself(endpoint, why):
            said = f"The webhook {endpoint.name} of {endpoint.user} was disabled: {why}"
            remedy = "When it answers again, enable it on the page of webhooks; or remove it there."
            subject = endpoints.subject_of(endpoint)
            alerts.open_alert(endpoints.FAILING, subject, said, remedy=remedy, user=endpoint.user)
