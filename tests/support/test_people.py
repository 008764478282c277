"""An administrator adds a colleague as docs/people.md says: a user, then a role; done wrong, it is refused in words."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from backups.models import Event, Instance, Membership, Role
from tests.billing.facts import instance_in

pytestmark = pytest.mark.django_db

PASSWORD = "a first one for wei"  # noqa: S105


@pytest.fixture
def root(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root", password="a long password"))
    return client


@pytest.fixture
def orders() -> Instance:
    return instance_in("cn-beijing")


def add_user(root: Client, password: str = PASSWORD) -> str:
    said = {"username": "wei", "usable_password": "true", "password1": password, "password2": password}
    return root.post(reverse("admin:auth_user_add"), said, follow=True).content.decode()


def join(root: Client, instance: Instance, **changes: object) -> str:
    said = {"user": User.objects.get(username="wei").pk, "group": instance.group_id, "role": "operator"} | changes
    return root.post(reverse("admin:backups_membership_add"), said, follow=True).content.decode()


def test_a_colleague_signs_in_and_sees_the_instances_of_their_group(root: Client, orders: Instance) -> None:
    add_user(root)
    colleague, page = Client(), reverse("instances:page", args=[orders.code])
    assert colleague.login(username="wei", password=PASSWORD)
    assert colleague.get(page).status_code == 404
    assert "was added successfully" in join(root, orders)
    assert colleague.get(page).status_code == 200
    assert colleague.get(reverse("admin:index")).status_code == 302  # a role is no way into the administration
    root.post(reverse("admin:backups_membership_delete", args=[Membership.objects.get().pk]), {"post": "yes"})
    assert colleague.get(page).status_code == 404
    told = ["support.membership.added", "support.membership.deleted"]
    assert [event.kind for event in Event.objects.filter(kind__in=told).order_by("pk")] == told


def test_done_wrong_it_is_refused_in_words(root: Client, orders: Instance) -> None:
    assert "must contain at least 12 characters" in add_user(root, "short")
    assert not User.objects.filter(username="wei").exists()
    add_user(root)
    assert "This field is required." in join(root, orders, role="")
    assert "is not one of the available choices" in join(root, orders, role="king")
    assert not Membership.objects.exists()
    join(root, orders)
    assert "already exists" in join(root, orders)
    join(root, orders, role="security")
    assert {each.role for each in Membership.objects.all()} == {Role.OPERATOR, Role.SECURITY}


def test_who_has_left_is_shut_out_at_once(root: Client, orders: Instance) -> None:
    add_user(root)
    join(root, orders)
    colleague = Client()
    assert colleague.login(username="wei", password=PASSWORD)
    User.objects.filter(username="wei").update(is_active=False)
    assert colleague.get(reverse("instances:list")).status_code == 302
    assert not Client().login(username="wei", password=PASSWORD)
