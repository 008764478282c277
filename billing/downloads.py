"""What a download costs, before it and after it: the meter is read, each whole file charged once (R-4.3, I17)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from django.db import transaction
from django.db.models import CharField, OuterRef, Subquery, Sum, Value
from django.db.models.functions import Cast, Concat

from backups import downloads
from backups.downloads import Handout
from backups.events import By
from backups.models import Copy, Download, DownloadLink, Transfer
from billing import covering, download_fees, statements
from billing.download_fees import DownloadFee
from billing.metering import month_of
from billing.models import DownloadCharge
from billing.statements import Fetched
from regions import clock

NAMED = "download {}"  # what a charge calls the meter that it is of


def quote(copy: Copy, at: datetime) -> DownloadFee:
    """Return what fetching all files of a copy over the Internet costs now: as the statement would charge it."""
    transfers = Transfer.objects.filter(copied_files__copy=copy)
    size, instance = transfers.aggregate(total=Sum("size"))["total"] or 0, copy.set.instance
    fee = download_fees.quote(instance, size, at)
    price = download_fees.price_for(instance, at) if fee.charged_bytes else None
    if price is None:
        return fee
    region = copy.destination_store.region_id
    return fee.with_offset(covering.of_one_more(instance.pk, region, fee.charged_bytes, price, at))


def ask(copy: Copy, by: By, address: str, *, learnt: bool) -> list[Handout]:
    """Make links to the files of a copy, for who has learnt what they cost; raises Refusal and PermissionDenied."""
    return downloads.ask(copy, by, address, learnt=learnt)


def begin(link: DownloadLink, first: int, end: int, address: str) -> Meter | None:
    """Begin one answer to a link; None when it has become void."""
    with transaction.atomic():
        meter = downloads.begin(link, first, end, address)
        return meter and Meter(meter)


class Meter:
    """A meter whose download is charged in the very transaction in which its last byte is counted."""

    def __init__(self, meter: downloads.Meter) -> None:
        self._meter = meter

    @property
    def handed(self) -> int:
        return self._meter.handed

    def count(self, arrived: int, sent: int) -> None:
        with transaction.atomic():
            charge(self._meter.count(arrived, sent))

    def end(self, arrived: int, sent: int) -> None:
        with transaction.atomic():
            charge(self._meter.end(arrived, sent))


def charge(download: Download) -> None:
    """Write the charge of a download that is whole; nothing where it is written, so it is safe to repeat."""
    if download.whole_at is None:
        return
    copy = Copy.objects.select_related("set", "destination_store").get(pk=download.copy_id)
    row = DownloadCharge(
        link=NAMED.format(download.pk),
        instance_id=copy.set.instance_id,
        set=copy.set,
        copy=copy,
        file_id=download.file_id,
        region_id=copy.destination_store.region_id,
        address=download.address,
        bytes=download.size,
        at=clock.now(),
    )
    DownloadCharge.objects.bulk_create([row], ignore_conflicts=True)


def settle() -> int:
    """Look once more at downloads whose last answer never told its end, and charge those that are whole after all."""
    count = 0
    for download in downloads.unsettled():
        with transaction.atomic():
            found = downloads.settle(download)
            charge(found)
        count += found.whole_at is not None
    return count


def breaches() -> Iterator[str]:
    """I17: what is whole was charged once, by its size; nothing else was; a meter is the sum of its stretches."""
    named = Concat(Value(NAMED.format("")), Cast("pk", CharField()))
    charges = DownloadCharge.objects.filter(link=OuterRef("named"))
    for row in Download.objects.annotate(named=named, charged=Subquery(charges.values("bytes"))).iterator(2000):
        if row.charged != (row.size if row.whole_at else None):
            yield f"download {row.pk} is {row.delivered_bytes} of {row.size} bytes, and {row.charged} were charged"
        if sum(end - first for first, end in row.ranges) != row.delivered_bytes:
            yield f"download {row.pk} has counted {row.delivered_bytes} bytes, which are not those of its stretches"


def fetched_of(rows: Iterable[Download]) -> dict[int, Fetched]:
    """Return, by its number, each whole download over the Internet as the statement charges it (R-4.3)."""
    named = {NAMED.format(row.pk): row.pk for row in rows if row.whole_at}
    charges = DownloadCharge.objects.filter(link__in=named, address=Download.Address.INTERNET)
    numbers = {charge.pk: named[charge.link] for charge in charges}
    months = {(month_of(charge.at), charge.instance_id) for charge in charges}
    found = (one for month, instance in months for one in statements.fetched_between(*month, instance))
    return {numbers[one.charge_id]: one for one in found if one.charge_id in numbers}


def meters_of(charges: Iterable[DownloadCharge]) -> dict[int, Download]:
    """Return the meter of each charge, by the charge's number; of one that no meter bears out (the audit says) none."""
    beginning = NAMED.format("")
    numbers = {charge.pk: charge.link.removeprefix(beginning) for charge in charges}
    named = {pk: int(number) for pk, number in numbers.items() if number.isdecimal()}
    found = Download.objects.select_related("user").in_bulk(named.values())
    return {pk: found[number] for pk, number in named.items() if number in found}
