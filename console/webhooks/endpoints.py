"""Endpoints: made, changed, given a new secret, disabled, removed. A secret is returned once and kept sealed (I18)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import Now
from django.http import Http404

from backups import access, alerts, events, seals
from backups.events import FARSHORE, By
from backups.models import ResourceGroup
from console.webhooks import bodies, posting, signing
from console.webhooks.audience import MAKERS, visible_to
from console.webhooks.models import CHOSEN, Delivery, Endpoint, FormerSecret, Kind
from regions import clock, secrets
from regions.refusals import Refusal

MOST = 20  # of one person
FORMER_KEPT = timedelta(hours=24)
FORMER_MOST = 5  # at once: each is one more signature in every message
FAILING = "webhook_failing"


@dataclass(frozen=True)
class Wish:
    """What an endpoint is. `groups` None: every group of its owner, also those that are still to come."""

    name: str
    url: str
    kinds: Sequence[str]
    groups: Sequence[ResourceGroup] | None = None


@dataclass(frozen=True)
class NewSecret:
    """An endpoint and the only time its secret is told."""

    endpoint: Endpoint
    secret: str


def endpoints_for(user: Any) -> QuerySet[Endpoint]:
    """Return a person's own; who runs the installation sees everybody's."""
    rows = Endpoint.objects.kept().select_related("user", "disabled_by").prefetch_related("groups").order_by("-pk")
    return rows if access.may_run_installation(user) else rows.filter(user=user)


def endpoint_for(user: Any, code: str) -> Endpoint:
    """Return the endpoint with `former_until`: until when a former secret signs as well, None when none does."""
    former = FormerSecret.objects.filter(endpoint=OuterRef("pk"), until__gt=Now()).order_by("-until")
    latest = Subquery(former.values("until")[:1])
    found = endpoints_for(user).annotate(former_until=latest).filter(code=code).first()
    if found is None:
        raise Http404("No such webhook.")
    return found


def deliveries_for(user: Any, endpoint: Endpoint) -> QuerySet[Delivery]:
    """Return the log of an endpoint, without what this person may not see (any more)."""
    return endpoint.deliveries.filter(visible_to(user)).select_related("instance")


def may_make(user: Any) -> bool:
    return access.may_run_installation(user) or access.groups_for(user, *MAKERS).exists()


# ---- made and changed


def create(owner: Any, wish: Wish, by: By) -> NewSecret:
    """Make an endpoint of `owner`; it hears of what happens from now on. Raises Refusal."""
    url = _checked(owner, wish)
    with transaction.atomic():
        if Endpoint.objects.kept().filter(user=owner).count() >= MOST:
            raise Refusal("TooManyWebhooks", f"One person has at most {MOST} webhooks.", "Remove one of them.")
        at, secret = clock.now(), signing.new_secret()
        endpoint = Endpoint(user=owner, name=wish.name.strip(), url=url, kinds=_ordered(wish.kinds), created_at=at)
        endpoint.sealed_secret = secrets.seal(secret.encode(), endpoint.identity)
        endpoint.is_limited = wish.groups is not None
        endpoint.sequence, endpoint.since, endpoint.looked_at = seals.head()[0], at, at
        endpoint.save()
        endpoint.groups.set(wish.groups or [])
        _record("created", f"{by.name} made the webhook {_named(endpoint)}: {_words(endpoint)}.", endpoint, by)
    return NewSecret(endpoint, secret)


def change(endpoint: Endpoint, wish: Wish, by: By) -> None:
    """Change where it goes and what it hears of; raises Refusal. Only its owner: it speaks in their name."""
    _require_owner(endpoint, by)
    url = _checked(endpoint.user, wish)
    with transaction.atomic():
        locked = _locked(endpoint)
        if locked.is_limited and wish.groups is None:
            said = "It hears of some resource groups only, and none of them is ticked."
            raise Refusal("GroupsMissing", said, "Tick those it is to hear of; for all of them add another.", "groups")
        locked.name, locked.url, locked.kinds = wish.name.strip(), url, _ordered(wish.kinds)
        locked.is_limited = wish.groups is not None
        locked.save(update_fields=["name", "url", "kinds", "is_limited"])
        locked.groups.set(wish.groups or [])
        _record("changed", f"{by.name} changed the webhook {_named(locked)}: {_words(locked)}.", locked, by)


def rotate(endpoint: Endpoint, by: By) -> NewSecret:
    """Give it a new secret; each former one signs for a day, so that a receiver need not change at once.

    Raises Refusal when as many sign already as may: none of them is cut off before its day is over.
    """
    _require_owner(endpoint, by)
    with transaction.atomic():
        locked = _locked(endpoint)
        at, secret = clock.now(), signing.new_secret()
        _require_room_for_a_secret(locked, at)
        locked.former_secrets.create(sealed=locked.sealed_secret, until=at + FORMER_KEPT)
        locked.sealed_secret, locked.rotated_at = secrets.seal(secret.encode(), locked.identity), at
        locked.save(update_fields=["sealed_secret", "rotated_at"])
        said = f"{by.name} gave the webhook {_named(locked)} a new secret; the old one signs until a day later."
        _record("rotated", said, locked, by)
    return NewSecret(locked, secret)


def _require_room_for_a_secret(endpoint: Endpoint, at: datetime) -> None:
    until = sorted(endpoint.former_secrets.filter(until__gt=at).values_list("until", flat=True))
    if len(until) >= FORMER_MOST:
        raise Refusal(
            "RotatedTooOften",
            f"It was given {FORMER_MOST} new secrets within a day, and each that they replaced still signs.",
            f"Wait until {until[0]:%Y-%m-%d %H:%M} UTC, when the first of those ends, or add another webhook.",
        )


def secrets_of(endpoint: Endpoint, at: datetime) -> list[str]:
    """Return the secrets that sign now, the newest first."""
    former = endpoint.former_secrets.filter(until__gt=at).order_by("-pk").values_list("sealed", flat=True)
    sealed = [endpoint.sealed_secret, *former]
    return [secrets.open_sealed(bytes(one), endpoint.identity).decode() for one in sealed]


# ---- off and on


def disable(endpoint: Endpoint, by: By) -> bool:
    """Send nothing to it from now on; False when it was disabled already."""
    return _disable(endpoint, by, f"{by.name} disabled it.")


def disable_by_itself(endpoint: Endpoint, why: str) -> bool:
    return _disable(endpoint, FARSHORE, why)


def _disable(endpoint: Endpoint, by: By, why: str) -> bool:
    with transaction.atomic():
        lock(endpoint.pk)
        at = clock.now()
        enabled = Endpoint.objects.enabled().filter(pk=endpoint.pk)
        if not enabled.update(disabled_at=at, disabled_by=by.user, disabled_why=why):
            return False
        _drop_waiting(endpoint, at, "The webhook was disabled.")
        _record("disabled", f"The webhook {_named(endpoint)} was disabled. {why}", endpoint, by)
    return True


def why_not_enable(endpoint: Endpoint, user: Any) -> Refusal | None:
    """Return why this person may not enable it again: what somebody else disabled had a reason."""
    if endpoint.disabled_by_id in (None, user.pk) or access.may_run_installation(user):
        return None
    said = f"{endpoint.disabled_by} disabled this webhook."
    return Refusal("DisabledByAnother", said, "Ask them to enable it again.")


def enable(endpoint: Endpoint, by: By) -> bool:
    """Let it hear of what happens from now on; raises Refusal. False when it was not disabled."""
    with transaction.atomic():
        locked = _locked(endpoint)
        if refusal := why_not_enable(locked, by.user):
            raise refusal
        if locked.is_enabled:
            return False
        _require_maker(locked.user)
        locked.disabled_at, locked.disabled_by, locked.disabled_why = None, None, ""
        locked.failures, locked.failing_since, locked.paused_until = 0, None, None
        locked.sequence, locked.since = seals.head()[0], clock.now()
        locked.looked_at = locked.since
        locked.save()
        alerts.close_alert(FAILING, subject_of(locked))
        _record("enabled", f"{by.name} enabled the webhook {_named(locked)} again.", locked, by)
    return True


def remove(endpoint: Endpoint, by: By) -> None:
    """Take it away with its secret; what was sent stays in its log, for the admin."""
    with transaction.atomic():
        locked, at = _locked(endpoint), clock.now()
        locked.removed_at, locked.sealed_secret = at, b""
        locked.former_secrets.all().delete()
        locked.disabled_at = locked.disabled_at or at
        locked.disabled_why = locked.disabled_why or f"{by.name} removed it."
        locked.save()
        _drop_waiting(locked, at, "The webhook was removed.")
        alerts.close_alert(FAILING, subject_of(locked))
        _record("removed", f"{by.name} removed the webhook {_named(locked)}.", locked, by)


def _drop_waiting(endpoint: Endpoint, at: datetime, why: str) -> None:
    waiting = endpoint.deliveries.filter(state=Delivery.State.WAITING)
    waiting.update(state=Delivery.State.DROPPED, why=why, ended_at=at, leased_until=None)


# ---- sent by hand


def send_test(endpoint: Endpoint, by: By) -> Delivery:
    """Send a test at the next sweep; raises Refusal."""
    with transaction.atomic():
        _require_enabled(_locked(endpoint))
        delivery = bodies.ping(endpoint, clock.now(), by.name)
        delivery.save()
        Endpoint.objects.filter(pk=endpoint.pk).update(paused_until=None)
        _record("tested", f"{by.name} sent a test to the webhook {_named(endpoint)}.", endpoint, by)
    return delivery


def send_again(delivery: Delivery, by: By) -> None:
    """Send it once more under the same message ID, whatever became of it; raises Refusal."""
    endpoint = delivery.endpoint
    with transaction.atomic():
        _require_enabled(_locked(endpoint))
        at = clock.now()
        over = Delivery.objects.filter(pk=delivery.pk).exclude(state=Delivery.State.WAITING)
        again = {"state": Delivery.State.WAITING, "why": "", "due_at": at, "attempts": 0, "ended_at": None}
        if not over.update(**again):
            waiting = Delivery.objects.filter(pk=delivery.pk, leased_until=None).update(due_at=at)
            if not waiting:
                raise Refusal("BeingSent", "It is being sent at this moment.", "Look again in a few seconds.")
        Endpoint.objects.filter(pk=endpoint.pk).update(paused_until=None)
        said = f"{by.name} sent {delivery.message_id} to the webhook {_named(endpoint)} again."
        _record("sent_again", said, endpoint, by, message=delivery.message_id)


def _require_enabled(endpoint: Endpoint) -> None:
    if not endpoint.is_enabled:
        raise Refusal("WebhookDisabled", "This webhook is disabled.", "Enable it first.")


# ---- parts


def subject_of(endpoint: Endpoint) -> str:
    return f"webhook:{endpoint.pk}"


def _require_owner(endpoint: Endpoint, by: By) -> None:
    if by.user != endpoint.user:
        raise Refusal("NotTheOwner", f"Only {endpoint.user} can do this with their webhook.", "Ask them to.")


def _require_maker(owner: Any) -> None:
    if not may_make(owner):
        raise Refusal(
            "MayNotSendOut",
            "Webhooks carry what happens out of Farshore; looking at it is not enough for that.",
            "Ask an operator, or whoever answers for security or costs.",
        )


def lock(pk: int, *, waits: bool = True) -> bool:
    """Whoever changes deliveries of an endpoint, and the endpoint, locks it first; so nobody waits for each other.

    False when it is not there, or somebody else has it and this one does not wait.
    """
    locked = Endpoint.objects.select_for_update(no_key=True, skip_locked=not waits)
    return bool(locked.filter(pk=pk).values_list("pk"))


def _locked(endpoint: Endpoint) -> Endpoint:
    kept = Endpoint.objects.kept().select_for_update(no_key=True, of=("self",)).select_related("user")
    found = kept.filter(pk=endpoint.pk).first()
    if found is None:
        raise Refusal("WebhookRemoved", "This webhook was removed.", "")
    return found


def _checked(owner: Any, wish: Wish) -> str:
    """Return the URL as it is kept; raises Refusal with what speaks against the wish."""
    _require_maker(owner)
    if not wish.kinds or not set(wish.kinds) <= set(CHOSEN):
        raise Refusal("InvalidKinds", "A webhook hears of something.", "Choose among what can happen.", "kinds")
    mine = set(access.groups_for(owner, *MAKERS).values_list("pk", flat=True))
    if wish.groups is not None and any(group.pk not in mine for group in wish.groups):
        raise Refusal("NotTheirGroup", f"{owner} does not belong to that resource group.", "Choose another.", "groups")
    return posting.checked(wish.url)


def _ordered(kinds: Sequence[str]) -> list[str]:
    return [kind.value for kind in Kind if kind in kinds]


def _named(endpoint: Endpoint) -> str:
    return f"{endpoint.name} ({endpoint.code})"


def _words(endpoint: Endpoint) -> str:
    return f"{', '.join(endpoint.kinds)} to {posting.host_of(endpoint.url)}"


def _record(what: str, sentence: str, endpoint: Endpoint, by: By, **data: Any) -> None:
    host = posting.host_of(endpoint.url)
    events.record(f"webhook.{what}", sentence, by=by, webhook=endpoint.code, host=host, **data)
