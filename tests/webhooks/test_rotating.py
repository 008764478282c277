"""A new secret: whoever still has a former one is not cut off before that one's own day is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.apps.registry import Apps
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.test import Client
from django.urls import reverse

from backups import events
from backups.models import Instance
from console.webhooks import endpoints, tidying
from console.webhooks.models import FormerSecret
from regions import clock, secrets
from regions.refusals import Refusal
from tests.backups.world import World
from tests.backups.world import make as make_world
from tests.webhooks.conftest import Make, sweep
from tests.webhooks.receiver import Receiver

BEFORE = [("console_webhooks", "0001_webhooks")]


@pytest.fixture
def world(tmp_path: Path, db: None) -> World:
    return make_world(tmp_path)


@pytest.fixture
def orders(world: World) -> Instance:
    return world.instance("orders")


def test_a_second_new_secret_within_the_day_cuts_off_nobody_who_has_the_first(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    first = make(world.user)
    second = endpoints.rotate(first.endpoint, world.by)
    FormerSecret.objects.update(until=clock.now() + timedelta(hours=1))  # 23 of its hours have passed
    third = endpoints.rotate(first.endpoint, world.by)
    events.record("copy.completed", "One arrived.", instance=orders)
    sweep()
    assert all(receiver.messages[0].is_signed_with(one.secret) for one in (first, second, third))
    FormerSecret.objects.filter(pk=FormerSecret.objects.earliest("pk").pk).update(until=clock.now())
    tidying.forget_old()
    events.record("copy.completed", "Another arrived.", instance=orders)
    sweep()
    signed = [receiver.messages[1].is_signed_with(one.secret) for one in (first, second, third)]
    assert signed == [False, True, True], "each has a day of its own"


def test_more_new_secrets_than_can_sign_are_refused_until_the_first_has_had_its_day(
    world: World, make: Make, receiver: Receiver, client: Client
) -> None:
    made = make(world.user)
    known = [made.secret] + [endpoints.rotate(made.endpoint, world.by).secret for _ in range(endpoints.FORMER_MOST)]
    with pytest.raises(Refusal, match="new secrets within a day") as refused:
        endpoints.rotate(made.endpoint, world.by)
    oldest = FormerSecret.objects.earliest("pk")
    assert f"{oldest.until:%Y-%m-%d %H:%M} UTC" in refused.value.remedy
    endpoint = endpoints.endpoint_for(world.user, made.endpoint.code)
    assert endpoints.secrets_of(endpoint, clock.now()) == known[::-1], "none was dropped for it"
    client.force_login(world.user)
    dialog = client.post(reverse("webhooks:rotate", args=[endpoint.code])).content.decode()
    assert "new secrets within a day" in dialog and "whsec_" not in dialog
    FormerSecret.objects.filter(pk=oldest.pk).update(until=clock.now())
    newest = endpoints.rotate(endpoint, world.by).secret
    endpoint.refresh_from_db()
    assert endpoints.secrets_of(endpoint, clock.now()) == [newest, *known[:0:-1]]


def test_what_is_shown_is_until_when_the_last_former_one_signs(world: World, make: Make, receiver: Receiver) -> None:
    made = make(world.user)
    code = made.endpoint.code
    assert endpoints.endpoint_for(world.user, code).former_until is None
    for _ in range(2):
        endpoints.rotate(made.endpoint, world.by)
    assert endpoints.endpoint_for(world.user, code).former_until == FormerSecret.objects.latest("pk").until
    FormerSecret.objects.update(until=clock.now())
    assert endpoints.endpoint_for(world.user, code).former_until is None, "also before it was tidied away"


def upgrade() -> None:
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes("console_webhooks"))


@pytest.fixture
def before_rows(transactional_db: None) -> Iterator[Apps]:
    """The database as it was when an endpoint had one former secret at most."""
    yield MigrationExecutor(connection).migrate(BEFORE).apps
    upgrade()


def test_a_secret_that_was_former_before_the_upgrade_goes_on_signing(
    before_rows: Apps, world: World, receiver: Receiver
) -> None:
    until, at = clock.now() + timedelta(hours=3), clock.now()
    before_rows.get_model("console_webhooks", "Endpoint").objects.create(
        user_id=world.user.pk,
        code="wh-old",
        name="pager",
        url=receiver.url,
        kinds=["copy.late"],
        sealed_secret=secrets.seal(b"the new one", "webhook:wh-old"),
        sealed_former_secret=secrets.seal(b"the old one", "webhook:wh-old"),
        former_until=until,
        created_at=at,
        since=at,
        looked_at=at,
    )
    upgrade()
    endpoint = endpoints.endpoint_for(world.user, "wh-old")
    assert endpoints.secrets_of(endpoint, at) == ["the new one", "the old one"] and endpoint.former_until == until
    MigrationExecutor(connection).migrate(BEFORE)
    back = before_rows.get_model("console_webhooks", "Endpoint").objects.get()
    assert secrets.open_sealed(bytes(back.sealed_former_secret), "webhook:wh-old") == b"the old one"
    assert back.former_until == until
