"""Whose bill is read: the month and the lines that one person asked for and may see."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from urllib.parse import urlencode

from django.http import Http404, HttpRequest
from django.urls import reverse

from backups import access
from backups.models import Instance
from billing import bills
from billing.bills import Cost, Month
from billing.models import ItemCode
from billing.statements import Line, Statement
from console.bills.forms import BillFilter
from console.widgets.labels import translated
from console.widgets.shell import chosen_region
from regions import clock
from regions.models import Region

NOBODY = -1  # an id that no instance has
CLOSED_SHOWN, OPEN_SHOWN = 12, 2  # in the chart: a month that ended stays open some hours


class NoSuchBill(Http404):
    """A month was asked for that has no bill."""


class Reading:
    """Raises PermissionDenied for who reads no bills, NoSuchBill for a month that has none."""

    def __init__(self, request: HttpRequest) -> None:
        self.groups = access.groups_billed_to(request.user)
        self.user = request.user
        self.at: datetime = clock.now()
        self.filter = BillFilter(request.GET)
        self.region = chosen_region(request)
        self.months = bills.months(self.at)
        self.month = self._month(request.GET.get("month", ""))

    def _month(self, asked: str) -> Month:
        found = next((one for one in self.months if not asked or named(one.begin) == asked), None)
        if found is None:
            raise NoSuchBill("There is no bill of that month.")
        return found

    @cached_property
    def bill(self) -> Statement:
        """What is asked for, and may be seen, of the month."""
        found = bills.bill(self.month, self.at, self.groups, self._instance_id())
        return bills.narrowed(found, self.filter.kept(self._here(found)))

    def _here(self, found: Statement) -> tuple[Line, ...]:
        if self.region is None:
            return found.lines
        return tuple(line for line in found.lines if line.instance_region == self.region.pk)

    def _instance_id(self) -> int | None:
        """Return the instance that is named, so that no other's facts are added up; None: any."""
        code = self.filter.wanted("instance")
        if not code:
            return None
        return Instance.objects.filter(code=code).values_list("pk", flat=True).first() or NOBODY

    # ---- the months before

    def costs(self) -> dict[datetime, dict[ItemCode, Cost]]:
        """Return what the last months came to by item code, the oldest first, whatever the filter says."""
        closed = [one for one in self.months if one.closed][:CLOSED_SHOWN]
        opened = [one for one in self.months if not one.closed][:OPEN_SHOWN]
        region = self.region.pk if self.region else ""
        found = bills.closed_costs(closed, self.groups, region)
        found |= {one.begin: bills.costs(self._whole(one)) for one in opened}
        return dict(sorted(found.items()))

    def _whole(self, month: Month) -> Statement:
        if month is self.month and not self.filter.said:
            return self.bill
        found = bills.bill(month, self.at, self.groups)
        return bills.narrowed(found, self._here(found))

    # ---- names and addresses

    @cached_property
    def region_names(self) -> dict[str, str]:
        return {region.pk: translated(region.name) for region in Region.objects.all()}

    def sees(self, instance_id: int) -> bool:
        """Whether this person may look at the instance: it may have moved away since the month was closed."""
        return access.instances_for(self.user).filter(pk=instance_id).exists()

    def address(self, page: str, *arguments: str, **change: str) -> str:
        """Return the address of a page of this tab, of the same month and lines but for what is changed."""
        said = {"month": named(self.month.begin)} | self.filter.said | change
        return f"{reverse(f'bills:{page}', args=arguments)}?{urlencode({key: say for key, say in said.items() if say})}"


def named(month: datetime) -> str:
    """Return a month as an address names it."""
    return f"{month:%Y-%m}"
