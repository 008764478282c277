"""A closed month never moves, whatever prices, undo and late facts do; where a route has no price an alert says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, transaction

from backups.models import Alert, Copy, Event, Instance, ResourceGroup, StorageSpan
from billing import audit, closing, price_book, tasks
from billing.models import ClosedStatement, ItemCode, PlanUse, Price, StatementLine
from billing.statements import Statement, statement
from regions import clock
from tests.billing.facts import (
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

pytestmark = pytest.mark.django_db

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MARCH, APRIL, MAY = (datetime(2027, number, 1, tzinfo=UTC) for number in (3, 4, 5))
ROUTE = {"source": "cn-beijing", "destination": "ap-southeast-1"}


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Set the clock by which months are closed."""

    def set_to(at: datetime) -> None:
        monkeypatch.setattr(clock, "now", lambda: at)

    return set_to


@pytest.fixture
def march(now: Callable[[datetime], None]) -> Iterator[Statement]:
    """A month with something of everything, closed."""
    plan_of(1, MARCH)
    instance = instance_in()
    copy = copy_of(backup_of(instance, size=100 * GB), policy_of(instance), days=40)
    download_of(copy.set, START, link="a")
    now(APRIL + 7 * HOUR)
    tasks.close_months()
    return statement(MARCH, APRIL)


def test_a_month_is_closed_six_hours_after_it_ended_and_once(now: Callable[[datetime], None]) -> None:
    instance = instance_in()
    copy_of(backup_of(instance), policy_of(instance), days=60)
    now(APRIL + 6 * HOUR - timedelta(microseconds=1))
    assert closing.close_due() == 0
    now(APRIL + 6 * HOUR)
    assert closing.close_due() == 1
    assert closing.close_due() == 0
    assert [closed.month for closed in ClosedStatement.objects.all()] == [MARCH.date()]
    assert Event.objects.filter(kind="statement.closed").count() == 1


def test_months_that_nobody_closed_are_closed_in_order_also_the_empty_ones(now: Callable[[datetime], None]) -> None:
    instance = instance_in()
    copy_of(backup_of(instance), policy_of(instance), days=1)
    now(MAY + 20 * DAY)
    assert closing.close_due() == 2
    assert [closed.lines_count for closed in ClosedStatement.objects.order_by("month")] == [2, 0]


def test_nothing_is_closed_where_nothing_has_happened(now: Callable[[datetime], None]) -> None:
    assert closing.close_due() == 0


def test_what_is_closed_is_what_the_open_month_said(now: Callable[[datetime], None]) -> None:
    instance = instance_in()
    copy_of(backup_of(instance, size=100 * GB), policy_of(instance), days=40)
    plan_of(7, MARCH)
    before = statement(MARCH, APRIL + HOUR)
    now(APRIL + 7 * HOUR)
    closing.close_due()
    after = statement(MARCH, MAY)
    assert before.closed_at is None and after.closed_at == APRIL + 7 * HOUR
    assert after.lines == before.lines
    assert len(after.lines) == 2


def test_a_closed_month_stays_whatever_happens_to_prices_copies_groups_and_dates(march: Statement) -> None:
    instance = Instance.objects.get()
    reprice(ItemCode.STORAGE, ("9", MARCH, None), source="", source_scope="", destination="")
    reprice(ItemCode.TRAFFIC, **ROUTE)
    Copy.objects.update(expires_at=START + DAY, brought_forward_at=START + 2 * DAY)
    StorageSpan.objects.update(ended_at=START + 3 * DAY)
    copy_of(backup_of(instance, START + DAY), policy_of(instance))
    Instance.objects.update(group=ResourceGroup.objects.create(name="Another team"))
    assert statement(MARCH, MAY).lines == march.lines
    assert {line.group_name for line in statement(MARCH, MAY).lines} == {"Team"}


@pytest.mark.parametrize("table", ["billing_closedstatement", "billing_statementline", "billing_planuse"])
@pytest.mark.parametrize("verb", ["UPDATE {} SET statement_id = NULL", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_the_database_refuses_to_change_what_is_closed(march: Statement, table: str, verb: str) -> None:
    change = verb.format(table)
    if table == "billing_closedstatement":
        change = change.replace("statement_id = NULL", "digest = ''")
    assert PlanUse.objects.count() == 1
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        with pytest.raises(DatabaseError, match="only ever added"), transaction.atomic():
            cursor.execute(change)
    assert statement(MARCH, MAY).lines == march.lines


def test_no_line_joins_a_closed_month(march: Statement) -> None:
    line = StatementLine.objects.first()
    with pytest.raises(DatabaseError, match="never moves"), transaction.atomic():
        StatementLine.objects.create(
            statement_id=MARCH.date(),
            instance=line.instance,
            group=line.group,
            item_code=ItemCode.DOWNLOAD,
            source="eu-west-1",
            quantity=1,
            charged=1,
        )


def test_nothing_of_ours_is_dated_into_a_closed_month(march: Statement) -> None:
    """A price, a plan or a download that begins in it is refused; one that begins after it is taken."""
    found = Copy.objects.get().set
    last = APRIL - timedelta(microseconds=1)
    price = {"item_code": ItemCode.TRAFFIC, "source": "eu-west-1", "destination": "cn-hangzhou-finance"}
    for refused in (
        lambda: Price.objects.create(amount="1", unit="USD/GB", valid_from=last, **price),
        lambda: plan_of(10, last),
        lambda: download_of(found, last),
    ):
        with pytest.raises(DatabaseError, match="closed"), transaction.atomic():
            refused()
    Price.objects.create(amount="1", unit="USD/GB", valid_from=APRIL, **price)
    plan_of(10, APRIL)
    download_of(found, APRIL)
    assert list(audit.closed_months()) == []


def test_the_price_book_still_loads_once_months_are_closed_and_never_into_them(march: Statement) -> None:
    reprice(ItemCode.TRAFFIC, **ROUTE)
    price_book.load()
    assert Price.objects.get(item_code=ItemCode.TRAFFIC, **ROUTE).valid_from == APRIL
    before = Price.objects.count()
    price_book.load()
    assert Price.objects.count() == before


def test_what_plans_gave_is_frozen_with_the_month_and_the_next_begins_with_the_rest(
    now: Callable[[datetime], None],
) -> None:
    plan_of(100, MARCH)
    instance = instance_in()
    policy = policy_of(instance, "cn-shanghai")
    for at in (START, START + 31 * DAY):
        copy_of(backup_of(instance, at, 96 * GB), policy, days=1)
    open_ = statement(APRIL, MAY).lines
    now(APRIL + 7 * HOUR)
    closing.close_due()
    assert PlanUse.objects.get().prepaid_bytes == 60 * GB
    copy_of(backup_of(instance, START + DAY, 500 * GB), policy, days=1)  # a late fact takes nothing from April
    assert statement(APRIL, MAY).lines == open_
    assert [line.offset_bytes for line in open_ if line.item == ItemCode.TRAFFIC] == [64 * GB]


# ---- what the audit sees


def test_the_audit_finds_nothing_where_nothing_is_wrong(march: Statement) -> None:
    assert [said for check in (audit.closed_months, audit.quantities, audit.overdrawn_plans) for said in check()] == []


def test_a_fact_that_was_dated_into_a_closed_month_is_shown_as_a_difference(march: Statement) -> None:
    """The database's clock was set back, say: the month stays, and the audit says by how much the facts differ."""
    instance = Instance.objects.get()
    copy_of(backup_of(instance, START + DAY), policy_of(instance), days=1)
    said = list(audit.closed_months())
    assert len(said) == 2 and all("its facts come to" in sentence for sentence in said)
    assert any("the line says" in sentence for sentence in audit.quantities())


def test_a_line_that_somebody_edited_past_the_triggers_is_found(march: Statement) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE billing_statementline DISABLE TRIGGER USER")
        cursor.execute("UPDATE billing_statementline SET amount = amount - 0.01 WHERE amount > 1")
        cursor.execute("ALTER TABLE billing_statementline ENABLE TRIGGER USER")
    assert "the statement of 2027-03 is not what was closed" in list(audit.closed_months())


def test_the_digest_is_over_every_figure(march: Statement) -> None:
    line = march.lines[0]
    changed = [
        replace(line, quantity=line.quantity + 1),
        replace(line, amount=None),
        replace(line, amount=Decimal("0.01")),
        replace(line, prices=()),
        replace(line, offset_bytes=1),
        replace(line, group_id=line.group_id + 1),
    ]
    digests = {closing.digest([one], {}) for one in [line, *changed]}
    assert len(digests | {closing.digest([line], {1: 1})}) == len(changed) + 2


# ---- no price


def no_price() -> list[str]:
    return list(Alert.objects.filter(code="no_price", closed_at=None).values_list("subject", flat=True))


def test_a_route_without_a_price_raises_an_alert_until_it_has_one(now: Callable[[datetime], None]) -> None:
    reprice(ItemCode.TRAFFIC, **ROUTE)
    instance = instance_in()
    now(START + HOUR)
    tasks.keep_price_alerts()
    assert no_price() == [], "nothing is charged on it"
    copy_of(backup_of(instance), policy_of(instance))
    tasks.keep_price_alerts()
    tasks.keep_price_alerts()
    assert no_price() == ["price:NetworkOutDuplicationSize:cn-beijing:ap-southeast-1"]
    Price.objects.create(item_code=ItemCode.TRAFFIC, amount="1", unit="USD/GB", valid_from=START + HOUR, **ROUTE)
    tasks.keep_price_alerts()
    assert no_price() == []
    (line,) = [line for line in statement(MARCH, APRIL).lines if line.item == ItemCode.TRAFFIC]
    assert line.amount is None, "what came before the price has none"


def test_a_month_is_closed_with_its_lines_without_a_price(now: Callable[[datetime], None]) -> None:
    reprice(ItemCode.TRAFFIC, **ROUTE)
    instance = instance_in()
    copy_of(backup_of(instance), policy_of(instance), days=1)
    now(APRIL + 7 * HOUR)
    closing.close_due()
    assert [line.amount for line in statement(MARCH, MAY).lines if line.item == ItemCode.TRAFFIC] == [None]
    assert statement(MARCH, MAY).unpriced == 1
    assert list(audit.closed_months()) == []
