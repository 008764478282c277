"""Drills with a real PostgreSQL: the copy is restored, looked into, and the throw-away server is gone again (R-1.2)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from backups import drilling, restore_sources, tasks
from backups.drilling import drill_sources, drills
from backups.engines import confinement
from backups.keeping import expiring, purging, retention
from backups.models import Alert, Copy, CopyState, Drill, DrillQuery, Event, Instance, Pin, StorageSpan, Transfer
from backups.oversight import audit
from backups.servers.places_for_servers import place_for
from console.runtime.places import CLONE
from regions import clock
from regions.refusals import Refusal
from regions.storage import patience
from tests.backups.world import TARGET, World
from tests.engines.postgresql.clusters import Cluster

pytestmark = pytest.mark.long
Pick, State = Drill.Pick, Drill.State


def drill(instance: Instance, pick: str = Pick.NEWEST) -> Drill:
    """Ask for a drill and do what a worker of the backup region would."""
    drills.ask(instance, drills.FARSHORE, pick=pick)
    claimed = drills.claim(TARGET)
    drilling.run(claimed)
    claimed.refresh_from_db()
    return claimed


def object_of(world: World, copy: Copy) -> Path:
    return world.folder / TARGET / Transfer.objects.get(copied_files__copy=copy).key


def flip(path: Path, at: int) -> None:
    """Let a byte rot: nobody wrote to the file, so neither its time nor its size tells."""
    before = path.stat()
    path.chmod(0o600)
    with open(path, "r+b") as file:
        file.seek(at)
        [value] = file.read(1)
        file.seek(at)
        file.write(bytes([value ^ 0xFF]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def left_in_place() -> tuple[list[Path], list[int]]:
    place = place_for(drilling.PLACE)
    return list(place.iterdir()), confinement.living_in(place)


def eventually(true: Callable[[], Any], seconds: float = 30) -> Any:
    until = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def alerts_of(code: str) -> list[str]:
    return list(Alert.objects.filter(code=code, closed_at=None).values_list("sentence", flat=True))


def test_a_drill_proves_a_restore_and_leaves_nothing_behind(world: World, shop: Instance, copy: Copy) -> None:
    drills.add_query(shop, "postgres", "SELECT max(n) FROM orders WHERE note <> ''", "5000", world.by)
    found = drill(shop)

    assert (found.state, found.sentence) == (State.PASSED, "Restored, checked, counted and removed again.")
    assert found.restored_until == copy.set.finished_at
    assert found.rows == {"postgres.public.orders": 5000}
    assert [(check["name"].split()[0], check["passed"]) for check in found.checks] == [
        ("pg_amcheck", True),
        ("rows", True),
        ("SELECT", True),
    ]
    assert {"unpack", "replay", "start", "recovery", "engine check", "rows", "queries"} <= set(found.seconds)
    assert found.seconds["recovery"] >= found.seconds["unpack"]

    evidence = found.evidence
    transfer = Transfer.objects.get(copied_files__copy=copy)
    assert [(one["copy"], one["digests"]) for one in evidence["copies"]] == [(copy.pk, [transfer.digest])]
    assert evidence["tools"]["pg_amcheck"].startswith("PostgreSQL 1")
    assert "database system is ready to accept connections" in evidence["server_log"]
    assert evidence["removed"] is True
    assert left_in_place() == ([], [])

    assert drills.last_proven([shop])[shop.pk].rows == 5000
    assert Event.objects.filter(kind="drill.passed", instance=shop).count() == 1
    assert list(audit.unproven_passes()) == []


def test_the_throw_away_server_has_no_network(world: World, shop: Instance, copy: Copy) -> None:
    seen: list[tuple[bool, str]] = []

    def look(trial: drilling.Trial, server: Any) -> None:
        listening = server.connection.host.startswith("/")
        seen.append((listening, confinement.has_own_network(server.pid)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drilling.Trial, "_count", look)
        found = drill(shop)
    [(by_socket, own_network)] = seen
    assert by_socket
    assert found.isolation == ("namespace" if own_network else "socket"), "the evidence says what was so"


def test_the_teams_own_question_with_another_answer_fails_it(world: World, shop: Instance, copy: Copy) -> None:
    asked = drills.add_query(shop, "postgres", "SELECT count(*) FROM orders", "5001", world.by)
    drills.add_query(shop, "nowhere", "SELECT 1", "1", world.by)
    found = drill(shop)

    assert found.state == State.FAILED
    assert "5000, expected 5001" in found.sentence
    assert found.checks[-1]["passed"] is False and "no database nowhere" in found.checks[-1]["findings"][0]
    assert alerts_of("drill_failed") == [f"The last drill of shop failed: {found.sentence}"]
    assert drills.last_proven([shop]) == {}
    assert copy.state == CopyState.COMPLETED, "the bytes are sound"

    DrillQuery.objects.exclude(pk=asked.pk).delete()
    DrillQuery.objects.filter(pk=asked.pk).update(expected="5000")
    assert drill(shop).state == State.PASSED
    assert alerts_of("drill_failed") == [], "the next one that passes closes it"


def test_a_question_can_change_nothing(world: World, shop: Instance, copy: Copy) -> None:
    for sql in ("DELETE FROM orders RETURNING 1", "SELECT 1; SELECT 2", "COMMIT", "SELECT pg_sleep('x')"):
        DrillQuery.objects.create(instance=shop, database="postgres", sql=sql, expected="1", added_at=clock.now())
    for sql, expected in (("SELECT NULL", "NULL"), ("SELECT 1 WHERE false", "no row"), ("SELECT 1.50", "1.50")):
        drills.add_query(shop, "postgres", sql, expected, world.by)
    found = drill(shop)
    assert [check["passed"] for check in found.checks[2:]] == [False] * 4 + [True] * 3, found.checks
    assert "read-only" in found.checks[2]["findings"][0]


@pytest.mark.parametrize("at", [300, -1], ids=["in the first header", "behind the end of the archive"])
def test_a_copy_damaged_at_rest_fails_it_and_is_marked(world: World, shop: Instance, copy: Copy, at: int) -> None:
    path = object_of(world, copy)
    flip(path, at % path.stat().st_size)
    found = drill(shop)

    copy.refresh_from_db()
    assert found.state == State.FAILED
    assert found.sentence.startswith(f"The copy of {copy.set} is damaged: part ")
    assert copy.state == CopyState.DAMAGED
    assert len(alerts_of("copy_damaged")) == len(alerts_of("drill_failed")) == 1
    assert not StorageSpan.objects.filter(copy=copy, ended_at=None).exists(), "nobody pays for it from here on"
    assert list(audit.wrong_spans()) == []
    assert not shop.intervals.exists(), "and no moment of it is offered"
    assert left_in_place() == ([], [])
    again = drills.ask(shop, world.by)
    assert (again.state, again.sentence[:28]) == (State.SKIPPED, "No copy of it has been compl")


def test_a_damaged_copy_goes_when_its_time_comes_and_never_becomes_sound_again(
    world: World, shop: Instance, copy: Copy
) -> None:
    flip(object_of(world, copy), 4096)
    drill(shop)
    world.disable(shop, days=7)
    past = clock.now() - timedelta(days=8)
    type(copy.set).objects.filter(pk=copy.set_id).update(finished_at=past)
    retention.reschedule(shop.pk, copy.destination_store_id)
    expiring.expire_due()
    copy.refresh_from_db()
    assert copy.state == CopyState.EXPIRED
    assert alerts_of("copy_damaged") == []
    shop.policies.update(retention_days=30)
    retention.reschedule(shop.pk, copy.destination_store_id)
    copy.refresh_from_db()
    assert copy.state == CopyState.DAMAGED, "undone, and damaged as before"
    assert not copy.spans.filter(ended_at=None).exists()
    shop.policies.update(retention_days=7)
    retention.reschedule(shop.pk, copy.destination_store_id)
    expiring.expire_due()
    long_ago = {"expired_at": past, "purge_at": past, "brought_forward_by": None}
    Copy.objects.filter(pk=copy.pk).update(**long_ago)
    assert purging.purge_due(TARGET) == 1
    assert not object_of(world, copy).exists()


def test_the_sweep_and_the_bell_drill_it_with_nobody_there(
    world: World, shop: Instance, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_drilling", [])
    tasks.sweep()
    assert Drill.objects.get().state == State.QUEUED
    tasks.run_drills(TARGET)
    [child] = tasks._drilling
    assert child.wait(120) == 0
    assert Drill.objects.get().state == State.PASSED
    assert drills.last_proven([shop])


def test_damage_on_the_way_is_not_blamed_on_the_copy(
    world: World, shop: Instance, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, plain = drill_sources.Damage(4096, 1), restore_sources.of_copy
    with monkeypatch.context() as patch:
        through = {"through": lambda storage: drill_sources.Flipping(storage, once)}
        patch.setattr(restore_sources, "of_copy", lambda copy: plain(copy, **through))
        found = drill(shop)
    assert found.state == State.FAILED
    assert "whole when it was read again" in found.sentence
    copy.refresh_from_db()
    assert copy.state == CopyState.COMPLETED


def test_a_canary_passes_because_the_damage_is_noticed(world: World, shop: Instance, copy: Copy) -> None:
    before = hashlib.sha256(object_of(world, copy).read_bytes()).hexdigest()
    for _ in range(3):
        found = drill(shop, Pick.CANARY)
        assert found.state == State.PASSED, (found.sentence, found.checks)
        assert [check["passed"] for check in found.checks] == [True, True]
    assert hashlib.sha256(object_of(world, copy).read_bytes()).hexdigest() == before, "I20: byte-identical"
    copy.refresh_from_db()
    assert copy.state == CopyState.COMPLETED
    assert drills.last_proven([shop]) == {}, "a canary proves that damage is noticed, not that a restore works"
    assert left_in_place() == ([], [])
    assert list(audit.unproven_passes()) == []


def test_a_canary_whose_damage_goes_unnoticed_fails(
    world: World, shop: Instance, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("backups.drilling.drill_sources.Damage.within", lambda damage, start, stop: iter(()))
        found = drill(shop, Pick.CANARY)
    assert found.state == State.FAILED
    assert "went unnoticed" in found.sentence
    assert len(alerts_of("drill_canary_failed")) == 1
    assert drill(shop).state == State.PASSED
    assert len(alerts_of("drill_canary_failed")) == 1, "a sound restore says nothing of it"
    assert drill(shop, Pick.CANARY).state == State.PASSED
    assert alerts_of("drill_canary_failed") == []


def test_a_drill_survives_kill_9_and_nothing_of_it_runs_on(
    world: World, shop: Instance, copy: Copy, cluster: Cluster
) -> None:
    asked = drills.ask(shop, world.by)
    claimed = drills.claim(TARGET)
    child = subprocess.Popen(
        [sys.executable, "manage.py", "run_drill", str(claimed.pk), str(claimed.fence)],
        cwd=CLONE,
        env=dict(os.environ, LEASE_SECONDS="90"),
    )
    folder = place_for(drilling.PLACE) / f"{claimed.pk}-{claimed.fence}"
    assert eventually(lambda: confinement.living_in(folder)), "its server runs"
    assert copy.pins.filter(reason="drill", until__gt=clock.now()).exists(), "I4: what it reads is pinned"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()

    assert eventually(lambda: not confinement.living_in(folder)), "the server ended with it"
    assert drills.claim(TARGET) is None, "the lease still protects the dead child's drill"
    Drill.objects.update(leased_until=clock.now() - timedelta(seconds=1))
    again = drills.claim(TARGET)
    assert (again.pk, again.fence, again.attempts) == (asked.pk, claimed.fence + 1, 2)
    drilling.run(again)
    again.refresh_from_db()
    assert again.state == State.PASSED
    assert left_in_place() == ([], []), "what the dead one left is gone too"
    assert not Pin.objects.filter(until__gt=clock.now() + timedelta(seconds=200)).exists()


def test_who_lost_the_lease_writes_nothing(world: World, shop: Instance, copy: Copy) -> None:
    drills.ask(shop, world.by)
    claimed = drills.claim(TARGET)
    Drill.objects.filter(pk=claimed.pk).update(fence=claimed.fence + 1)
    drilling.run(claimed)
    row = Drill.objects.get()
    assert (row.state, row.rows, row.finished_at) == (State.RUNNING, {}, None)
    assert left_in_place() == ([], [])


def test_a_drill_that_never_ends_is_given_up(world: World, shop: Instance, copy: Copy) -> None:
    drills.ask(shop, world.by)
    Drill.objects.update(attempts=drills.MOST_ATTEMPTS)
    drilling.run(drills.claim(TARGET))
    row = Drill.objects.get()
    assert row.state == State.FAILED
    assert "never came to an end" in row.sentence


def test_a_store_that_does_not_answer_is_asked_again_later(
    world: World, shop: Instance, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "pause_before", lambda attempt, error: 0)
    (world.folder / TARGET).rename(world.folder / "unplugged")
    found = drill(shop)
    assert (found.state, found.leased_until) == (State.QUEUED, None)
    assert found.due_at > clock.now()
    Drill.objects.update(due_at=clock.now(), attempts=5 - 1)
    drilling.run(drills.claim(TARGET))
    found.refresh_from_db()
    assert found.state == State.FAILED, "in the end that is an answer too"
    assert copy.state == CopyState.COMPLETED


def test_no_program_for_that_version_is_skipped_and_said(world: World, shop: Instance, copy: Copy) -> None:
    copy.set.tool_version = "39.1"
    copy.set.save()
    found = drill(shop)
    assert found.state == State.SKIPPED
    assert "cannot start a PostgreSQL 39" in found.sentence
    assert alerts_of("drill_failed") == []


def test_as_an_ordinary_user_found_backups_are_not_trusted(
    world: World, shop: Instance, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.set.origin = "found"
    copy.set.save()
    monkeypatch.setattr(confinement, "account", lambda: None)
    found = drill(shop)
    assert found.state == State.SKIPPED
    assert "written by somebody else" in found.sentence


def test_the_command_drills_each_instance_named_and_says_so_as_json(world: World, shop: Instance, copy: Copy) -> None:
    ledger = world.instance("ledger", is_simulation=True)
    out = io.StringIO()
    call_command("drill", "shop", ledger.code, "--json", stdout=out)
    told = {one["name"]: one for one in json.loads(out.getvalue())}
    assert told["shop"]["verdict"] == "passed"
    assert told["shop"]["rows"] == 5000
    assert told["shop"]["seconds"] > 0
    assert told["shop"]["restored_until"] == copy.set.finished_at.isoformat()
    assert all(check["passed"] for check in told["shop"]["checks"])
    assert told["ledger"]["verdict"] == "skipped"
    assert "No copy of it has been completed" in told["ledger"]["sentence"]


def test_the_command_exits_1_when_one_fails_and_takes_those_with_a_policy(
    world: World, shop: Instance, copy: Copy, capsys: pytest.CaptureFixture
) -> None:
    world.instance("without a policy")
    drills.add_query(shop, "postgres", "SELECT 1", "2", world.by)
    with pytest.raises(SystemExit) as ended:
        call_command("drill")
    assert ended.value.code == 1
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"shop ({shop.code})  verdict failed, ")
    with pytest.raises(Refusal, match="no instance nobody"):
        call_command("drill", "shop", "nobody")


def test_the_command_waits_for_the_worker_that_was_faster(
    world: World, shop: Instance, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    drills.ask(shop, world.by)
    claimed, claim_this = drills.claim(TARGET), drills.claim_this

    def tries(drill: Drill) -> Drill | None:
        found = claim_this(drill)
        if found is None and claimed.state == State.RUNNING:
            drilling.run(claimed)
        return found

    monkeypatch.setattr(drills, "claim_this", tries)
    out = io.StringIO()
    call_command("drill", "shop", "--json", stdout=out)
    [told] = json.loads(out.getvalue())
    assert (told["drill"], told["verdict"]) == (claimed.pk, "passed")
    assert Drill.objects.get().fence == 1, "nobody took it from the worker"
