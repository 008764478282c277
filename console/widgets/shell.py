"""What stands around every page: the region in the top bar, the open alerts, who is signed in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest

from backups import access
from backups.models import Alert, Role
from regions.models import Region

ALERTS_SHOWN = 3
ALL = "all"
PLACES_IN_A_LIST = ("after", "before", "page")
TROUBLED = Q(alerts__closed_at=None, alerts__id__gt=0)


@dataclass(frozen=True)
class RegionLine:
    region: Region
    instances: int
    needs_you: int


def chosen_region(request: HttpRequest) -> Region | None:
    """Return the region chosen in the top bar, None for all; ?region= chooses, the session remembers."""
    if not hasattr(request, "_chosen_region"):
        asked = request.GET.get("region", request.session.get("region", ALL))
        region = None if asked == ALL else Region.objects.shown().filter(pk=asked[:50].replace("\0", "")).first()
        if "region" in request.GET:
            request.session["region"] = region.pk if region else ALL
        request._chosen_region = region
    return request._chosen_region


class Shell:
    """Asked for lazily: a fragment that shows none of it costs no query."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request

    @cached_property
    def region(self) -> Region | None:
        return chosen_region(self.request)

    @cached_property
    def regions(self) -> list[RegionLine]:
        """Regions where this person has instances or that hold a store, with how many of them have an open alert."""
        seen = (
            access.instances_for(self.request.user)
            .living()
            .order_by()
            .values("region")
            .annotate(n=Count("pk", distinct=True), troubled=Count("pk", filter=TROUBLED, distinct=True))
        )
        counts = {row["region"]: row for row in seen}
        shown = Region.objects.shown().filter(Q(pk__in=counts) | Q(stores__detached_at=None, stores__id__gt=0))
        return [_line(region, counts.get(region.pk)) for region in shown.distinct()]

    @property
    def kept_query(self) -> str:
        """What this page is asked for, for a link to it in another region; where its list was open is not kept."""
        query = self.request.GET.copy()
        for name in ("region", *PLACES_IN_A_LIST):
            query.pop(name, None)
        return f"{query.urlencode()}&" if query else ""

    @cached_property
    def alerts(self) -> list[Alert]:
        return list(access.alerts_for(self.request.user).select_related("instance")[: ALERTS_SHOWN + 1])

    @property
    def shown_alerts(self) -> list[Alert]:
        return self.alerts[:ALERTS_SHOWN]

    @property
    def has_more_alerts(self) -> bool:
        return len(self.alerts) > ALERTS_SHOWN

    @cached_property
    def roles(self) -> set[str]:
        """Every role that this person has in any group."""
        return access.roles_of(self.request.user)

    @property
    def has_bills(self) -> bool:
        """Whether this person reads the bills of any group."""
        return Role.BILLING in self.roles

    @property
    def belongs_nowhere(self) -> bool:
        """Whether nobody has given this person a role yet: every list is empty then, and it should say why."""
        return not self.roles

    @property
    def initials(self) -> str:
        user = self.request.user
        names = [user.first_name, user.last_name] if user.first_name and user.last_name else [user.get_username()]
        return ("".join(name[0] for name in names) if len(names) > 1 else names[0][:2]).upper()

    @property
    def section(self) -> str:
        match = self.request.resolver_match
        return match.app_name if match else ""


def shell(request: HttpRequest) -> dict[str, Any]:
    """Context processor."""
    user = getattr(request, "user", None)
    return {"shell": Shell(request)} if user is not None and user.is_authenticated else {}


def _line(region: Region, counted: dict[str, Any] | None) -> RegionLine:
    return RegionLine(region, counted["n"] if counted else 0, counted["troubled"] if counted else 0)
