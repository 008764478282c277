"""How a message goes out: signed, once, again when it was not taken; and where Farshore does not go."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection, transaction

from backups import alerts, events, seals
from backups.events import By
from backups.models import Alert, Event, Instance, Membership, Role
from console.webhooks import delivering, deriving, endpoints, posting, signing, tidying, turns
from console.webhooks.models import Attempt, Delivery, Endpoint, FormerSecret, Turn
from regions import clock
from regions.refusals import Refusal
from tests.backups.world import World
from tests.backups.world import make as make_world
from tests.servers import free_port
from tests.webhooks.conftest import Make, sweep
from tests.webhooks.receiver import Receiver, dripping, receiving, redirecting, silent
from tests.webhooks.vanishing import VANISHING, a_way_to_the_database

ROOT = Path(__file__).parents[2]


@pytest.fixture
def world(tmp_path: Path, db: None) -> World:
    return make_world(tmp_path)


@pytest.fixture
def orders(world: World) -> Instance:
    return world.instance("orders")


def happen(instance: Instance, number: int = 1) -> Event:
    """A copy's arrival as it is written down; the story of the real one is in test_happenings."""
    return events.record("copy.completed", f"The copy {number} arrived.", instance=instance, copy=0, bytes=1)


def again(seconds: float = 0) -> int:
    """Let the pauses pass, and sweep."""
    Delivery.objects.filter(state="waiting").update(due_at=clock.now())
    Endpoint.objects.update(paused_until=None)
    return sweep()


def test_the_signature_is_the_specifications_own_example() -> None:
    """From the test vectors of Standard Webhooks."""
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    said = signing.signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert said == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_one_message_however_often_is_swept(world: World, orders: Instance, make: Make, receiver: Receiver) -> None:
    made = make(world.user)
    event = happen(orders)
    for _ in range(3):
        sweep()
        Endpoint.objects.update(sequence=0)  # as if it had never looked: the row says that it was told
    [delivery] = Delivery.objects.all()
    assert delivery.source == f"event:{event.pk}" and delivery.state == "delivered"
    assert len(receiver.messages) == 1 and receiver.messages[0].is_signed_with(made.secret)
    [attempt] = Attempt.objects.all()
    assert (attempt.status, attempt.error) == (204, "") and attempt.ended_at and attempt.milliseconds is not None
    assert not receiver.messages[0].is_signed_with(signing.new_secret())


@pytest.mark.django_db(transaction=True)
def test_what_commits_later_than_what_came_after_it_is_told_too(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    make(world.user)
    written, may_commit = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            happen(orders, 1)
            written.set()
            may_commit.wait(30)
        connection.close()

    thread = threading.Thread(target=slow)
    thread.start()
    assert written.wait(30)
    happen(orders, 2)
    sweep()
    assert [one["sentence"] for one in receiver.said] == ["The copy 2 arrived."]
    may_commit.set()
    thread.join()
    for _ in range(2):
        sweep()
    assert [one["sentence"] for one in receiver.said] == ["The copy 2 arrived.", "The copy 1 arrived."]
    first, second = (int(one.source.partition(":")[2]) for one in Delivery.objects.order_by("pk"))
    assert second < first, "the one that committed later had the lower id"


def test_what_is_not_taken_is_tried_again_for_a_day_and_a_half_and_then_failed(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    make(world.user)
    happen(orders)
    receiver.answers = [500]
    waited = timedelta(0)
    for _ in range(10):
        again()
        delivery = Delivery.objects.get()
        waited += max(delivery.due_at - clock.now(), timedelta(0))
    assert delivery.state == "failed" and delivery.why == "It was tried 10 times."
    assert timedelta(hours=34) < waited < timedelta(hours=42)
    assert again() == 0
    assert len({message.id for message in receiver.messages}) == 1 and len(receiver.messages) == 10
    assert len({message.body for message in receiver.messages}) == 1
    assert set(Attempt.objects.values_list("status", "error")) == {(500, "It answered 500.")}
    receiver.answers = [200]
    endpoints.send_again(delivery, world.by)
    assert sweep() == 1
    delivery.refresh_from_db()
    assert delivery.state == "delivered" and len({message.id for message in receiver.messages}) == 1


def test_an_endpoint_that_fails_is_left_alone_for_a_while_and_then_caught_up_with(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    make(world.user)
    receiver.answers = [503]
    for number in range(5):
        happen(orders, number)
    assert sweep() == 1, "one attempt tells enough"
    assert sweep() == 0
    endpoint = Endpoint.objects.get()
    assert endpoint.failures == 1 and endpoint.failing_since and endpoint.paused_until > clock.now()
    receiver.answers = [200]
    assert again() == 5
    endpoint.refresh_from_db()
    assert (endpoint.failures, endpoint.failing_since, endpoint.paused_until) == (0, None, None)
    assert not Delivery.objects.exclude(state="delivered").exists()


def test_one_that_hangs_holds_up_nobody_else(
    world: World, orders: Instance, make: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "TOTAL_SECONDS", 2)
    with receiving() as hanging, receiving() as drips:
        hanging.answers, drips.answers = [silent], [dripping]
        slow = [make(world.user, name=one.scheme, url=one.url).endpoint for one in (hanging, drips)]
        make(world.user)
        for number in range(3):
            happen(orders, number)
        began = time.monotonic()
        assert sweep() == 5
        took = time.monotonic() - began
    assert 2 <= took < 5, took
    assert len(receiver.messages) == 3
    for endpoint in slow:
        delivery = endpoint.deliveries.get(last_error="It did not answer in time.")
        assert delivery.state == "waiting" and endpoint.deliveries.count() == 3


def test_a_redirect_is_not_followed(world: World, orders: Instance, make: Make, receiver: Receiver) -> None:
    make(world.user)
    happen(orders)
    with receiving() as other:
        receiver.answers = [redirecting(other.url)]
        sweep()
        assert not other.messages
    assert Delivery.objects.get().last_error == "It redirects; redirects are not followed."


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/latest/meta-data/",
        "https://[fe80::1]/",
        "https://100.100.100.200/",
        "https://[64:ff9b::a9fe:a9fe]/",
        "http://example.org/",
        "https://user:secret@example.org/",
        "ftp://example.org/",
        "https://exa mple.org/",
        "https://example.org/#here",
        "https://no-such-host.invalid/",
        "nonsense",
        "https://127.0.0.1:9/",
    ],
)
def test_where_farshore_does_not_go_is_refused_beside_the_field(
    world: World, make: Make, url: str, settings: Any
) -> None:
    settings.FARSHORE_ALLOW_LOOPBACK = False
    with pytest.raises(Refusal) as refused:
        make(world.user, url=url)
    assert refused.value.field == "url" and "secret" not in str(refused.value)
    assert not Endpoint.objects.exists()


def test_an_address_that_moved_is_refused_when_it_is_sent(
    world: World, orders: Instance, make: Make, receiver: Receiver, settings: Any
) -> None:
    """It may have been judged when it was saved; what counts is where the name leads now."""
    make(world.user)
    happen(orders)
    settings.FARSHORE_ALLOW_LOOPBACK = False
    sweep()
    assert not receiver.messages
    assert "which is loopback; Farshore does not connect there" in Delivery.objects.get().last_error
    Endpoint.objects.update(url="http://169.254.169.254/latest/")
    again()
    assert "link-local" in Delivery.objects.get().last_error


def test_a_certificate_is_held_against_the_name(
    world: World, orders: Instance, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = tmp_path / "receiver.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*command, "-keyout", str(pem), "-out", str(tmp_path / "c.pem")], check=True, capture_output=True)
    pem.write_text(pem.read_text() + (tmp_path / "c.pem").read_text())
    with receiving(pem) as secure:
        made = make(world.user, url=secure.url)
        happen(orders)
        sweep()
        assert not secure.messages
        assert Delivery.objects.get().last_error.startswith("Its certificate is not trusted")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "c.pem"))
        again()
        assert secure.messages[0].is_signed_with(made.secret)
        Endpoint.objects.update(url=secure.url.replace("localhost", "127.0.0.1"))
        happen(orders, 2)
        again()
        assert len(secure.messages) == 1
        assert "mismatch" in Delivery.objects.get(state="waiting").last_error


def test_what_is_no_http_and_what_is_not_there_is_said_in_words(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    receiver.answers = [lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")]
    make(world.user)
    make(world.user, url=f"http://127.0.0.1:{free_port()}/")
    happen(orders)
    sweep()
    assert set(Delivery.objects.values_list("last_error", flat=True)) == {
        "What it answered is not HTTP.",
        "Nothing answers there.",
    }


@pytest.mark.parametrize("role", [Role.BILLING, Role.SECURITY, Role.OPERATOR])
def test_the_log_scans_no_ports_for_who_could_not_scan_them_before(
    world: World,
    orders: Instance,
    make: Make,
    receiver: Receiver,
    role: Role,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A closed port, one that is silent, one that speaks something else: only an operator's log tells them apart, as
    the test of an instance's connection does."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(posting, "TOTAL_SECONDS", 1)
    owner = User.objects.create_user("mei-too")
    Membership.objects.create(user=owner, group=world.group, role=role)
    make(owner, url=f"http://127.0.0.1:{free_port()}/")
    with receiving() as quiet, receiving() as other:
        quiet.answers, other.answers = [silent], [lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")]
        for found in (quiet, other):
            make(owner, url=found.url)
        for endpoint in Endpoint.objects.all():
            endpoints.send_test(endpoint, By(owner))
        assert sweep() == 3
    told = set(Delivery.objects.values_list("last_error", "last_status"))
    why = {"Nothing answers there.", "It did not answer in time.", "What it answered is not HTTP."}
    if role == Role.OPERATOR:
        assert told == {(one, None) for one in why}
        return
    assert told == {(posting.UNTOLD, None)}
    assert all(took >= 1000 for took in Attempt.objects.values_list("milliseconds", flat=True)), "nor by the time"
    assert {one.reason for one in caplog.records if one.message == "webhook not answered"} == why


def test_what_answers_is_told_to_every_owner(world: World, orders: Instance, make: Make, receiver: Receiver) -> None:
    owner = User.objects.create_user("mei-too")
    Membership.objects.create(user=owner, group=world.group, role=Role.SECURITY)
    make(owner)
    receiver.answers = [404]
    happen(orders)
    sweep()
    assert Delivery.objects.get().last_error == "It answered 404."


def _nonsense(size: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\n" + b"x" * 9000)

    return answer


@pytest.mark.parametrize("size", [b"-5", b"-1", b"zz"])
def test_an_answer_that_lies_about_its_length_harms_nobody(
    world: World, orders: Instance, make: Make, receiver: Receiver, size: bytes
) -> None:
    """http.client raises a plain ValueError for a chunk of -5 bytes, and reads without end for one of -1."""
    receiver.answers = [_nonsense(size)]
    make(world.user)
    happen(orders)
    sweep()
    assert Delivery.objects.get().state == "delivered", "it said 200"


def test_what_counts_as_not_answered_is_not_sent_after_all(
    world: World, orders: Instance, make: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that takes longer to resolve than everything may take."""
    make(world.user)
    happen(orders)
    connect = posting.network.connect

    def slowly(*given: Any, **more: Any) -> Any:
        time.sleep(0.4)
        return connect(*given, **more)

    monkeypatch.setattr(posting.network, "connect", slowly)
    monkeypatch.setattr(posting, "TOTAL_SECONDS", 0.3)
    sweep()
    assert receiver.messages == [] and Delivery.objects.get().last_error == "It did not answer in time."


def test_what_goes_wrong_with_one_is_written_down_and_the_others_go_out(
    world: World, orders: Instance, make: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        make(world.user)
    happen(orders)
    real, calls = posting.post, []

    def post(*given: Any, **more: Any) -> Any:
        calls.append(given)
        if len(calls) == 1:
            raise RuntimeError("planted")
        return real(*given, **more)

    monkeypatch.setattr(posting, "post", post)
    sweep()
    assert sorted(Delivery.objects.values_list("state", flat=True)) == ["delivered", "waiting"]
    assert Delivery.objects.get(state="waiting").last_error == "It could not be sent."


def test_who_only_looks_by_now_sends_nothing_out(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    owner = User.objects.create_user("op")
    mine = Membership.objects.create(user=owner, group=world.group, role=Role.OPERATOR)
    make(owner)
    Membership.objects.filter(pk=mine.pk).update(role=Role.VIEWER)
    happen(orders)
    sweep()
    assert receiver.messages == []


def test_gone_for_good_disables_it_and_what_waits_is_dropped(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    endpoint = make(world.user).endpoint
    receiver.answers = [410]
    for number in range(3):
        happen(orders, number)
    assert sweep() == 1
    endpoint.refresh_from_db()
    assert not endpoint.is_enabled and "410" in endpoint.disabled_why
    assert set(endpoint.deliveries.values_list("state", flat=True)) == {"dropped"}
    assert Event.objects.filter(kind="webhook.disabled", actor=None).count() == 1
    assert again() == 0
    with pytest.raises(Refusal, match="disabled"):
        endpoints.send_again(endpoint.deliveries.first(), world.by)


def test_days_of_nothing_but_failures_disable_it_with_an_alert(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    endpoint = make(world.user).endpoint
    receiver.answers = [500]
    happen(orders)
    sweep()
    Endpoint.objects.update(failing_since=clock.now() - delivering.GIVEN_UP_AFTER + timedelta(hours=1))
    again()
    assert Endpoint.objects.get().is_enabled
    Endpoint.objects.update(failing_since=clock.now() - delivering.GIVEN_UP_AFTER)
    again()
    endpoint.refresh_from_db()
    assert not endpoint.is_enabled
    opened = Alert.objects.filter(code="webhook_failing", closed_at=None)
    assert "has taken nothing since" in opened.get().sentence
    endpoints.enable(endpoint, world.by)
    assert not opened.exists()


def test_for_a_day_the_old_secret_signs_beside_the_new_one(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    old = make(world.user)
    new = endpoints.rotate(old.endpoint, world.by)
    happen(orders)
    sweep()
    [message] = receiver.messages
    assert message.is_signed_with(old.secret) and message.is_signed_with(new.secret) and old.secret != new.secret
    FormerSecret.objects.update(until=clock.now())
    happen(orders, 2)
    sweep()
    assert receiver.messages[1].is_signed_with(new.secret) and not receiver.messages[1].is_signed_with(old.secret)
    tidying.forget_old()
    assert not FormerSecret.objects.exists()


def test_both_secrets_are_sealed_again_when_the_key_ring_is_rotated(
    world: World, orders: Instance, make: Make, receiver: Receiver, settings: Any, tmp_path: Path
) -> None:
    settings.FARSHORE_KEYS = tmp_path / "keys"
    old = make(world.user)
    new = endpoints.rotate(old.endpoint, world.by)
    before, former_before = Endpoint.objects.get(), FormerSecret.objects.get()
    call_command("rotate_keys", verbosity=0)
    after, former_after = Endpoint.objects.get(), FormerSecret.objects.get()
    assert bytes(after.sealed_secret) != bytes(before.sealed_secret)
    assert bytes(former_after.sealed) != bytes(former_before.sealed)
    settings.FARSHORE_KEYS.write_text(settings.FARSHORE_KEYS.read_text().splitlines()[0] + "\n")
    happen(orders)
    sweep()
    assert receiver.messages[0].is_signed_with(old.secret) and receiver.messages[0].is_signed_with(new.secret)


def test_no_secret_is_in_events_logs_or_rows(
    world: World, orders: Instance, make: Make, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """I18; a path of the receiver's may be a secret too, and is told nowhere but on its owner's page."""
    caplog.set_level(logging.DEBUG)
    made = make(world.user)
    again_made = endpoints.rotate(made.endpoint, world.by)
    receiver.answers = [500]
    happen(orders)
    sweep()
    endpoints.disable(made.endpoint, world.by)
    endpoints.enable(made.endpoint, world.by)
    endpoints.remove(made.endpoint, world.by)
    told = json.dumps(list(Event.objects.values("sentence", "data", "kind")), default=str) + caplog.text
    told += json.dumps(list(Delivery.objects.values()), default=str) + json.dumps(
        list(Attempt.objects.values()), default=str
    )
    for secret in (made.secret, again_made.secret, "hooks/farshore"):
        assert secret not in told and secret.removeprefix("whsec_") not in told
    kinds = Event.objects.filter(kind__startswith="webhook.").order_by("pk").values_list("kind", flat=True)
    assert [kind.partition(".")[2] for kind in kinds] == ["created", "rotated", "disabled", "enabled", "removed"]
    removed = Endpoint.objects.get()
    assert bytes(removed.sealed_secret) == b"" and not FormerSecret.objects.exists()
    assert not endpoints.endpoints_for(world.user).exists()


DYING = """
import os, signal, django
django.setup()
from console.webhooks import delivering
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
delivering.settle = die
delivering.deliver_due()
"""


@pytest.mark.django_db(transaction=True)
def test_killed_between_the_post_and_the_row_the_same_id_goes_out_again(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    made = make(world.user)
    happen(orders)
    seals.seal_events()
    deriving.derive()
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "console.settings"}
    died = subprocess.run([sys.executable, "-c", DYING], cwd=ROOT, env=environment, capture_output=True, timeout=120)
    assert died.returncode == -9, died.stderr.decode()[-2000:]
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.attempts, delivery.fence) == ("waiting", 1, 1) and len(receiver.messages) == 1
    assert sweep() == 0, "its turn is not over"
    Turn.objects.update(leased_until=clock.now())
    assert sweep() == 0, "nor is its lease of the message"
    Delivery.objects.update(leased_until=clock.now())
    assert sweep() == 1
    first, second = receiver.messages
    assert first.id == second.id and first.body == second.body and second.is_signed_with(made.secret)
    delivery.refresh_from_db()
    assert delivery.state == "delivered"
    assert [(one.fence, bool(one.ended_at)) for one in Attempt.objects.order_by("fence")] == [(1, False), (2, True)]


@pytest.mark.django_db(transaction=True)
def test_of_a_sender_whose_machine_vanished_another_takes_over_though_its_session_is_still_there(
    world: World, orders: Instance, make: Make, receiver: Receiver, tmp_path: Path
) -> None:
    """PostgreSQL misses a machine that says nothing any more only after its TCP keep-alive: hours, as it is shipped."""
    make(world.user)
    happen(orders)
    seals.seal_events()
    deriving.derive()
    with a_way_to_the_database(tmp_path) as address:
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "console.settings", "DATABASE_URL": address}
        died = subprocess.run(
            [sys.executable, "-c", DYING], cwd=ROOT, env=environment, capture_output=True, timeout=120
        )
        assert died.returncode == -9, died.stderr.decode()[-2000:]
        assert sweep() == 0, "it has the turn"
        turn = Turn.objects.get()
        assert turn.leased_by.startswith(socket.gethostname()) and f":{os.getpid()}" not in turn.leased_by
        assert turn.leased_until < clock.now() + timedelta(minutes=1)
        Turn.objects.update(leased_until=clock.now())
        Delivery.objects.update(leased_until=clock.now())
        assert sweep() == 1 and Delivery.objects.get().state == "delivered"
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [VANISHING])
            assert cursor.fetchone() == (1,), "nobody has told PostgreSQL"
    assert Turn.objects.get().leased_until is None


@pytest.mark.django_db(transaction=True)
def test_an_endpoint_that_somebody_locked_holds_up_none_of_the_others(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    """Such as a machine that vanished while it wrote down what came of it."""
    locked, free = make(world.user).endpoint, make(world.user).endpoint
    happen(orders)
    seals.seal_events()
    deriving.derive()
    holds, may_end = threading.Event(), threading.Event()

    def other() -> None:
        with transaction.atomic():
            endpoints.lock(locked.pk)
            holds.set()
            may_end.wait(30)
        connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert holds.wait(30)
    assert sweep() == 1 and thread.is_alive(), "nobody waited for it"
    assert free.deliveries.get().state == "delivered" and locked.deliveries.get().attempts == 0
    may_end.set()
    thread.join()
    assert sweep() == 1 and locked.deliveries.get().state == "delivered"


def test_whose_turn_has_passed_to_another_does_not_end_it(world: World) -> None:
    with turns.turn() as first:
        Turn.objects.update(leased_until=clock.now())
        with turns.turn() as second:
            assert first and second
            until = Turn.objects.get().leased_until
            turns._give_back(1)
            assert Turn.objects.get().leased_until == until
            with turns.turn() as third:
                assert not third


@pytest.mark.django_db(transaction=True)
def test_there_is_one_run_at_a_time(world: World, orders: Instance, make: Make, receiver: Receiver) -> None:
    """What hangs holds one slot of one worker, however often the clock rings."""
    make(world.user)
    happen(orders)
    holds, may_end = threading.Event(), threading.Event()

    def other() -> None:
        with turns.turn() as mine:
            assert mine
            holds.set()
            may_end.wait(30)
        connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert holds.wait(30)
    assert sweep() == 0 and Delivery.objects.get().state == "waiting"
    may_end.set()
    thread.join()
    assert sweep() == 1


def test_an_alert_is_told_once_however_the_looks_overlap(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    """Also one that became visible after a later one had been told, and one that has closed again meanwhile."""
    alerts.open_alert("copy_late", "copy:1", "Too early to be told.", instance=orders)
    Alert.objects.update(opened_at=clock.now() - timedelta(seconds=1))
    make(world.user)
    alerts.open_alert("copy_late", "copy:2", "The second.", instance=orders)
    sweep()
    late = alerts.open_alert("copy_late", "copy:3", "The third.", instance=orders)
    Alert.objects.filter(pk=late.pk).update(opened_at=Alert.objects.get(subject="copy:2").opened_at)
    alerts.close_alert("copy_late", "copy:3")
    for _ in range(3):
        sweep()
    assert [one["sentence"] for one in receiver.said] == ["The second.", "The third."]
    alerts.open_alert("copy_late", "copy:3", "The third, once more.", instance=orders)
    sweep()
    assert receiver.said[-1]["sentence"] == "The third, once more."


def test_who_lost_the_lease_writes_nothing(world: World, orders: Instance, make: Make, receiver: Receiver) -> None:
    """I15."""
    endpoint = make(world.user).endpoint
    happen(orders)
    seals.seal_events()
    deriving.derive()
    slow = delivering.claim_next(endpoint.pk)
    assert delivering.claim_next(endpoint.pk) is None, "it is leased"
    Delivery.objects.update(leased_until=clock.now())
    quick = delivering.claim_next(endpoint.pk)
    assert not delivering.settle(slow, posting.Outcome(500, "late", 1))
    assert delivering.settle(quick, posting.Outcome(200, "", 1))
    assert Delivery.objects.get().state == "delivered" and Endpoint.objects.get().failures == 0


def test_the_log_is_forgotten_after_thirty_days_but_not_what_waits(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    make(world.user)
    happen(orders)
    sweep()
    receiver.answers = [500]
    happen(orders, 2)
    sweep()
    Delivery.objects.update(created_at=clock.now() - timedelta(days=29))
    assert tidying.forget_old() == 0
    Delivery.objects.update(created_at=clock.now() - timedelta(days=31))
    assert tidying.forget_old() == 1
    assert Delivery.objects.get().state == "waiting" and Attempt.objects.count() == 1


def test_only_who_may_do_more_than_look_makes_one(world: World, make: Make) -> None:
    looker = User.objects.create_user("looker")
    world.group.memberships.create(user=looker, role="viewer")
    with pytest.raises(Refusal, match="looking at it is not enough"):
        make(looker)
    world.group.memberships.create(user=looker, role="security")
    assert make(looker).endpoint.user == looker


def test_the_timetable_rings_it() -> None:
    from console.management.commands.beat import timetable
    from console.webhooks import tasks

    assert timetable()["console.webhooks.tasks.sweep_webhooks"] == 5
    assert tasks.sweep_webhooks.name in timetable() and tasks.tidy_webhooks.name in timetable()
