"""What one person brought forward waits for a second one, in the admin too (invariants.md, the breaker)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from backups.events import By
from backups.keeping import purging
from backups.models import Copy, CopyState, Event
from backups.terms import agreements
from regions import clock
from regions.refusals import Refusal
from tests.billing.facts import backup_of, copy_of, instance_in, policy_of, store_in
from tests.support.test_acting import act

pytestmark = pytest.mark.django_db


@pytest.fixture
def hasty(db: None) -> User:
    return User.objects.create_superuser("hasty", password="a long password")


@pytest.fixture
def waiting(hasty: User) -> Copy:
    """A copy whose date its owner moved nearer, expired and past its grace."""
    instance = instance_in("cn-beijing")
    store_in("cn-shanghai")
    copy = copy_of(backup_of(instance), policy_of(instance, "cn-shanghai"))
    now = clock.now()
    Copy.objects.filter(pk=copy.pk).update(
        state=CopyState.EXPIRED, expired_at=now, purge_at=now, brought_forward_at=now, brought_forward_by=hasty
    )
    return copy


def test_who_brought_it_forward_cannot_agree_and_another_can(client: Client, hasty: User, waiting: Copy) -> None:
    second = User.objects.create_superuser("second", password="a long password")
    store = waiting.destination_store
    client.force_login(hasty)
    assert "Ask somebody else to agree." in act(client, "regions_store", "approve", store).content.decode()
    waiting.refresh_from_db()
    assert waiting.approved_by is None

    client.force_login(second)
    act(client, "regions_store", "approve", store)
    waiting.refresh_from_db()
    assert waiting.approved_by == second
    assert Event.objects.filter(kind="purge.approved", actor=second).count() == 1


def test_whoever_is_alone_confirms_a_day_later(hasty: User, waiting: Copy) -> None:
    by = By(hasty)
    with pytest.raises(Refusal, match="a day after"):
        purging.approve(waiting.destination_store, by)
    Copy.objects.update(brought_forward_at=clock.now() - timedelta(days=1, seconds=1))
    assert purging.approve(waiting.destination_store, by) == 1


def test_a_new_agreement_is_published_from_a_file(hasty: User, tmp_path: Path) -> None:
    text = tmp_path / "agreement.txt"
    text.write_text("A newer text.")
    call_command("publish_agreement", str(text), user="hasty")
    assert agreements.current_text().text == "A newer text."
    assert agreements.current_version() == 2
    with pytest.raises(CommandError, match="no active user"):
        call_command("publish_agreement", str(text), user="nobody")
    text.write_text(" ")
    with pytest.raises(CommandError, match="no text"):
        call_command("publish_agreement", str(text), user="hasty")
