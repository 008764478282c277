"""A month's statement, by what R-4 says of each line; the open month from the facts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, transaction

from backups.models import (
    CopiedFile,
    Copy,
    CopyPolicy,
    CopyState,
    Instance,
    ResourceGroup,
    StorageSpan,
    Transfer,
)
from billing.models import DownloadCharge, ItemCode
from billing.statements import Line, by_instance, by_item, by_resource_group, by_route, statement
from regions.models import Store
from tests.billing.facts import GB, START, backup_of, copy_of, download_of, instance_in, policy_of, reprice

pytestmark = pytest.mark.django_db

DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
TO = "ap-southeast-1"
ROUTE = {"source": "cn-beijing", "destination": TO}


def month(year: int, number: int) -> datetime:
    return datetime(year, number, 1, tzinfo=UTC)


MARCH, APRIL = month(2027, 3), month(2027, 4)


def the_line(item: ItemCode, begin: datetime = MARCH, at: datetime | None = None) -> Line:
    (found,) = [line for line in statement(begin, at or begin + 40 * DAY).lines if line.item == item]
    return found


def lines_of(item: ItemCode, begin: datetime = MARCH) -> list[Line]:
    return [line for line in statement(begin, begin + 40 * DAY).lines if line.item == item]


def copied(
    gigabytes: int, at: datetime = START, days: float = 1, to: str = TO, instance: Instance | None = None
) -> Copy:
    """A set that was copied at once and is kept so many days."""
    instance = instance or Instance.objects.first() or instance_in()
    return copy_of(backup_of(instance, at, gigabytes * GB), policy_of(instance, to), days=days)


# ---- storage


def test_a_hundred_gigabytes_for_a_day_are_48_cents() -> None:
    copied(100)
    line = the_line(ItemCode.STORAGE)
    assert (line.quantity, line.unit) == (100 * GB * 86_400, "byte-seconds")
    assert (line.amount, line.prices, line.sentence) == (Decimal("0.48"), (Decimal("0.000200"),), "")
    assert line.charged == line.quantity


def test_a_leap_february_has_29_days_and_another_has_28() -> None:
    copied(1, datetime(2028, 1, 20, tzinfo=UTC), days=60)
    assert the_line(ItemCode.STORAGE, month(2028, 2)).quantity == GB * 29 * 86_400
    copied(1, datetime(2027, 1, 20, tzinfo=UTC), days=60)
    assert the_line(ItemCode.STORAGE, month(2027, 2)).quantity == GB * 28 * 86_400


def test_a_copy_over_the_end_of_a_year_stands_in_both_months_and_in_none_twice() -> None:
    copied(10, datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC), days=1)
    last, first = the_line(ItemCode.STORAGE, month(2027, 12)), the_line(ItemCode.STORAGE, month(2028, 1))
    assert (last.quantity, first.quantity) == (10 * GB, 10 * GB * 86_399)
    assert not statement(month(2028, 2), month(2028, 4)).lines


def test_the_moment_a_month_ends_belongs_to_the_next() -> None:
    copied(1, APRIL, days=1)
    assert not lines_of(ItemCode.STORAGE, MARCH) and not lines_of(ItemCode.TRAFFIC, MARCH)
    assert the_line(ItemCode.STORAGE, APRIL).quantity == GB * 86_400
    assert the_line(ItemCode.TRAFFIC, APRIL).quantity == GB


def test_what_expired_and_was_undone_is_charged_in_two_stretches_and_not_between() -> None:
    copy = copied(1, days=7)
    StorageSpan.objects.filter(copy=copy).update(ended_at=START + DAY)
    StorageSpan.objects.create(copy=copy, bytes=GB, began_at=START + 2 * DAY)
    Copy.objects.update(expires_at=START + 4 * DAY)
    assert the_line(ItemCode.STORAGE).quantity == GB * 3 * 86_400
    assert the_line(ItemCode.TRAFFIC).quantity == GB, "coming back brings nothing over the network"


def test_a_damaged_copy_costs_nothing_from_then_on() -> None:
    copy = copied(1, days=7)
    StorageSpan.objects.filter(copy=copy).update(ended_at=START + HOUR)
    Copy.objects.update(state=CopyState.DAMAGED, verification="damaged")
    assert the_line(ItemCode.STORAGE).quantity == GB * 3600
    assert the_line(ItemCode.TRAFFIC).quantity == GB, "its bytes were carried once"


def test_a_sweep_that_comes_days_late_changes_nothing() -> None:
    copy = copied(1, days=7)
    before = the_line(ItemCode.STORAGE)
    StorageSpan.objects.filter(copy=copy).update(ended_at=copy.expires_at)
    assert the_line(ItemCode.STORAGE) == before


def test_a_date_that_was_moved_into_the_past_ends_the_charge_when_it_was_moved_swept_or_not() -> None:
    copied(1, days=20)
    moved = START + 10 * DAY
    Copy.objects.update(expires_at=START + 7 * DAY, brought_forward_at=moved)
    unswept = the_line(ItemCode.STORAGE)
    StorageSpan.objects.update(ended_at=moved)
    assert the_line(ItemCode.STORAGE) == unswept
    assert unswept.quantity == GB * 10 * 86_400


def test_hidden_sets_of_a_second_store_cost_while_they_are_visible_and_have_no_traffic() -> None:
    """R-18.2: within the region; hidden: the span is closed, and back again from the day it is shown."""
    instance = instance_in()
    policy = CopyPolicy.objects.create(
        instance=instance, kind="intra_region", source_region_id="cn-beijing", destination_id="cn-beijing"
    )
    second = Store.objects.create(region_id="cn-beijing", role="second", url="file:///second", attached_at=START)
    copy = copy_of(backup_of(instance), policy, days=30)
    Copy.objects.update(destination_store=second)
    StorageSpan.objects.filter(copy=copy).update(ended_at=START + DAY)
    StorageSpan.objects.create(copy=copy, bytes=GB, began_at=START + 5 * DAY, ended_at=START + 6 * DAY)
    (line,) = statement(MARCH, APRIL).lines
    assert (line.item, line.route, line.quantity) == (
        ItemCode.STORAGE,
        ("cn-beijing", "cn-beijing"),
        2 * GB * 86_400,
    )


def test_an_open_month_counts_until_now() -> None:
    copied(100, days=7)
    assert the_line(ItemCode.STORAGE, at=START + DAY).amount == Decimal("0.48")
    assert the_line(ItemCode.STORAGE, at=START + 2 * DAY).amount == Decimal("0.96")


# ---- traffic


def test_each_byte_of_a_completed_copy_is_charged_once_by_its_route() -> None:
    copied(100)
    copied(10, START + HOUR, to="cn-shanghai")
    first, second = lines_of(ItemCode.TRAFFIC)
    assert (first.destination, first.quantity, first.amount) == (TO, 100 * GB, Decimal("19.00"))
    assert (second.destination, second.quantity, second.amount) == ("cn-shanghai", 10 * GB, Decimal("0.75"))
    assert first.unit == "bytes"


@pytest.mark.parametrize("state", [CopyState.CANCELLED, CopyState.FAILED, CopyState.COPYING, CopyState.PLANNED])
def test_a_copy_that_did_not_complete_is_not_charged_however_much_of_it_was_sent(state: CopyState) -> None:
    copy = copied(10)
    StorageSpan.objects.all().delete()
    reason = "by_a_person" if state == CopyState.CANCELLED else ""
    Copy.objects.update(state=state, completed_at=None, cancel_reason=reason)
    transfer_of(copy, state="uploading", sent=8 * GB)
    assert statement(MARCH, APRIL).lines == ()


def test_sets_in_one_file_are_charged_once_with_the_first_of_them() -> None:
    first = copied(10)
    beside = copy_of(backup_of(first.set.instance, START + HOUR, 10 * GB), first.policy)
    Copy.objects.filter(pk=beside.pk).update(stored_bytes=0)
    StorageSpan.objects.filter(copy=beside).update(bytes=0)
    assert the_line(ItemCode.TRAFFIC).quantity == 10 * GB
    assert the_line(ItemCode.STORAGE).quantity == 10 * GB * 86_400


def transfer_of(copy: Copy, state: str = "verified", sent: int = 0, again: int = 0, at: datetime = START) -> Transfer:
    file = copy.set.files.get()
    number = Transfer.objects.count()
    ended = {"verified_at": at} if state == "verified" else {"ended_at": at} if state == "cleaned" else {}
    transfer = Transfer.objects.create(
        file=file,
        store=copy.destination_store,
        key=f"{file.pk}/{number}",
        state=state,
        fence=1,
        size=file.size,
        bytes_sent=sent,
        bytes_resent=again,
        started_at=at,
        **ended,
    )
    if state == "verified":
        CopiedFile.objects.create(copy=copy, file=file, transfer=transfer)
    return transfer


def test_what_was_sent_again_after_a_fault_is_shown_and_not_charged() -> None:
    copy = copied(10)
    transfer_of(copy, sent=10 * GB, again=3 * GB)
    transfer_of(copy, "cleaned", sent=4 * GB, at=START - HOUR)
    line = the_line(ItemCode.TRAFFIC)
    assert (line.quantity, line.charged, line.resent_bytes, line.amount) == (10 * GB, 10 * GB, 7 * GB, Decimal("1.90"))
    assert "sent again" in line.sentence


def test_what_replaces_a_damaged_copy_is_sent_again_after_a_fault_and_stored_as_any_other() -> None:
    damaged = copied(10, days=7)
    StorageSpan.objects.filter(copy=damaged).update(ended_at=START + DAY)
    gone = {"expired_at": START + 2 * DAY, "deleted_at": START + 3 * DAY}
    Copy.objects.update(state=CopyState.DELETED, verification="damaged", **gone)
    copy_of(damaged.set, damaged.policy, at=START + 4 * DAY, days=5)
    line = the_line(ItemCode.TRAFFIC)
    assert (line.quantity, line.resent_bytes, line.amount) == (10 * GB, 10 * GB, Decimal("1.90"))
    assert the_line(ItemCode.STORAGE).quantity == 10 * GB * 2 * 86_400


def test_a_set_that_is_copied_anew_after_its_copy_was_rightly_deleted_is_charged_again() -> None:
    former = copied(10, days=1)
    Copy.objects.update(state=CopyState.DELETED, expired_at=START + DAY, deleted_at=START + 2 * DAY)
    StorageSpan.objects.update(ended_at=START + DAY)
    copy_of(former.set, former.policy, at=START + 4 * DAY, days=5)
    assert the_line(ItemCode.TRAFFIC).quantity == 20 * GB


def test_what_a_rebuilt_catalogue_found_is_metered_from_then_on_and_its_way_is_not_charged_again() -> None:
    copied(10, days=7)
    StorageSpan.objects.update(began_at=START + 3 * DAY)
    (line,) = statement(MARCH, APRIL).lines
    assert (line.item, line.quantity) == (ItemCode.STORAGE, 10 * GB * 4 * 86_400)


def test_a_price_that_changes_charges_each_copy_by_that_of_its_moment() -> None:
    """R-4.5; and the line is one, rounded once."""
    reprice(ItemCode.TRAFFIC, ("0.005", MARCH, START + DAY), ("0.006", START + DAY, None), **ROUTE)
    copied(1, START + DAY - SECOND)
    copied(1, START + DAY)
    line = the_line(ItemCode.TRAFFIC)
    assert line.prices == (Decimal("0.005"), Decimal("0.006"))
    assert line.amount == Decimal("0.01"), "1.1 cents; two roundings would have made two"


def test_a_route_without_a_price_says_so_and_the_rest_is_added_up_without_it() -> None:
    reprice(ItemCode.TRAFFIC, **ROUTE)
    copied(100)
    line = the_line(ItemCode.TRAFFIC)
    assert (line.amount, line.quantity, line.prices) == (None, 100 * GB, ())
    assert "No price" in line.sentence
    total = statement(MARCH, APRIL)
    assert (total.amount, total.unpriced) == (Decimal("0.48"), 1)


def test_a_storage_price_of_its_own_region_goes_before_the_general_one() -> None:
    reprice(ItemCode.STORAGE, ("0.0004", MARCH, None), source="cn-beijing", destination="")
    copied(100)
    copied(100, instance=instance_in("eu-west-1", "ledger"))
    assert [line.amount for line in lines_of(ItemCode.STORAGE)] == [Decimal("0.96"), Decimal("0.48")]


# ---- downloads


@pytest.mark.parametrize(
    ("region", "amount"),
    [("cn-beijing", "12.50"), ("cn-hangzhou-finance", "12.50"), ("cn-hongkong", "15.00"), ("eu-west-1", "15.00")],
)
def test_after_500_gb_a_gigabyte_costs_what_the_instances_region_says(region: str, amount: str) -> None:
    found = backup_of(instance_in(region), size=600 * GB)
    download_of(found, START, region="us-east-1")
    line = the_line(ItemCode.DOWNLOAD)
    assert (line.quantity, line.free_bytes, line.charged) == (600 * GB, 500 * GB, 100 * GB)
    assert (line.source, line.destination, line.amount) == ("us-east-1", "", Decimal(amount))


def test_the_quota_is_each_instances_and_each_months() -> None:
    one, other = backup_of(instance_in(), size=300 * GB), backup_of(instance_in(name="ledger"), size=300 * GB)
    for at in (START, APRIL - SECOND, APRIL, APRIL + HOUR):
        download_of(one, at)
        download_of(other, at)
    for begin in (MARCH, APRIL):
        lines = lines_of(ItemCode.DOWNLOAD, begin)
        assert [(line.free_bytes, line.charged) for line in lines] == [(500 * GB, 100 * GB)] * 2


def test_the_quota_goes_to_what_was_delivered_first_wherever_it_lay() -> None:
    found = backup_of(instance_in(), size=400 * GB)
    download_of(found, START + HOUR, region="us-east-1")
    download_of(found, START, region="cn-beijing")
    assert [(line.source, line.free_bytes, line.charged) for line in lines_of(ItemCode.DOWNLOAD)] == [
        ("cn-beijing", 400 * GB, 0),
        ("us-east-1", 100 * GB, 300 * GB),
    ]


def test_through_the_internal_address_it_is_free_and_takes_nothing_from_the_quota() -> None:
    found = backup_of(instance_in(), size=600 * GB)
    download_of(found, START, address="internal")
    assert statement(MARCH, APRIL).lines == ()
    download_of(found, START + HOUR)
    assert the_line(ItemCode.DOWNLOAD).charged == 100 * GB


def test_a_link_is_charged_once_and_what_was_charged_stays() -> None:
    found = backup_of(instance_in())
    charge = download_of(found, START, link="a")
    for change in (
        lambda: download_of(found, START, link="a"),
        lambda: DownloadCharge.objects.update(bytes=0),
        charge.delete,
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            change()
    assert the_line(ItemCode.DOWNLOAD).amount == Decimal("0.00")


# ---- adding lines


def test_every_other_grouping_adds_lines_and_rounds_nothing() -> None:
    """Three lines of half a cent are 3 cents by every way of adding them."""
    for name in ("orders", "ledger", "stock"):
        instance = instance_in(name=name)
        copied(25, days=1 / 24, instance=instance)
    reprice(ItemCode.TRAFFIC, ("0", MARCH, None), **ROUTE)
    found = statement(MARCH, APRIL)
    assert found.amount == Decimal("0.03")
    assert [total.amount for total in by_instance(found.lines).values()] == [Decimal("0.01")] * 3
    assert by_route(found.lines)["cn-beijing", TO].amount == Decimal("0.03")
    assert by_item(found.lines)[ItemCode.STORAGE].amount == Decimal("0.03")
    (group,) = by_resource_group(found.lines).values()
    assert group.amount == Decimal("0.03")
    assert group.quantity(ItemCode.STORAGE) == 75 * GB * 3600


def test_who_asks_for_some_instances_is_told_of_no_others() -> None:
    mine, group = instance_in(), ResourceGroup.objects.create(name="Others")
    theirs = Instance.objects.create(name="theirs", group=group, region_id="cn-beijing", engine="sqlserver")
    for instance in (mine, theirs):
        download_of(copied(10, instance=instance).set, START)
    found = statement(MARCH, APRIL, Instance.objects.filter(group=group))
    assert {line.instance_id for line in found.lines} == {theirs.pk}
    assert len(found.lines) == 3
    assert statement(MARCH, APRIL, Instance.objects.none()).lines == ()
    assert len(statement(MARCH, APRIL).lines) == 6


def test_a_date_means_its_utc_month() -> None:
    copied(1)
    assert statement(START.date(), APRIL).begin == MARCH
    assert statement(START.date(), APRIL).lines == statement(MARCH, APRIL).lines


def test_half_a_cent_that_three_prices_make_together_is_rounded_up(settings: object) -> None:
    """R-4.1: rounded once. Each of the three costs goes on for ever after its point; they add up to 0.005 exactly."""
    settings.GB = 1
    first, second = START + 39_986 * SECOND, START + 79_972 * SECOND
    reprice(ItemCode.STORAGE, ("0.0002", MARCH, first), ("0.0002", first, second), ("0.0002", second, None))
    copy_of(backup_of(instance_in(), START, 1), policy_of(Instance.objects.get()), days=90_000 / 86_400)
    line = the_line(ItemCode.STORAGE)
    assert (line.quantity, line.amount) == (90_000, Decimal("0.01"))
