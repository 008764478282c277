"""While a source region is not there, what lies elsewhere is the only copy: nothing of it is expired or erased (I19).

A region is gone while the store of its instances is not as it should be, whatever the reason. For one grace after it is
back nothing is erased and nothing is concluded from what was not seen meanwhile: a backup could not have arrived.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q, QuerySet

from backups.models import SourceOutage
from regions.models import Store

UNSEEN = timedelta(minutes=15)  # nobody has looked for so long, while other stores were looked at


def note(at: datetime) -> None:
    """Write down which source stores have gone and which are back; safe to repeat."""
    gone = _gone_stores()
    for store in gone:
        SourceOutage.objects.get_or_create(store=store, ended_at=None, defaults={"began_at": at})
    SourceOutage.objects.filter(ended_at=None).exclude(store__in=gone).update(ended_at=at)


def presume(at: datetime) -> int:
    """Take a store for unreachable that nobody has looked at for long: with a region its workers go too.

    Only while other stores are looked at; where nobody looks at any, Farshore itself was away.
    """
    stores = Store.objects.attached().filter(state=Store.State.OK)
    if not stores.filter(probed_at__gt=at - UNSEEN / 3).exists():
        return 0
    return stores.filter(probed_at__lte=at - UNSEEN).update(
        state=Store.State.UNREACHABLE,
        last_error=f"No worker of its region has looked at it for {UNSEEN.seconds // 60} minutes.",
    )


def regions() -> set[str]:
    """Return the source regions that are gone now."""
    gone = set(_gone_stores().values_list("region", flat=True))
    return gone | set(SourceOutage.objects.filter(ended_at=None).values_list("store__region", flat=True))


def regions_until(at: datetime) -> set[str]:
    """Return the source regions that are gone, or have not been back for one whole grace."""
    grace = timedelta(seconds=settings.PURGE_GRACE_SECONDS)
    lately = SourceOutage.objects.filter(Q(ended_at=None) | Q(ended_at__gt=at - grace))
    return regions() | set(lately.values_list("store__region", flat=True))


def _gone_stores() -> QuerySet[Store]:
    return Store.objects.attached().filter(role=Store.Role.PRIMARY).exclude(state=Store.State.OK)
