"""The ledger is its model (I11), and the model earns its trust: with a bug planted in the real code it says no."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from django.db import transaction
from hypothesis import settings

from billing import covering, metering, plans, prices, statements, traffic
from billing.covering import Downloaded
from billing.models import ClosedStatement, ItemCode, Price
from billing.plans import Prepaid
from billing.statements import Account, Line
from tests.billing.facts import GB
from tests.billing.ledger_model import FEB, QUICK, Ground, hold, make_ground, run

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
Plant = Callable[[pytest.MonkeyPatch], None]
World = dict[str, Any]


@pytest.fixture
def ground(db: None) -> Ground:
    return make_ground()


def test_the_ledger_is_the_model(ground: Ground) -> None:
    run(ground, QUICK)


@pytest.mark.soak
def test_the_ledger_is_the_model_in_five_thousand_worlds(ground: Ground) -> None:
    run(ground, settings(QUICK, max_examples=5000))


# ---- planted bugs


def reworded(patch: pytest.MonkeyPatch, module: ModuleType, name: str, *changes: tuple[str, str]) -> None:
    """Change the words of a query, each of which must stand in it."""
    query = getattr(module, name)
    for old, new in changes:
        assert old in query
        query = query.replace(old, new)
    patch.setattr(module, name, query)


def a_span_runs_on_past_its_month(patch: pytest.MonkeyPatch) -> None:
    reworded(patch, metering, "SUM", ("least(%(end)s, CASE", "coalesce(CASE"))


def an_instance_forgets_what_was_deleted_since(patch: pytest.MonkeyPatch) -> None:
    reworded(patch, metering, "OF_INSTANCES", ("OR copy.deleted_at > %(begin)s", ""))


def a_span_counts_from_before_its_month(patch: pytest.MonkeyPatch) -> None:
    reworded(patch, metering, "SUM", ("greatest(span.began_at, %(begin)s)", "span.began_at"))


def an_unswept_copy_is_charged_past_its_date(patch: pytest.MonkeyPatch) -> None:
    late = "WHEN copy.expires_at IS NOT NULL THEN greatest(copy.expires_at, copy.brought_forward_at)"
    reworded(patch, metering, "SUM", (late, ""))


def what_was_given_up_is_charged(patch: pytest.MonkeyPatch) -> None:
    sent = traffic.sent_between
    patch.setattr(traffic, "sent_between", lambda *month: [*sent(*month), *traffic.resent_between(*month)])


def what_replaces_a_damaged_copy_is_charged_again(patch: pytest.MonkeyPatch) -> None:
    reworded(patch, traffic, "SUM", ("NOT is_again", "true"))


def a_span_that_began_anew_has_crossed_again(patch: pytest.MonkeyPatch) -> None:
    reworded(patch, traffic, "SUM", ("FROM arrived WHERE is_arrival", "FROM arrived"))


def the_free_quota_is_given_once(patch: pytest.MonkeyPatch) -> None:
    by_month = covering.downloads_between

    def since_ever(begin: datetime, until: datetime, instances: list[int] | None = None) -> Iterator[Downloaded]:
        return (one for one in by_month(FEB, until, instances) if one.at >= begin)

    for module in (covering, statements):
        patch.setattr(module, "downloads_between", since_ever)


def the_newest_plan_goes_first(patch: pytest.MonkeyPatch) -> None:
    oldest_first = plans.balances
    patch.setattr(plans, "balances", lambda *months: oldest_first(*months)[::-1])


def open_months_take_nothing_from_a_plan(patch: pytest.MonkeyPatch) -> None:
    def forgetful(begin: datetime, until: datetime, last_closed: ClosedStatement | None) -> list[Prepaid]:
        return plans.balances(begin, until)

    patch.setattr(covering, "balances", forgetful)


def a_plan_that_holds_covers_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plans, "settle", lambda needs, holding, at: any(plan.takes(at) for plan in holding))


def every_route_takes_the_same_from_a_plan(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(covering, "coefficient_of", lambda price: plans.MILLION if price else 0)


def each_copy_is_rounded_by_itself(patch: pytest.MonkeyPatch) -> None:
    reworded(
        patch,
        metering,
        "SUM",
        ("GROUP BY 1, 2\n)", "GROUP BY 1, 2, copy.id\n)"),
        ("GROUP BY 1, 2, 3\n", "GROUP BY 1, 2, 3, held.high, held.low\n"),
    )
    charge, cent = Account.charge, 10_000 * GB * 3600

    def in_cents(account: Account, quantity: int, price: Price | None) -> None:
        former = account.worth
        charge(account, quantity, price)
        if price and price.item_code == ItemCode.STORAGE:
            account.worth = former + (account.worth - former + cent // 2) // cent * cent

    patch.setattr(Account, "charge", in_cents)


def a_price_holds_for_the_whole_month(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(prices, "edges", lambda begin, end: {item: [begin] for item in ItemCode})


def a_missing_price_is_nothing(patch: pytest.MonkeyPatch) -> None:
    amount = Account.amount
    patch.setattr(Account, "amount", lambda account, item: amount(replace(account, is_unpriced=False), item))


def a_closed_month_is_reckoned_again(patch: pytest.MonkeyPatch) -> None:
    def again(closed: ClosedStatement, instances: list[int] | None = None) -> tuple[Line, ...]:
        return statements.reckon(closed.begins_at, closed.ends_at, instances).lines

    patch.setattr(statements, "stored", again)


def copied(day: float, gigabytes: int = 1, fate: str = "expires", stays: float = 1, **more: Any) -> World:
    """A copy of that day of February, to another city or, `goal` 1, abroad."""
    facts = {"at": FEB + day * DAY, "size": gigabytes * GB, "fate": fate, "stays": stays * DAY}
    return {"home": 0, "goal": 0, "gap": DAY, "faults": [], **facts, **more}


def world(*copies: World, downloads: tuple[Any, ...] = (), bought: tuple[Any, ...] = ()) -> World:
    """Facts of a world; a download is (day, GB), a plan likewise."""
    fetched = [(FEB + day * DAY, 0, gigabytes * GB, "internet") for day, gigabytes in downloads]
    purchases = [(FEB + day * DAY, gigabytes) for day, gigabytes in bought]
    return {"copies": list(copies), "downloads": fetched, "plans": purchases, "order": 1, "late": 0}


# a planted bug → the world in which it must be found
PLANTED = {
    a_span_runs_on_past_its_month: world(copied(20, 100, stays=20)),
    a_span_counts_from_before_its_month: world(copied(20, 100, stays=20)),
    an_instance_forgets_what_was_deleted_since: world(copied(33, 100, "copied anew", stays=9)),
    an_unswept_copy_is_charged_past_its_date: world(copied(3, 100, "swept late")),
    what_was_given_up_is_charged: world(copied(3, 100, "aborted", faults=[GB])),
    what_replaces_a_damaged_copy_is_charged_again: world(copied(3, 100, "copied anew")),
    a_span_that_began_anew_has_crossed_again: world(copied(3, 100, "undone")),
    the_free_quota_is_given_once: world(downloads=((3, 400), (33, 400))),
    the_newest_plan_goes_first: world(copied(3, 60), copied(50, 60), bought=((-330, 50), (1, 40))),
    open_months_take_nothing_from_a_plan: world(copied(3, 160), copied(33, 160), bought=((1, 100),)),
    a_plan_that_holds_covers_all: world(copied(3, 160), copied(4, 160), bought=((1, 100),)),
    every_route_takes_the_same_from_a_plan: world(copied(3, 160, goal=1), bought=((1, 100),)),
    each_copy_is_rounded_by_itself: world(*(copied(day, 1, stays=1 + day / 1000) for day in (3, 4, 5))),
    a_price_holds_for_the_whole_month: world(copied(35, 500, stays=20)),
    a_missing_price_is_nothing: world(copied(50, 100, home=1, goal=1)),
    a_closed_month_is_reckoned_again: world(copied(20, 100, "swept late")),
}


@pytest.mark.parametrize(("plant", "facts"), PLANTED.items(), ids=[plant.__name__ for plant in PLANTED])
def test_a_planted_bug_is_found(plant: Plant, facts: World, ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same world holds without it."""
    with transaction.atomic():
        hold(ground, facts)
        transaction.set_rollback(True)
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        hold(ground, facts)
