"""The page of budgets: for those who answer for costs, with what it says and what it refuses."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backups.events import By
from backups.models import Membership, ResourceGroup, Role
from billing import budgets
from billing.budgets import Wish
from billing.models import Budget
from billing.tasks import keep_budget_alerts
from tests.console.fleet import Fleet

PINS = {"page": (44, 41)}  # the whole page, and the rows alone, however many budgets and instances there are
SAID = {"amount": "500", "percents": "80, 100", "on_forecast": "on", "is_enabled": "on"}
PAGE = "/budgets/"


@pytest.fixture
def purse(desk: Client, fleet: Fleet) -> Client:
    """The desk of somebody who answers for the costs of the only group there is."""
    Membership.objects.create(user=fleet.user, group=fleet.group, role=Role.BILLING)
    return desk


@pytest.fixture
def elsewhere(fleet: Fleet) -> ResourceGroup:
    return ResourceGroup.objects.create(name="Elsewhere")


def shown(client: Client, address: str = PAGE) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_who_answers_for_costs_sees_what_they_will_be(purse: Client, fleet: Fleet) -> None:
    fleet.everything()
    page = shown(purse)
    assert "Budgets and forecast" in page
    assert "The twelve months after this one" in page
    assert "Downloads are not foreseen" in page
    assert "No budget yet" in page


def test_an_empty_installation_says_what_to_do(client: Client, fleet: Fleet) -> None:
    client.force_login(fleet.root())
    assert "No budget yet. Add one" in shown(client)


@pytest.mark.parametrize("role", [role for role in Role.values if role != Role.BILLING])
def test_others_are_refused_and_shown_no_way_in(desk: Client, fleet: Fleet, role: str) -> None:
    Membership.objects.filter(user=fleet.user).update(role=role)
    made = budgets.create(fleet.group, Wish(Decimal(1)), By())
    for address in (PAGE, f"{PAGE}add/", f"{PAGE}{made.pk}/", f"{PAGE}{made.pk}/remove/"):
        assert desk.get(address).status_code == 403
        assert desk.post(address, SAID).status_code in (403, 405)
    assert PAGE not in desk.get(reverse("overview:page")).content.decode()
    assert Budget.objects.get().amount == 1


def test_anothers_budget_is_not_there(purse: Client, elsewhere: ResourceGroup) -> None:
    """Nor is the fleet's, for who has billing in one of two groups."""
    theirs = budgets.create(elsewhere, Wish(Decimal("4711.00")), By())
    fleets = budgets.create(None, Wish(Decimal("4712.00")), By())
    page = shown(purse)
    assert "4711" not in page and "4712" not in page
    for budget in (theirs, fleets):
        assert purse.get(f"{PAGE}{budget.pk}/").status_code == 404
        assert purse.post(f"{PAGE}{budget.pk}/remove/").status_code == 404
    assert "The whole fleet" not in shown(purse, f"{PAGE}add/")
    refused = purse.post(f"{PAGE}add/", SAID | {"group": elsewhere.pk}).content.decode()
    assert "Select a valid choice" in refused
    nobodys = purse.post(f"{PAGE}add/", SAID | {"group": ""}).content.decode()
    assert "This field is required" in nobodys
    assert Budget.objects.count() == 2


def test_a_group_is_reckoned_without_the_others(purse: Client, fleet: Fleet, elsewhere: ResourceGroup) -> None:
    fleet.instance("without-backups", group=elsewhere)
    fleet.policy(fleet.instance("their-new-one", group=elsewhere))
    fleet.policy(fleet.instance("our-new-one"))
    page = shown(purse)
    assert "our-new-one" in page and "their-new-one" not in page
    assert "not known" in page
    Membership.objects.create(user=fleet.user, group=elsewhere, role=Role.BILLING)
    assert "their-new-one" in shown(purse)
    assert "their-new-one" not in shown(purse, f"{PAGE}?group={fleet.group.pk}")
    assert "their-new-one" in shown(purse, f"{PAGE}?group=nonsense")


def test_a_budget_is_added_changed_and_removed(purse: Client, fleet: Fleet) -> None:
    fleet.protected("orders")
    answer = purse.post(f"{PAGE}add/", SAID | {"group": ""}, HTTP_HX_REQUEST="true", HTTP_HX_TARGET="dialog-body")
    assert answer.status_code == 204
    assert "list:changed" in answer.headers["HX-Trigger"]
    made = Budget.objects.get()
    assert (made.group, made.amount, made.percents, made.created_by) == (None, Decimal(500), [80, 100], fleet.user)
    page = shown(purse)
    assert "$500.00" in page and "alerts at: 80 %, 100 %, forecast" in page
    form = shown(purse, f"{PAGE}{made.pk}/")
    assert 'value="80, 100"' in form and "The whole fleet" in form
    assert purse.post(f"{PAGE}{made.pk}/", SAID | {"amount": "0.01", "percents": "90%"}).status_code == 302
    made.refresh_from_db()
    assert (made.amount, made.percents) == (Decimal("0.01"), [90])
    assert "Spent" in shown(purse)
    assert purse.post(f"{PAGE}{made.pk}/remove/").status_code == 302
    assert not Budget.objects.exists()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"amount": "0"}, "A budget is more than nothing."),
        ({"amount": "-5"}, "A budget is more than nothing."),
        ({"amount": "much"}, "Enter a number."),
        ({"amount": ""}, "This field is required."),
        ({"percents": "many"}, "Enter whole numbers such as 80, 100."),
        ({"percents": "0, 80"}, "A threshold is a whole number of percent"),
        ({"percents": "٨٠"}, "Enter whole numbers such as 80, 100."),
        ({"percents": "", "on_forecast": ""}, "nobody would ever be told"),
        ({"group": "99999999999999999999"}, "Select a valid choice"),
    ],
)
def test_nonsense_comes_back_with_its_words(purse: Client, wrong: dict[str, str], sentence: str) -> None:
    said = {name: value for name, value in (SAID | {"group": ""} | wrong).items() if value or name in ("amount",)}
    answer = purse.post(f"{PAGE}add/", said)
    assert answer.status_code == 200
    assert sentence in answer.content.decode()
    assert not Budget.objects.exists()


def test_a_second_budget_of_a_scope_is_refused_beside_the_field(purse: Client, fleet: Fleet) -> None:
    budgets.create(fleet.group, Wish(Decimal(1)), By())
    answer = purse.post(f"{PAGE}add/", SAID | {"group": fleet.group.pk}).content.decode()
    assert "Payments has a budget already. Change that one instead." in answer


def test_the_alert_leads_to_the_page(purse: Client, fleet: Fleet) -> None:
    fleet.protected("orders")
    budgets.create(None, Wish(Decimal("0.01")), By())
    keep_budget_alerts()
    for name in ("overview:page", "activity:alerts"):
        assert f'href="{PAGE}"' in purse.get(reverse(name)).content.decode()
    Membership.objects.filter(user=fleet.user, role=Role.BILLING).delete()
    for name in ("overview:page", "activity:alerts"):
        page = purse.get(reverse(name)).content.decode()
        assert f'href="{PAGE}"' not in page and "0.01 USD" not in page


def test_the_page_costs_the_same_however_much_there_is(client: Client, fleet: Fleet) -> None:
    client.force_login(fleet.root())
    fleet.everything()
    budgets.create(None, Wish(Decimal(1)), By())
    whole, rows = PINS["page"]
    client.get(PAGE)
    assert _queries(client) <= whole
    assert _queries(client, "rows") <= rows
    for n in range(25):
        group = ResourceGroup.objects.create(name=f"group-{n:02}")
        fleet.protected(f"more-{n:02}", group=group)
        budgets.create(group, Wish(Decimal(n + 1)), By())
    assert _queries(client) <= whole
    assert _queries(client, "rows") <= rows


@pytest.mark.parametrize("address", [f"{PAGE}?group=%00", f"{PAGE}?sort=x&after=%00", f"{PAGE}99999999999999999999/"])
def test_what_makes_no_sense_is_no_surprise(purse: Client, address: str) -> None:
    assert purse.get(address).status_code in (200, 404)


def test_who_has_left_sees_nothing(client: Client, fleet: Fleet) -> None:
    user = User.objects.create_superuser("gone", is_active=False)
    assert not budgets.budgets_for(user).exists()


def _queries(client: Client, target: str = "") -> int:
    headers = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": target} if target else {}
    with CaptureQueriesContext(connection) as seen:
        assert client.get(PAGE, **headers).status_code == 200
    return len(seen)
