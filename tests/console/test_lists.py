"""Lists: page or fragment, search, sort, and paging that stays where it is."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from backups.models import Instance
from console.widgets import keyset
from console.widgets.keyset import Order
from tests.console.fleet import Fleet

LIST = "/instances/"
ROWS = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "rows"}


def shown(answer: Any) -> list[str]:
    return re.findall(r'class="who" href="[^"]*"><bdi>([^<]*)', answer.content.decode())


def link(answer: Any, rel: str) -> str | None:
    found = re.search(rf'href="([^"]*)" hx-get="[^"]*" rel="{rel}"', answer.content.decode())
    return found.group(1).replace("&amp;", "&") if found else None


@pytest.fixture
def many(fleet: Fleet) -> list[str]:
    """More than two pages of instances, several of one name."""
    names = sorted([f"db-{n:02}" for n in range(60)] + ["same"] * 15)
    for name in names:
        fleet.instance(name)
    return names


def test_one_view_serves_the_page_and_its_fragment(desk: Client, fleet: Fleet) -> None:
    fleet.instance("orders")
    page, rows = desk.get(LIST), desk.get(LIST, **ROWS)
    assert "<html" in page.content.decode()
    assert "<html" not in rows.content.decode()
    assert shown(page) == shown(rows) == ["orders"]
    for answer in (page, rows):
        assert "HX-Target" in answer.headers["Vary"]


@pytest.mark.parametrize("header", ["HTTP_HX_BOOSTED", "HTTP_HX_HISTORY_RESTORE_REQUEST"])
def test_boosted_and_history_requests_get_the_page(desk: Client, fleet: Fleet, header: str) -> None:
    assert "<html" in desk.get(LIST, **ROWS, **{header: "true"}).content.decode()


def test_paging_forward_and_back_shows_every_row_once(desk: Client, many: list[str]) -> None:
    address, pages = LIST, []
    while address:
        answer = desk.get(address)
        pages.append(shown(answer))
        address = link(answer, "next")
    assert [name for page in pages for name in page] == many
    assert [len(page) for page in pages] == [30, 30, 15]
    back = []
    address = link(answer, "prev")
    while address:
        answer = desk.get(address)
        back.insert(0, shown(answer))
        address = link(answer, "prev")
    assert back == pages[:2]


def test_a_page_stays_where_it_is_when_rows_come_and_go(desk: Client, fleet: Fleet, many: list[str]) -> None:
    second = link(desk.get(LIST), "next")
    before = shown(desk.get(second))
    fleet.instance("aaa-new")
    Instance.objects.filter(name="db-03").delete()
    assert shown(desk.get(second)) == before


@pytest.mark.parametrize("cursor", ["rubbish", "x" * 4000, "", "WyJhIl0:abc"])
def test_a_cursor_that_does_not_fit_is_the_first_page(desk: Client, many: list[str], cursor: str) -> None:
    assert shown(desk.get(LIST, {"after": cursor})) == many[:30]


def test_a_cursor_of_another_sort_is_the_first_page(desk: Client, many: list[str]) -> None:
    after = link(desk.get(LIST), "next").split("after=")[1]
    assert shown(desk.get(f"{LIST}?sort=-name&after={after}")) == many[::-1][:30]


def test_sorting_by_a_heading(desk: Client, fleet: Fleet) -> None:
    fleet.instance("small", data_bytes=1)
    fleet.instance("large", data_bytes=10**12)
    assert shown(desk.get(LIST, {"sort": "data_bytes"})) == ["small", "large"]
    answer = desk.get(LIST, {"sort": "-data_bytes"})
    assert shown(answer) == ["large", "small"]
    assert 'aria-sort="descending"' in answer.content.decode()
    assert shown(desk.get(LIST, {"sort": "password"})) == ["large", "small"]


def test_search_and_filter(desk: Client, fleet: Fleet) -> None:
    orders = fleet.instance("orders-primary")
    fleet.instance("ledger", engine="postgresql")
    assert shown(desk.get(LIST, {"q": "ORDERS"})) == ["orders-primary"]
    assert shown(desk.get(LIST, {"q": orders.code})) == ["orders-primary"]
    assert shown(desk.get(LIST, {"engine": "postgresql"})) == ["ledger"]
    assert "Nothing matches" in desk.get(LIST, {"q": "%"}).content.decode()
    assert len(shown(desk.get(LIST, {"engine": "dbase"}))) == 2


def test_no_page_of_a_list_counts_or_skips(desk: Client, many: list[str]) -> None:
    second = link(desk.get(LIST), "next")
    with CaptureQueriesContext(connection) as seen:
        desk.get(second, **ROWS)
    said = " ".join(query["sql"] for query in seen).upper()
    assert "OFFSET" not in said
    assert "COUNT(*)" not in said


def test_all_that_match_are_counted_and_named_by_their_filter(desk: Client, many: list[str]) -> None:
    answer = desk.get("/backups/pending/", {"matching": "count", "q": "same", "after": "x"}, **ROWS)
    assert answer.status_code == 204
    assert '"n": 15' in answer.headers["HX-Trigger"]
    assert '"query": "q=same"' in answer.headers["HX-Trigger"]


def test_mixed_directions_page_without_loss(fleet: Fleet) -> None:
    for n in range(7):
        fleet.instance(f"n{n % 3}", data_bytes=n % 2)
    order = Order(("-name", "data_bytes", "pk"))
    everyone = list(Instance.objects.order_by(*order.columns))
    found, after = [], ""
    while True:
        page = keyset.page(Instance.objects.all(), order, after=after, size=2)
        found += page.rows
        after = page.after
        if not after:
            break
    assert found == everyone


def test_times_page_to_the_microsecond(fleet: Fleet, desk: Client) -> None:
    instance = fleet.instance("orders")
    for n in range(40):
        fleet.backup(instance, age=timedelta(microseconds=n))
    second = link(desk.get("/backups/sets/"), "next")
    assert len(re.findall(r'class="who sid"', desk.get(second).content.decode())) == 10
