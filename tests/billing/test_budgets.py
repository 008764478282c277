"""Budgets and their alerts: once for each month and threshold, as long as it holds (R-4, R-19)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from backups import access
from backups.events import By
from backups.models import Alert, CopyPolicy, Event, Instance, Membership, ResourceGroup, Role
from backups.terms import agreements
from billing import budgets, tasks
from billing.budgets import Wish
from billing.forecast import forecast
from billing.models import Budget
from regions import clock
from regions.models import Region
from regions.refusals import Refusal
from tests.billing.facts import GB, START, backup_of, copy_of, instance_in, policy_of

pytestmark = pytest.mark.django_db

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
APRIL = datetime(2027, 4, 1, tzinfo=UTC)
AMOUNT = Decimal("500.00")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Set the clock by which budgets are checked."""

    def set_to(at: datetime) -> None:
        monkeypatch.setattr(clock, "now", lambda: at)

    set_to(START + HOUR)
    return set_to


@pytest.fixture
def by(db: None) -> By:
    return By(User.objects.create_user("mei"))


@pytest.fixture
def orders(now: Callable[[datetime], None], by: By) -> Instance:
    """One full of 100 GB a day since 24 February: 19 USD of traffic each, and its storage."""
    instance = instance_in()
    policy = policy_of(instance)
    acceptance = agreements.accept([instance], Region.objects.get(pk=policy.destination_id), by)
    CopyPolicy.objects.filter(pk=policy.pk).update(enabled=True, acceptance=acceptance)
    for day in range(-14, 1):
        arrives(instance, day)
    return instance


def arrives(instance: Instance, day: int) -> None:
    copy_of(backup_of(instance, START + day * DAY, 100 * GB), instance.policies.get())


def opened(code: str) -> list[str]:
    """The last part of what each open alert is about."""
    subjects = Alert.objects.filter(code=code, closed_at=None).order_by("subject").values_list("subject", flat=True)
    return [subject.split(":", 2)[2] for subject in subjects]


def spent() -> Decimal:
    return forecast(clock.now(), months=0).spent.known


def test_each_threshold_alerts_once_when_so_much_is_spent(orders: Instance, by: By) -> None:
    budgets.create(None, Wish(spent() / Decimal("0.85"), (50, 80, 100), on_forecast=False), by)
    tasks.keep_budget_alerts()
    tasks.keep_budget_alerts()
    assert opened(budgets.SPENT) == ["2027-03:50", "2027-03:80"]
    assert Alert.objects.count() == 2
    alert = Alert.objects.get(subject__endswith=":80")
    assert alert.sentence.startswith("80 % of the budget of the whole fleet for March 2027 is spent")
    assert "Budgets and forecast" in alert.remedy


def test_the_forecast_alerts_before_anything_is_spent(orders: Instance, by: By) -> None:
    ahead = forecast(clock.now(), months=0).month.amount().known
    made = budgets.create(None, Wish(ahead - 1, (100,)), by)
    tasks.keep_budget_alerts()
    assert (opened(budgets.SPENT), opened(budgets.PASSING)) == ([], ["2027-03"])
    budgets.change(made, Wish(ahead, (100,)), by)
    tasks.keep_budget_alerts()
    assert opened(budgets.PASSING) == ["2027-03"], "it would be the same again tomorrow"
    budgets.change(made, Wish(ahead * 2, (100,)), by)
    tasks.keep_budget_alerts()
    assert opened(budgets.PASSING) == []
    budgets.change(made, Wish(ahead, (100,)), by)
    tasks.keep_budget_alerts()
    assert opened(budgets.PASSING) == [], "exactly spent is not passed"


def test_without_the_tick_the_forecast_is_not_told(orders: Instance, by: By) -> None:
    budgets.create(None, Wish(spent() * 2, on_forecast=False), by)
    tasks.keep_budget_alerts()
    assert opened(budgets.PASSING) == []


def test_alerts_close_with_the_month_and_come_again_in_the_next(
    orders: Instance, by: By, now: Callable[[datetime], None]
) -> None:
    budgets.create(None, Wish(Decimal("19.00"), (100,), on_forecast=False), by)
    tasks.keep_budget_alerts()
    assert opened(budgets.SPENT) == ["2027-03:100"]
    now(APRIL + HOUR)
    tasks.keep_budget_alerts()
    assert opened(budgets.SPENT) == []
    for day in (22, 23):
        arrives(orders, day)
    now(START + 23 * DAY + HOUR)
    tasks.keep_budget_alerts()
    assert opened(budgets.SPENT) == ["2027-04:100"]


def test_a_higher_budget_a_switch_and_a_removal_close_what_no_longer_holds(orders: Instance, by: By) -> None:
    made = budgets.create(None, Wish(Decimal("1.00")), by)
    for end in (
        lambda: budgets.change(made, Wish(Decimal("90000.00")), by),
        lambda: budgets.change(made, Wish(Decimal("1.00"), is_enabled=False), by),
        lambda: budgets.remove(made, by),
    ):
        budgets.change(made, Wish(Decimal("1.00")), by)
        tasks.keep_budget_alerts()
        assert opened(budgets.SPENT) and opened(budgets.PASSING)
        end()
        tasks.keep_budget_alerts()
        assert not opened(budgets.SPENT) and not opened(budgets.PASSING)


def test_a_group_pays_for_its_own_instances(orders: Instance, by: By) -> None:
    other = ResourceGroup.objects.create(name="Other")
    budgets.create(other, Wish(Decimal("1.00")), by)
    budgets.create(orders.group, Wish(Decimal("1.00"), (100,), on_forecast=False), by)
    tasks.keep_budget_alerts()
    alert = Alert.objects.get()
    assert (alert.group, alert.instance) == (orders.group, None)
    assert "the budget of Team" in alert.sentence


def test_only_those_whose_costs_they_are_see_the_alert(orders: Instance, by: By) -> None:
    """A viewer of the group reads its other alerts; the fleet's are for who has billing everywhere."""
    budgets.create(orders.group, Wish(Decimal("1.00"), (100,), on_forecast=False), by)
    budgets.create(None, Wish(Decimal("1.00"), (100,), on_forecast=False), by)
    tasks.keep_budget_alerts()
    root = User.objects.create_superuser("root")
    assert access.alerts_for(root).count() == 2
    assert access.alerts_for(by.user).count() == 0
    role = Membership.objects.create(user=by.user, group=orders.group, role=Role.VIEWER)
    assert access.alerts_for(by.user).count() == 0
    role.role = Role.BILLING
    role.save()
    assert access.alerts_for(by.user).count() == 2
    assert access.bills_everywhere(by.user)
    ResourceGroup.objects.create(name="Other")
    assert [alert.group for alert in access.alerts_for(by.user)] == [orders.group]
    assert not access.bills_everywhere(by.user)


# ---- made, changed, removed


def test_what_is_done_to_a_budget_is_an_event(by: By, db: None) -> None:
    group = ResourceGroup.objects.create(name="Payments")
    made = budgets.create(group, Wish(AMOUNT, (100, 80, 80)), by)
    budgets.change(made, Wish(Decimal("600.00"), (), is_enabled=False), by)
    budgets.remove(made, by)
    told = list(Event.objects.order_by("pk").values_list("kind", "sentence", "actor_name", "group"))
    assert told == [
        (
            "budget.created",
            "The budget of Payments was made: 500.00 USD a month, an alert at 80 %, 100 %, the forecast passing it.",
            "mei",
            group.pk,
        ),
        (
            "budget.changed",
            "The budget of Payments was changed: 600.00 USD a month, an alert at the forecast passing it; "
            "it is switched off.",
            "mei",
            group.pk,
        ),
        ("budget.removed", "The budget of Payments was removed.", "mei", group.pk),
    ]
    assert not Budget.objects.exists()


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        (Wish(Decimal("0.00")), "BadAmount"),
        (Wish(Decimal("-1.00")), "BadAmount"),
        (Wish(Decimal("10000000000.00")), "BadAmount"),
        (Wish(AMOUNT, (0,)), "BadThreshold"),
        (Wish(AMOUNT, (80, 201)), "BadThreshold"),
        (Wish(AMOUNT, (1, 2, 3, 4, 5, 6)), "BadThreshold"),
        (Wish(AMOUNT, (), on_forecast=False), "NoThreshold"),
    ],
)
def test_nonsense_is_refused_in_words_when_made_and_when_changed(by: By, wish: Wish, code: str) -> None:
    with pytest.raises(Refusal) as made:
        budgets.create(None, wish, by)
    good = budgets.create(None, Wish(AMOUNT), by)
    with pytest.raises(Refusal) as changed:
        budgets.change(good, wish, by)
    for refused in (made.value, changed.value):
        assert refused.code == code and refused.sentence and refused.remedy and refused.field
    good.refresh_from_db()
    assert (good.amount, good.percents) == (AMOUNT, [80, 100])


def test_a_scope_has_one_budget(by: By) -> None:
    group = ResourceGroup.objects.create(name="Payments")
    for scope in (None, group):
        budgets.create(scope, Wish(AMOUNT), by)
        with pytest.raises(Refusal) as refused:
            budgets.create(scope, Wish(AMOUNT), by)
        assert refused.value.code == "BudgetExists"
        with pytest.raises(IntegrityError), transaction.atomic():
            Budget.objects.create(group=scope, amount=1, created_at=START)


def test_without_budgets_nothing_is_reckoned(orders: Instance, django_assert_max_num_queries: object) -> None:
    with django_assert_max_num_queries(5):
        tasks.keep_budget_alerts()
