"""A copy is held under a case number and released, by whoever has the role security (R-14.3, I4)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from backups.events import By
from backups.keeping import holds
from backups.models import Copy, CopyState, Event, Hold, Membership, Role
from regions import clock
from regions.refusals import Refusal
from tests.console.fleet import Fleet

DIALOG = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "dialog-body"}


def words(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


@pytest.fixture
def copy(fleet: Fleet) -> Copy:
    return Copy.objects.filter(set__instance=fleet.protected("orders", copies=1)).get()


@pytest.fixture
def guard(client: Client, fleet: Fleet) -> Client:
    """A browser at which somebody with the role security, and no other, has signed in."""
    person = User.objects.create_user("guard")
    Membership.objects.create(user=person, group=fleet.group, role=Role.SECURITY)
    client.force_login(person)
    return client


def test_it_is_held_and_released_from_the_sets_page(guard: Client, copy: Copy) -> None:
    page, place = f"/backups/sets/{copy.set_id}/", f"/backups/sets/copies/{copy.pk}/hold/"
    assert f'href="{place}"' in words(guard.get(page))
    shown = words(guard.get(place, **DIALOG))
    assert "Hold this copy" in shown and "It is charged as long as it is held" in shown and "for 30 days" in shown
    Copy.objects.filter(pk=copy.pk).update(stored_bytes=1024)
    assert "1.00 KB</bdi> cost <bdi>under $0.01</bdi> for 30 days" in words(guard.get(place, **DIALOG)), "not nothing"
    assert "It is held under HR-2026/17." in words(guard.post(place, {"case_number": " HR-2026/17 "}, follow=True))
    hold = Hold.objects.get()
    copy.refresh_from_db()
    assert (copy.expires_at, copy.kept_for, hold.placed_by.username) == (None, "hold", "guard")
    shown = words(guard.get(page))
    assert "HR-2026/17" in shown and "by guard" in shown and "held by a person" in shown
    assert "HR-2026/17" in words(guard.get(f"{page}copies/"))
    release = f"/backups/sets/holds/{hold.pk}/release/"
    assert "goes by its own date again" in words(guard.get(release, **DIALOG))
    assert "The hold under HR-2026/17 is released." in words(guard.post(release, follow=True))
    copy.refresh_from_db()
    assert copy.expires_at is not None and copy.kept_for == ""
    assert "HR-2026/17" not in words(guard.get(f"{page}copies/"))
    kinds = Event.objects.filter(kind__startswith="hold.").order_by("pk").values_list("kind", "data__case_number")
    assert list(kinds) == [("hold.placed", "HR-2026/17"), ("hold.released", "HR-2026/17")]
    guard.post(release)
    assert Event.objects.filter(kind="hold.released").count() == 1, "delivered twice"


def test_the_last_of_several_holds_lets_it_go(guard: Client, copy: Copy) -> None:
    by = By(User.objects.get(username="guard"))
    first, second = holds.place(copy, "A", by), holds.place(copy, "B", by)
    assert "under 1 other case number" in words(guard.get(f"/backups/sets/holds/{first.pk}/release/", **DIALOG))
    for hold, kept in ((first, "hold"), (second, "")):
        holds.release(hold, by)
        copy.refresh_from_db()
        assert copy.kept_for == kept


@pytest.mark.parametrize(
    ("said", "expected"),
    [("", "Enter what the case is known by."), ("x" * 101, "at most 100"), ("a\u202eb", "all of them visible")],
)
def test_a_case_number_that_is_none_is_refused_beside_its_field(
    guard: Client, copy: Copy, said: str, expected: str
) -> None:
    assert expected in words(guard.post(f"/backups/sets/copies/{copy.pk}/hold/", {"case_number": said}, **DIALOG))
    assert not Hold.objects.exists()


def test_one_case_holds_a_copy_once(guard: Client, copy: Copy) -> None:
    place = f"/backups/sets/copies/{copy.pk}/hold/"
    guard.post(place, {"case_number": "A"})
    assert "is held under A already" in words(guard.post(place, {"case_number": "A"}, **DIALOG))
    assert Hold.objects.count() == 1


@pytest.mark.parametrize("state", ["planned", "copying", "verifying", "failed"])
def test_what_has_not_arrived_is_not_held(guard: Client, copy: Copy, state: str) -> None:
    Copy.objects.filter(pk=copy.pk).update(state=state)
    with pytest.raises(Refusal) as refused:
        holds.place(copy, "A", By(User.objects.get(username="guard")))
    assert refused.value.code == "HoldTooEarly"
    assert 'type="submit">Hold' not in words(guard.get(f"/backups/sets/copies/{copy.pk}/hold/", **DIALOG))


def test_what_is_being_deleted_or_is_gone_is_not_held(guard: Client, copy: Copy) -> None:
    at = clock.now()
    Copy.objects.filter(pk=copy.pk).update(
        state=CopyState.EXPIRED, expired_at=at - timedelta(days=2), deleting_since=at
    )
    assert "is deleted" in words(guard.post(f"/backups/sets/copies/{copy.pk}/hold/", {"case_number": "A"}, **DIALOG))
    assert not Hold.objects.exists()


def test_nobody_else_holds_or_releases(desk: Client, fleet: Fleet, copy: Copy) -> None:
    """An operator sees the case and changes nothing; a stranger sees nothing."""
    hold = holds.place(copy, "A", By(fleet.root()))
    Membership.objects.filter(user=fleet.user).exclude(role=Role.OPERATOR).delete()
    page = words(desk.get(f"/backups/sets/{copy.set_id}/"))
    addresses = (f"/backups/sets/copies/{copy.pk}/hold/", f"/backups/sets/holds/{hold.pk}/release/")
    assert "by root" in page and not any(address in page for address in addresses)
    stranger = User.objects.create_user("stranger")
    for user, status in ((fleet.user, 403), (stranger, 404)):
        desk.force_login(user)
        for address in addresses:
            assert desk.get(address).status_code == desk.post(address, {"case_number": "B"}).status_code == status
    assert list(Hold.objects.values_list("case_number", "released_at")) == [("A", None)]


def test_farshore_itself_holds_nothing(copy: Copy) -> None:
    with pytest.raises(Refusal, match="by a person"):
        holds.place(copy, "A", By())
