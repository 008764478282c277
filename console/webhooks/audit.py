"""That what webhooks promise holds. Each check yields its breaches, as backups.oversight.audit's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.db.models import Count

from console.webhooks import endpoints, standing
from console.webhooks.models import Delivery, Endpoint, FormerSecret
from regions import clock
from regions.refusals import Refusal

LONG = timedelta(minutes=15)  # nobody need be this late, also where many receivers hang


def breaches() -> Iterator[tuple[str, str]]:
    """Yield (what, sentence) for everything found wrong; nothing yielded means everything held."""
    for name, check in CHECKS.items():
        for sentence in check():
            yield name, sentence


def forgotten_messages() -> Iterator[str]:
    """What could be sent is sent, and what has happened is found."""
    at = clock.now()
    late = standing.ready(at).filter(ready_at__lt=at - LONG).order_by().values("endpoint__code")
    for row in late.annotate(n=Count("pk")).order_by("endpoint__code"):
        yield f"nobody sends what webhook {row['endpoint__code']} is to be told: {row['n']} waiting"
    for endpoint in Endpoint.objects.enabled().filter(looked_at__lt=at - LONG):
        yield f"nobody has looked what to tell webhook {endpoint.code} since {endpoint.looked_at.isoformat()}"


def told_though_off() -> Iterator[str]:
    """Nothing waits for a webhook that is disabled or removed."""
    waiting = Delivery.objects.filter(state=Delivery.State.WAITING, endpoint__disabled_at__isnull=False)
    for delivery in waiting.select_related("endpoint").iterator(1000):
        yield f"{delivery.message_id} waits for webhook {delivery.endpoint.code}, which is disabled"


def owners_without_rights() -> Iterator[str]:
    """Whoever has a webhook on may send out what happens; it hears nothing otherwise, and somebody relies on it."""
    for endpoint in Endpoint.objects.enabled().select_related("user").iterator(1000):
        if not (endpoint.user.is_active and endpoints.may_make(endpoint.user)):
            yield f"webhook {endpoint.code} is enabled, and its owner {endpoint.user} may send nothing out any more"


def sealed_for_good() -> Iterator[str]:
    """The secrets of a webhook that is kept can be opened, and one that was removed has none (I18)."""
    at = clock.now()
    for endpoint in Endpoint.objects.kept().iterator(1000):
        try:
            endpoints.secrets_of(endpoint, at)
        except Refusal as refusal:
            yield f"a secret of webhook {endpoint.code} cannot be opened: {refusal.sentence}"
    for former in FormerSecret.objects.filter(endpoint__removed_at__isnull=False).select_related("endpoint"):
        yield f"webhook {former.endpoint.code} was removed and has a secret still"


CHECKS = {
    "webhooks sent": forgotten_messages,
    "webhooks off": told_though_off,
    "webhooks owned": owners_without_rights,
    "I18 webhooks' secrets": sealed_for_good,
}
