"""What becomes a message, each from its real cause, and who may hear of it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User

from backups import drilling, restoring, seals
from backups.copying import planning
from backups.drilling import drills
from backups.events import By
from backups.models import Copy, Instance, LandingServer, Membership, ResourceGroup, Restore, Role
from backups.oversight import watch
from billing import budgets
from billing.tasks import keep_budget_alerts
from console.webhooks import endpoints
from console.webhooks.models import Delivery, Endpoint
from regions import clock
from tests.backups.landings import Place, chain, copied, place_in
from tests.backups.logs import History
from tests.backups.time_machine import TimeMachine
from tests.backups.world import SOURCE, TARGET, World
from tests.backups.world import make as make_world
from tests.console.fleet import Fleet
from tests.drills.test_landed import spoil
from tests.webhooks.conftest import Make, sweep
from tests.webhooks.receiver import Receiver


@pytest.fixture
def world(tmp_path: Any, db: None) -> World:
    return make_world(tmp_path)


@pytest.fixture
def fleet(db: None) -> Fleet:
    return Fleet()


@pytest.fixture
def orders(world: World) -> Instance:
    found = world.instance("orders")
    world.enable(found)
    return found


@pytest.fixture
def place(world: World) -> Iterator[Place]:
    with place_in(world) as found:
        yield found


@pytest.fixture
def landed(world: World, place: Place) -> Instance:
    """Copied to where a landing server is; the source is gone."""
    place.register()
    found = world.instance("orders")
    copied(world, found, *((backup,) for backup in chain()))
    shutil.rmtree(world.folder / SOURCE)
    return found


def only(receiver: Receiver, kind: str) -> dict[str, Any]:
    [said] = [one for one in receiver.said if one["type"] == kind]
    return said


def test_a_completed_copy_is_told_once_with_its_ids_and_bytes(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    made = make(world.user)
    copy = world.arrived(orders)
    assert sweep() == 1 and sweep() == 0
    [message] = receiver.messages
    assert message.is_signed_with(made.secret) and message.path == "/hooks/farshore?from=here"
    said = message.said
    assert said["id"] == message.id and said["type"] == "copy.completed"
    assert said["instance"] == {"code": orders.code, "name": "orders"} and said["region"] == SOURCE
    data = said["data"]
    assert (data["copy"], data["set"], data["destination"]) == (copy.pk, copy.set_id, TARGET)
    assert (data["bytes"], data["database"], data["kind"]) == (100, "Sales", "full")
    assert "arrived in" in said["sentence"] and said["occurred_at"].endswith("Z")


def test_a_copy_that_fails_is_told_when_it_begins_to_and_not_with_every_attempt(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    make(world.user)
    found = world.finished(orders)
    planning.weigh(found.pk)
    world.lose(TARGET)
    for _ in range(3):
        Copy.objects.update(due_at=clock.now())
        world.carry()
    copy = found.copies.get()
    assert copy.failures == 3
    sweep()
    said = only(receiver, "copy.failed")
    assert said["data"]["copy"] == copy.pk and "failed" in said["sentence"]


def test_a_copy_that_is_late_is_told(world: World, orders: Instance, make: Make, receiver: Receiver) -> None:
    make(world.user)
    found = world.finished(orders)
    planning.weigh(found.pk)
    Copy.objects.update(planned_at=clock.now() - timedelta(hours=3))
    for _ in range(2):
        watch.watch()
        sweep()
    said = only(receiver, "copy.late")
    assert said["data"]["copy"] == found.copies.get().pk and "more than 2 hours late" in said["sentence"]


def test_a_gap_is_told_when_it_is_found_and_when_it_is_healed(
    world: World, make: Make, receiver: Receiver, time_machine: TimeMachine
) -> None:
    world.store(TARGET)
    history = History(world, world.instance("orders"), time_machine)
    world.set(history.instance, enabled=True, destination=TARGET, logs_enabled=True)
    make(world.user, kinds=["log_gap.found", "log_gap.healed"])
    history.full()
    history.log()
    history.lost_log()
    history.log()
    history.work()
    sweep()
    [gap] = history.gaps
    said = only(receiver, "log_gap.found")["data"]
    assert (said["gap"], said["database"], said["destination"]) == (gap.pk, "Sales", TARGET)
    assert said["from"] == gap.from_time.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    history.full()
    history.work()
    sweep()
    assert only(receiver, "log_gap.healed")["data"]["gap"] == gap.pk
    assert receiver.types == ["log_gap.found", "log_gap.healed"]


@pytest.fixture
def time_machine(monkeypatch: pytest.MonkeyPatch) -> TimeMachine:
    return TimeMachine(monkeypatch)


def test_a_restore_that_is_done_is_told(world: World, landed: Instance, make: Make, receiver: Receiver) -> None:
    make(world.user, kinds=["restore.done"])
    asked = restoring.ask(landed, By(world.user), name="Back", landing=LandingServer.objects.get())
    restoring.run(restoring.claim(TARGET), threading.Event())
    asked.refresh_from_db()
    assert asked.state == Restore.State.READY, asked.error
    sweep()
    said = only(receiver, "restore.done")
    assert (said["data"]["restore"], said["data"]["into"]) == (asked.code, TARGET)
    assert (said["data"]["database"], said["instance"]["code"]) == ("Back", landed.code)


@pytest.mark.django_db(transaction=True)
def test_a_failed_drill_is_told(
    world: World, place: Place, landed: Instance, make: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(world.user, kinds=["drill.failed"])
    drills.ask(landed, drills.FARSHORE)
    drilling.run(drills.claim(TARGET))
    sweep()
    assert not receiver.messages, "one that passed is no news"
    spoil(place, monkeypatch)
    asked = drills.ask(landed, drills.FARSHORE)
    drilling.run(drills.claim(TARGET))
    sweep()
    said = only(receiver, "drill.failed")
    assert said["data"]["drill"] == asked.pk and "Table error" in said["sentence"]


def test_a_budget_that_is_reached_is_told_to_those_who_answer_for_costs(
    fleet: Fleet, make: Make, receiver: Receiver
) -> None:
    Membership.objects.create(user=fleet.user, group=fleet.group, role=Role.BILLING)
    fleet.protected("orders")
    make(fleet.user, kinds=["budget.reached"])
    operator = User.objects.create_user("lin")
    Membership.objects.create(user=operator, group=fleet.group, role=Role.OPERATOR)
    unpaid = make(operator, kinds=["budget.reached"]).endpoint
    mine = budgets.create(fleet.group, budgets.Wish(Decimal("0.01"), (80, 100)), By())
    everybodys = budgets.create(None, budgets.Wish(Decimal("0.01"), (50,)), By())
    keep_budget_alerts()
    sweep()
    told = {(one["data"]["budget"], one["data"]["group"], one["data"]["percent"]) for one in receiver.said}
    assert told == {(mine.pk, "Payments", 80), (mine.pk, "Payments", 100), (everybodys.pk, None, 50)}
    assert {one["data"]["amount_usd"] for one in receiver.said} == {"0.01"}
    assert not unpaid.deliveries.exists()
    ResourceGroup.objects.create(name="Elsewhere")
    budgets.change(everybodys, budgets.Wish(Decimal("0.01"), (60,)), By())
    keep_budget_alerts()
    assert sweep() == 0, "the fleet's budget is for those who answer for all of it"


# ---- who may hear


@pytest.fixture
def mei(world: World) -> User:
    found = User.objects.create_user("mei")
    Membership.objects.create(user=found, group=world.group, role=Role.OPERATOR)
    return found


def test_nobody_hears_of_instances_they_may_not_see(
    world: World, orders: Instance, mei: User, make: Make, receiver: Receiver
) -> None:
    elsewhere = ResourceGroup.objects.create(name="Elsewhere")
    theirs = world.instance("secret-ledger")
    Instance.objects.filter(pk=theirs.pk).update(group=elsewhere)
    theirs.refresh_from_db()
    world.enable(theirs)
    everything = make(world.user).endpoint
    make(mei)
    narrow = make(world.user, groups=[elsewhere]).endpoint
    world.arrived(theirs)
    world.arrived(orders)
    sweep()
    assert everything.deliveries.count() == 2
    assert [one.instance for one in narrow.deliveries.all()] == [theirs]
    [mine] = Delivery.objects.filter(endpoint__user=mei)
    assert mine.instance == orders and "secret-ledger" not in mine.body


def test_who_loses_the_group_or_leaves_hears_nothing_more_not_even_what_waits(
    world: World, orders: Instance, mei: User, make: Make, receiver: Receiver
) -> None:
    endpoint = make(mei).endpoint
    receiver.answers = [500]
    world.arrived(orders)
    sweep()
    assert len(receiver.messages) == 1
    Membership.objects.filter(user=mei).delete()
    Delivery.objects.update(due_at=clock.now())
    Endpoint.objects.update(paused_until=None)
    assert sweep() == 0
    [waited] = endpoint.deliveries.all()
    assert (waited.state, waited.why) == ("dropped", "Its owner may not see this any more.")
    world.arrived(orders)
    Membership.objects.create(user=mei, group=world.group, role=Role.VIEWER)
    User.objects.filter(pk=mei.pk).update(is_active=False)
    sweep()
    User.objects.filter(pk=mei.pk).update(is_active=True)
    sweep()
    assert endpoint.deliveries.count() == 1, "what happened meanwhile is not told later"
    receiver.answers = [200]
    world.arrived(orders)
    Endpoint.objects.update(paused_until=None)
    assert sweep() == 0, "who only looks sends nothing out"
    Membership.objects.filter(user=mei).update(role=Role.OPERATOR)
    world.arrived(orders)
    assert sweep() == 1, "an operator hears of it again"


def test_an_endpoint_hears_of_nothing_before_it_was_made_nor_while_it_was_off(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    world.arrived(orders)
    seals.seal_events()
    endpoint = make(world.user).endpoint
    endpoints.disable(endpoint, world.by)
    world.arrived(orders)
    sweep()
    seals.seal_events()
    endpoints.enable(endpoint, world.by)
    sweep()
    assert not receiver.messages
    world.arrived(orders)
    assert sweep() == 1


def test_only_the_kinds_that_were_chosen_are_told(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    make(world.user, kinds=["drill.failed", "copy.late"])
    world.arrived(orders)
    assert sweep() == 0
