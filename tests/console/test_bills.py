"""The tab "Bills": who sees which lines, that every split adds up, the copies behind a line, files, and paper (R-4)."""

from __future__ import annotations

import csv
import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backups.models import Instance, Membership, ResourceGroup, Role, StorageSpan
from billing import closing, statements
from billing.bills import Cost
from billing.models import ClosedStatement, ItemCode
from billing.statements import statement
from console.bills.chart import FOOT, TOP, ceiling, chart
from console.widgets import words
from regions import clock
from tests.billing.facts import (
    DAY,
    GB,
    START,
    backup_of,
    copy_of,
    download_of,
    instance_in,
    plan_of,
    policy_of,
    reprice,
)
from tests.console.books import reader

pytestmark = pytest.mark.django_db

MARCH, APRIL = (datetime(2027, number, 1, tzinfo=UTC) for number in (3, 4))
NOW = APRIL + 15 * DAY
PAGES = ("bills:page", "bills:lines", "bills:print")
BEHIND = ("bills:copies", "bills:downloads")
SPLITS = ("instance", "route", "item", "group")
FILES = ("csv", "json", "focus")
EVIL = "=cmd|' /C calc'!A0"


@pytest.fixture
def teams() -> tuple[ResourceGroup, ResourceGroup]:
    return ResourceGroup.objects.get_or_create(name="Team")[0], ResourceGroup.objects.create(name="Other team")


@pytest.fixture
def books(teams: tuple[ResourceGroup, ResourceGroup], monkeypatch: pytest.MonkeyPatch) -> dict[str, Instance]:
    """Two teams with something of everything in March, which is closed, and storage in April, which is not."""
    monkeypatch.setattr(clock, "now", lambda: NOW)
    reprice(ItemCode.TRAFFIC, source="cn-beijing", destination="cn-shanghai")
    plan_of(30, MARCH)
    orders, ledger, evil = instance_in(), instance_in(name="ledger"), instance_in(name=EVIL)
    Instance.objects.filter(pk=ledger.pk).update(group=teams[1])
    for n, instance in enumerate((orders, ledger, evil)):
        copy = copy_of(backup_of(instance, START + n * DAY, (100 + n) * GB), policy_of(instance), days=60)
        copy_of(backup_of(instance, START + n * DAY, (3 + n) * GB + 7), policy_of(instance), days=2.5)
    copy_of(backup_of(ledger, size=5 * GB), policy_of(ledger, "cn-shanghai"), days=9)  # a route without a price
    download_of(copy.set, START, size=520 * GB)
    closing.close_due()
    assert ClosedStatement.objects.count() == 1
    return {"orders": orders, "ledger": ledger, "evil": evil}


@pytest.fixture
def everything(client: Client, books: dict[str, Instance]) -> Client:
    """The desk of who runs the installation."""
    client.force_login(User.objects.create_superuser("root"))
    return client


def shown(client: Client, page: str, *arguments: str, **asked: str) -> str:
    answer = client.get(reverse(page, args=arguments), asked)
    assert answer.status_code == 200
    return b"".join(answer).decode() if answer.streaming else answer.content.decode()


def names(client: Client, month: str) -> set[str]:
    told = json.loads(shown(client, "bills:export", "json", month=month))
    return {line["name"] for line in told["lines"]}


def said(*options: str) -> str:
    out = StringIO()
    call_command("statement", *options, stdout=out)
    return out.getvalue()


# ---- who may see what


@pytest.mark.parametrize("role", [role for role in Role if role != Role.BILLING])
def test_who_reads_no_bills_is_refused_and_finds_no_way_there(
    client: Client, books: dict[str, Instance], teams: tuple[ResourceGroup, ResourceGroup], role: str
) -> None:
    user = User.objects.create_user("someone")
    membership = Membership.objects.create(user=user, group=teams[0], role=role)
    client.force_login(user)
    addresses = [reverse(page) for page in (*PAGES, *BEHIND)]
    addresses += [reverse("bills:export", args=[form]) for form in FILES]
    assert {client.get(address).status_code for address in addresses} == {403}
    way = f'href="{reverse("bills:page")}"'
    assert way not in shown(client, "overview:page")
    membership.role = Role.BILLING
    membership.save()
    assert way in shown(client, "overview:page")
    assert {client.get(address).status_code for address in addresses if address not in map(reverse, BEHIND)} == {200}


def test_a_stranger_is_sent_to_sign_in(client: Client, books: dict[str, Instance]) -> None:
    for page in (*PAGES, *BEHIND):
        answer = client.get(reverse(page), {"month": "2027-03"})
        assert answer.status_code == 302
        assert "/accounts/login/" in answer.headers["Location"]


def test_a_closed_month_goes_by_the_group_at_the_closing_and_an_open_one_by_todays(
    client: Client, books: dict[str, Instance], teams: tuple[ResourceGroup, ResourceGroup]
) -> None:
    """R-4.5: a moved instance moves no bill that was closed."""
    Instance.objects.filter(pk=books["orders"].pk).update(group=teams[1])
    for team, march, april in (
        (teams[0], {"orders", EVIL}, {EVIL}),
        (teams[1], {"ledger"}, {"ledger", "orders"}),
    ):
        client.force_login(reader(team, team.name))
        assert names(client, "2027-03") == march
        assert names(client, "2027-04") == april
        for month, mine in (("2027-03", march), ("2027-04", april)):
            for page in PAGES:
                page_shown = shown(client, page, month=month)
                assert ("ledger" in page_shown) == ("ledger" in mine)
                assert (">orders<" in page_shown) == ("orders" in mine)


def test_nothing_of_another_group_is_had_by_its_name(
    client: Client, books: dict[str, Instance], teams: tuple[ResourceGroup, ResourceGroup]
) -> None:
    client.force_login(reader(teams[0]))
    theirs = books["ledger"].code
    for month in ("2027-03", "2027-04"):
        one = {"month": month, "instance": theirs, "item": "DdrOssStorageSize", "route": "cn-beijing:ap-southeast-1"}
        assert client.get(reverse("bills:copies"), one).status_code == 404
        assert "ledger" not in shown(client, "bills:lines", month=month, instance=theirs)
        assert "ledger" not in shown(client, "bills:lines", month=month, group=str(teams[1].pk))
        assert len(shown(client, "bills:export", "csv", month=month, instance=theirs).splitlines()) == 1
        assert client.get(reverse("bills:copies"), one | {"instance": books["orders"].code}).status_code == 200


def test_the_chart_shows_no_other_groups_money(
    client: Client, books: dict[str, Instance], teams: tuple[ResourceGroup, ResourceGroup]
) -> None:
    client.force_login(reader(teams[1]))
    mine = statement(MARCH, NOW, Instance.objects.filter(pk=books["ledger"].pk))
    page = shown(client, "bills:page")
    assert f"March 2027: {words.dollars(mine.amount)}." in page
    assert words.dollars(statement(MARCH, NOW).amount) not in page


def test_a_set_that_one_may_no_longer_see_is_named_and_not_linked(
    client: Client, books: dict[str, Instance], teams: tuple[ResourceGroup, ResourceGroup]
) -> None:
    client.force_login(reader(teams[0]))
    found = books["orders"].sets.order_by("pk").first()
    asked = {"month": "2027-03", "instance": books["orders"].code, "item": "DdrOssStorageSize"}
    way = reverse("backup_sets:page", args=[found.pk])
    assert way in shown(client, "bills:copies", **asked)
    Instance.objects.filter(pk=books["orders"].pk).update(group=teams[1])
    after = shown(client, "bills:copies", **asked)
    assert way not in after
    assert f"<bdi>{found.pk}</bdi>" in after


# ---- what it adds up to


@pytest.mark.parametrize("month", [MARCH, APRIL])
@pytest.mark.parametrize("split", SPLITS)
def test_every_split_adds_up_to_the_total(everything: Client, split: str, month: datetime) -> None:
    page = shown(everything, "bills:page", month=f"{month:%Y-%m}", by=split)
    parts = re.findall(r'class="sum"><bdi>\$([\d.,]+)</bdi>', page)
    total = re.search(r'class="g-v"><b><bdi>\$([\d.,]+)</bdi>', page)[1]
    assert len(parts) > 1 or month == APRIL
    assert sum(Decimal(part.replace(",", "")) for part in parts) == Decimal(total.replace(",", ""))
    assert Decimal(total.replace(",", "")) == statement(month, NOW).amount


def test_a_row_leads_to_its_lines_and_a_line_to_copies_that_are_the_line(everything: Client) -> None:
    page = shown(everything, "bills:page", month="2027-03", by="route")
    way = re.search(r'class="who" href="([^"]*)"><bdi>China \(Beijing\) → Singapore', page)[1].replace("&amp;", "&")
    lines = everything.get(way).content.decode()
    assert "Shanghai" not in lines.split('id="rows"')[1]
    ways = re.findall(r'class="btn small" href="([^"]*)"', lines)
    assert len(ways) == 6
    march = statement(MARCH, NOW)
    for way in ways:
        copies = everything.get(way.replace("&amp;", "&"))
        line = copies.context["line"]
        assert line in march.lines
        assert copies.context["behind"].quantity == line.quantity
        assert "which is the line" in copies.content.decode()


def test_a_closed_line_leads_to_downloads_that_are_the_line(everything: Client, books: dict[str, Instance]) -> None:
    """R-4.3, R-4.4. Of a charge that no meter bears out nobody knows who fetched it."""
    lines = shown(everything, "bills:lines", month="2027-03", item="NetworkOutSize")
    [way] = re.findall(r'class="btn small" href="([^"]*)" aria-label="Downloads of', lines)
    answer = everything.get(way.replace("&amp;", "&"))
    line, page = answer.context["line"], answer.content.decode()
    [one] = [row.fetched for row in answer.context["table"].data]
    assert line in statement(MARCH, NOW).lines
    told = (one.bytes, one.free_bytes, one.offset_bytes, one.charged, one.amount)
    assert told == (line.quantity, line.free_bytes, line.offset_bytes, line.charged, line.amount)
    assert (one.free_bytes, one.charged, one.amount) == (500 * GB, 20 * GB, Decimal("2.50"))
    assert "which is the line" in page and 'role="alert"' not in page
    found = books["evil"].sets.order_by("pk").first()
    assert reverse("backup_sets:page", args=[found.pk]) in page
    assert f"{START:%Y-%m-%d %H:%M:%S} UTC" in page and "558,345,748,480 bytes" in page


def test_downloads_whose_line_says_otherwise_are_not_hidden(
    everything: Client, books: dict[str, Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the books' own triggers keeps it so: without them the page says what the audit says."""
    fetched = statements.fetched_between
    monkeypatch.setattr(statements, "fetched_between", lambda *asked: fetched(*asked)[1:])
    page = shown(everything, "bills:downloads", month="2027-03", item="NetworkOutSize")
    assert "What was charged stays" in page and "which is the line" not in page


def test_downloads_are_sorted_and_lead_on(everything: Client, books: dict[str, Instance]) -> None:
    found = books["orders"].sets.order_by("pk").first()
    for hours in range(65):
        download_of(found, APRIL + hours * timedelta(hours=1), 10 * GB + hours)
    seen, address = [], f"{reverse('bills:downloads')}?month=2027-04&item=NetworkOutSize&sort=-amount"
    while address:
        answer = everything.get(address)
        seen += [row.fetched for row in answer.context["table"].data]
        address = link(answer.content.decode(), "next")
    assert len({one.charge_id for one in seen}) == len(seen) == 65
    assert [one.amount for one in seen] == sorted((one.amount for one in seen), reverse=True)
    [line] = [line for line in statement(APRIL, NOW).lines if line.item == ItemCode.DOWNLOAD]
    assert sum(one.amount for one in seen) == line.amount > 0


def test_a_fact_that_moved_since_the_closing_is_not_hidden(everything: Client, books: dict[str, Instance]) -> None:
    asked = {"month": "2027-03", "instance": books["orders"].code, "item": "DdrOssStorageSize"}
    StorageSpan.objects.filter(copy__set__instance=books["orders"]).update(bytes=1)
    page = shown(everything, "bills:copies", **asked)
    assert "What was charged stays" in page
    assert "which is the line" not in page


def test_bytes_that_cost_nothing_are_bytes_and_not_money(everything: Client) -> None:
    page = shown(everything, "bills:page", month="2027-03").split("Not charged")[1].split("Without a price")[0]
    assert "500 GB" in page  # the free quota
    assert re.search(r"By network plans</dt><dd[^>]*><bdi>[\d.]+ GB", page)
    assert "$" not in page


def test_a_line_without_a_price_is_never_zero(everything: Client) -> None:
    """R-4.5."""
    page = shown(everything, "bills:page", month="2027-03", by="route")
    assert "1 line without a price" in page
    lines = shown(
        everything, "bills:lines", month="2027-03", route="cn-beijing:cn-shanghai", item="NetworkOutDuplicationSize"
    )
    row = lines.split("<tbody")[1]
    assert "no price" in row
    assert "$0.00" not in row
    told = json.loads(shown(everything, "bills:export", "json", month="2027-03"))
    assert [line["amount"] for line in told["lines"]].count(None) == told["lines_without_price"] == 1
    costs = [row["BilledCost"] for row in _rows(everything, "focus") if row["x_Note"].startswith("No price")]
    assert costs == [""]


# ---- files and paper


@pytest.mark.parametrize("form", FILES)
def test_a_file_is_what_the_command_prints_byte_for_byte(everything: Client, form: str) -> None:
    for month in ("2027-03", "2027-04"):
        assert shown(everything, "bills:export", form, month=month) == said(month, f"--{form}")
    answer = everything.get(reverse("bills:export", args=[form]), {"month": "2027-03"})
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="statement-2027-03')


@pytest.mark.parametrize("asked", [{"q": "LEDG"}, {"item": "NetworkOutSize"}, {"route": "cn-beijing:cn-shanghai"}])
def test_a_file_has_the_lines_that_the_page_has(everything: Client, asked: dict[str, str]) -> None:
    listed = everything.get(reverse("bills:lines"), {"month": "2027-03"} | asked).context["bill"].lines
    whole = shown(everything, "bills:export", "csv", month="2027-03").splitlines()
    part = shown(everything, "bills:export", "csv", month="2027-03", **asked).splitlines()
    assert 0 < len(listed) == len(part) - 1 < len(whole) - 1
    assert set(part) < set(whole)


@pytest.mark.parametrize("form", ["csv", "focus"])
def test_no_cell_is_taken_for_a_formula(everything: Client, form: str) -> None:
    cells = {cell for row in _rows(everything, form) for cell in row.values()}
    assert f"'{EVIL}" in cells
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


def test_focus_says_what_was_charged_in_its_own_words(everything: Client, books: dict[str, Instance]) -> None:
    rows = _rows(everything, "focus")
    assert {(row["BillingPeriodStart"], row["ChargePeriodEnd"]) for row in rows} == {
        ("2027-03-01T00:00:00Z", "2027-04-01T00:00:00Z")
    }
    storage = next(row for row in rows if row["ResourceName"] == "orders" and row["SkuId"] == "DdrOssStorageSize")
    assert storage["RegionId"] == "ap-southeast-1"
    assert (storage["ConsumedUnit"], storage["PricingUnit"]) == ("B-Seconds", "GiB-Hours")
    assert json.loads(storage["Tags"]) == {"resource_group": "Team"}
    assert storage["ResourceId"] == books["orders"].code
    for row in rows:
        if row["ListUnitPrice"]:
            exact = Decimal(row["PricingQuantity"]) * Decimal(row["ListUnitPrice"])
            assert abs(exact - Decimal(row["BilledCost"])) <= Decimal("0.005")


def test_an_open_months_charges_end_where_they_were_counted_to(everything: Client) -> None:
    assert {row["ChargePeriodEnd"] for row in _rows(everything, "focus", "2027-04")} == {f"{NOW:%Y-%m-%dT%H:%M:%SZ}"}


def test_paper_has_the_sums_the_lines_the_closing_and_the_digest(everything: Client) -> None:
    page = shown(everything, "bills:print", month="2027-03")
    closed = ClosedStatement.objects.get()
    assert closed.digest in page
    assert f"{closed.closed_at:%Y-%m-%d %H:%M} UTC" in page
    assert words.dollars(statement(MARCH, NOW).amount) in page
    assert page.count('<tr role="row"><td') == 3 + closed.lines_count
    assert "<nav" not in page and "<script src" in page.split("</head>")[0] and "<form" not in page
    still_open = shown(everything, "bills:print", month="2027-04")
    assert "what was known at" in still_open
    assert "Digest" not in still_open


def _rows(client: Client, form: str, month: str = "2027-03") -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(shown(client, "bills:export", form, month=month))))


# ---- odd addresses, many rows


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/bills/?month=2027-05", 404),
        ("/bills/?month=March", 404),
        ("/bills/export/csv/?month=2026-01", 404),
        ("/bills/export/pdf/", 404),
        ("/bills/?matching=count", 404),
        ("/bills/copies/?month=2027-03", 404),
        ("/bills/downloads/?month=2027-03", 404),
        ("/bills/copies/?month=2027-03&item=NetworkOutSize", 404),
        ("/bills/downloads/?month=2027-03&item=DdrOssStorageSize&q=ledger", 404),
        ("/bills/downloads/?month=2027-03&item=NetworkOutSize&sort=nothing&after=99", 200),
        ("/bills/?by=nothing&sort=nothing&after=x&before=-1", 200),
        ("/bills/?q=%00", 200),
        ("/bills/lines/?instance=%00&group=x", 200),
        ("/bills/?after=99999999999999999999", 200),
    ],
)
def test_an_odd_address_is_answered(everything: Client, address: str, status: int) -> None:
    assert everything.get(address).status_code == status


def test_what_cannot_be_asked_for_shows_no_line(everything: Client) -> None:
    assert "orders" not in shown(everything, "bills:lines", month="2027-03", q="\0")
    assert len(shown(everything, "bills:export", "csv", month="2027-03", item="\0").splitlines()) == 1


def test_a_region_chosen_in_the_top_bar_is_said_and_kept_to(everything: Client) -> None:
    page = shown(everything, "bills:page", month="2027-03", region="cn-shanghai")
    assert "Only instances of China (Shanghai)." in page
    assert "orders" not in page
    assert len(shown(everything, "bills:export", "csv", month="2027-03").splitlines()) == 1
    assert "orders" in shown(everything, "bills:page", month="2027-03", region="all")


@pytest.fixture
def many(everything: Client) -> Client:
    for n in range(65):
        instance = instance_in(name=f"db-{n:02}")
        copy_of(backup_of(instance, APRIL + DAY, (n + 1) * GB), policy_of(instance), days=9)
    return everything


def test_pages_lead_on_and_back(many: Client) -> None:
    """R-16, as every list."""
    seen, address = [], reverse("bills:page") + "?sort=-name"
    while address:
        page = many.get(address, headers={"HX-Request": "true", "HX-Target": "rows"}).content.decode()
        seen += re.findall(r'class="who" href="[^"]*"><bdi>([^<]*)', page)
        address = link(page, "next")
        last = page
    assert len(seen) == len(set(seen)) == 68
    assert seen == sorted(seen, key=str.casefold, reverse=True)
    before = many.get(link(last, "prev"), headers={"HX-Request": "true", "HX-Target": "rows"}).content.decode()
    assert re.findall(r'class="who" href="[^"]*"><bdi>([^<]*)', before) == seen[30:60]


def link(page: str, rel: str) -> str:
    found = re.search(rf'href="([^"]*)" hx-get="[^"]*" rel="{rel}"', page)
    return found[1].replace("&amp;", "&") if found else ""


# What each costs in queries, of a closed month and of the open one, however long the bill is.
PINS = {"bills:page": (38, 35), "bills:lines": (13, 35), "bills:print": (10, 32)}


@pytest.mark.parametrize("name", PINS)
def test_a_bill_costs_the_same_however_long_it_is(
    client: Client,
    books: dict[str, Instance],
    teams: tuple[ResourceGroup, ResourceGroup],
    name: str,
) -> None:
    client.force_login(reader(teams[0]))
    for month, pin in zip(("2027-03", "2027-04"), PINS[name], strict=True):
        assert _queries(client, name, month) <= pin
    for n in range(33):
        instance = instance_in(name=f"more-{n:02}")
        copy_of(backup_of(instance, APRIL + DAY, GB), policy_of(instance), days=9)
    assert _queries(client, name, "2027-04") <= PINS[name][1]


def test_the_downloads_of_a_line_cost_the_same_however_many_they_are(
    client: Client, books: dict[str, Instance], teams: tuple[ResourceGroup, ResourceGroup]
) -> None:
    client.force_login(reader(teams[0]))
    found = books["orders"].sets.order_by("pk").first()
    download_of(found, APRIL, 600 * GB)
    asked = {"instance": books["orders"].code, "item": "NetworkOutSize"}
    most = _queries(client, "bills:downloads", "2027-04", **asked)
    for n in range(50):
        download_of(found, APRIL + n * timedelta(hours=1), GB)
    assert _queries(client, "bills:downloads", "2027-04", **asked) <= most <= 44


def test_the_copies_of_a_line_cost_the_same_however_many_they_are(
    client: Client, books: dict[str, Instance], teams: tuple[ResourceGroup, ResourceGroup]
) -> None:
    client.force_login(reader(teams[0]))
    orders = books["orders"]
    asked = {"instance": orders.code, "item": "DdrOssStorageSize"}
    assert _queries(client, "bills:copies", "2027-03", **asked) <= 17
    assert _queries(client, "bills:copies", "2027-04", **asked) <= 39
    for n in range(40):
        copy_of(backup_of(orders, APRIL + n * timedelta(hours=1), GB), policy_of(orders), days=9)
    assert _queries(client, "bills:copies", "2027-04", **asked) <= 39


def _queries(client: Client, name: str, month: str, **asked: str) -> int:
    with CaptureQueriesContext(connection) as asked_for:
        assert client.get(reverse(name), {"month": month} | asked).status_code == 200
    return len(asked_for)


# ---- the picture, and figures in words


@pytest.mark.parametrize(
    ("amount", "reach"),
    [("0", "1"), ("0.3", "1"), ("1", "1"), ("1.01", "1.5"), ("99.99", "100"), ("100.01", "150"), ("2500", "2500")],
)
def test_the_scale_ends_at_a_round_amount(amount: str, reach: str) -> None:
    assert ceiling(Decimal(amount)) == Decimal(reach)


def test_a_bar_stacks_what_its_month_cost() -> None:
    costs = {ItemCode.STORAGE: Cost(Decimal(60)), ItemCode.DOWNLOAD: Cost(Decimal(40), unpriced=2)}
    picture = chart({MARCH: {}, APRIL: costs}, {APRIL})
    empty, full = picture.bars
    assert (empty.segments, empty.total, empty.is_open) == ((), Cost(), False)
    storage, download = full.segments
    assert storage.y + storage.height == FOOT
    assert download.y + download.height == storage.y
    assert download.y == TOP
    assert (full.total, full.is_open) == (Cost(Decimal(100), 2), True)


def test_without_any_month_that_cost_something_there_is_no_picture(client: Client) -> None:
    client.force_login(User.objects.create_superuser("root"))
    page = shown(client, "bills:page")
    assert "Nothing was charged in this month." in page
    assert "Month by month" not in page


@pytest.mark.parametrize(
    ("byte_seconds", "said"),
    [
        (0, "0.00 GB-hours"),
        (1, "&lt; 0.01 GB-hours"),
        (GB * 3600, "1.00 GB-hours"),
        (2_400_000 * GB * 3600, "2,400,000 GB-hours"),
    ],
)
def test_storage_is_told_in_the_unit_of_its_price(byte_seconds: int, said: str) -> None:
    assert words.gb_hours(byte_seconds) == said.replace("&lt;", "<")


def test_money_is_written_one_way() -> None:
    assert words.money(Decimal("1234567.5")) == "<bdi>$1,234,567.50</bdi>"
    assert "no price" in words.money(None)
