"""What a download over the Internet costs: 500 GB of each instance's UTC month are free, then by the GB (R-4.3).

The sums are pure; `quote` asks the tables for what the dialog shows before OK.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db.models import Sum

from backups.models import Instance
from billing.amounts import estimated, traffic_cost
from billing.metering import month_of
from billing.models import DownloadCharge, ItemCode, Price
from billing.prices import price_of


@dataclass(frozen=True)
class DownloadFee:
    """What one download of `bytes` takes from the free quota and costs. `amount` None: it is charged without a price.

    `free_left`: what the instance's month still had before it. `charged_bytes` is what the quota leaves; network plans
    cover `offset_bytes` of it, and `amount` is for the rest.
    """

    bytes: int
    free_left: int
    free_bytes: int
    charged_bytes: int
    price: Decimal | None
    amount: Decimal | None
    offset_bytes: int = 0

    def with_offset(self, offset_bytes: int) -> DownloadFee:
        """Return the fee once network plans cover so many of the bytes that the quota leaves."""
        left = self.charged_bytes - offset_bytes
        return replace(self, offset_bytes=offset_bytes, amount=_amount(left, self.price))


def quota() -> int:
    """Return the bytes that are free for each instance and UTC month."""
    return settings.FREE_DOWNLOAD_GB * settings.GB


def free_left(downloaded_bytes: int) -> int:
    """Return what is left of the free quota once so much has been downloaded in the month."""
    return max(0, quota() - downloaded_bytes)


def fee_of(size: int, downloaded_bytes: int, price: Decimal | None) -> DownloadFee:
    """Return the fee of `size` bytes after `downloaded_bytes` of the same instance and month; estimated."""
    left = free_left(downloaded_bytes)
    free = min(size, left)
    charged = size - free
    return DownloadFee(size, left, free, charged, price, _amount(charged, price))


def _amount(charged: int, price: Decimal | None) -> Decimal | None:
    return Decimal("0.00") if charged == 0 else None if price is None else estimated(traffic_cost(charged, price))


def downloaded_this_month(instance: Instance, at: datetime) -> int:
    """Return the bytes delivered whole over the Internet since the first of the month."""
    begin, end = month_of(at)
    mine = DownloadCharge.objects.filter(instance=instance, address=DownloadCharge.Address.INTERNET)
    return mine.filter(at__gte=begin, at__lt=end).aggregate(total=Sum("bytes"))["total"] or 0


def price_for(instance: Instance, at: datetime) -> Price | None:
    """Return the price of the instance's region; where the bytes lie does not decide."""
    return price_of(ItemCode.DOWNLOAD, instance.region, at=at)


def quote(instance: Instance, size: int, at: datetime) -> DownloadFee:
    """Return what it would cost if it were delivered now, before a network plan pays for it."""
    price = price_for(instance, at)
    return fee_of(size, downloaded_this_month(instance, at), price.amount if price else None)
