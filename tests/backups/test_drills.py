"""When drills are asked for, whose turn it is, who is skipped, and what counts as a proof; no server is started."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command

from backups import drilling, policies, tasks
from backups.drilling import drills
from backups.drilling.drill_sources import RUN_BYTES, Damage, Flipping, changed, moment_of
from backups.engines import confinement
from backups.engines.sqlserver.checksums import Level, Verifier
from backups.models import Alert, Copy, Drill, DrillQuery, Event, Instance
from backups.oversight import audit
from backups.servers import places_for_servers
from demo import mtf
from demo.tds.snapshotting import read as read_media
from regions import clock
from regions.refusals import Refusal
from tests.backups.world import TARGET, World

DAY = timedelta(days=1)
Pick, State = Drill.Pick, Drill.State


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine whose copies this story's fleet has, were it able to restore them."""
    monkeypatch.setattr(drills, "why_not", lambda instance, store: None)


@pytest.fixture
def drilled(world: World, able: None) -> Instance:
    instance = world.instance("orders")
    world.enable(instance)
    world.arrived(instance)
    return instance


def end(state: str = State.PASSED, **found: Any) -> Drill:
    drill = drills.claim(TARGET)
    drills.finish(drill, state, "so it ended", **found)
    return drill


def later(days: float) -> None:
    """Let time pass for what has been asked for so far."""
    for drill in Drill.objects.all():
        Drill.objects.filter(pk=drill.pk).update(asked_at=drill.asked_at - days * DAY)
    for instance in Instance.objects.exclude(next_drill_at=None):
        Instance.objects.filter(pk=instance.pk).update(next_drill_at=instance.next_drill_at - days * DAY)


# ---- the timetable


def test_the_first_drill_follows_the_first_copy_and_the_next_ones_the_timetable(world: World, able: None) -> None:
    instance = world.instance("orders")
    world.enable(instance)
    assert drills.ask_by_timetable() == 0, "nothing can be restored yet"
    world.arrived(instance)
    assert drills.ask_by_timetable() == 1
    assert drills.ask_by_timetable() == 0
    end()
    later(6.9)
    assert drills.ask_by_timetable() == 0
    later(0.2)
    assert drills.ask_by_timetable() == 1


def test_the_picks_take_turns_and_every_fourth_is_a_canary(world: World, drilled: Instance) -> None:
    picks = []
    for _ in range(5):
        later(7)
        assert drills.ask_by_timetable() == 1
        picks.append(end().pick)
        drills.ask(drilled, world.by, pick=Pick.OLDEST)  # what people ask for does not disturb the turn
        end()
    assert picks == [Pick.NEWEST, Pick.OLDEST, Pick.RANDOM, Pick.CANARY, Pick.NEWEST]


def test_never_by_the_timetable_and_a_shorter_one_takes_effect_at_once(world: World, drilled: Instance) -> None:
    drills.set_days(drilled, 0, world.by)
    assert drills.ask_by_timetable() == 0
    drills.set_days(drilled, 30, world.by)
    drills.ask_by_timetable()
    end()
    later(3)
    assert drills.ask_by_timetable() == 0
    drills.set_days(drilled, 2, world.by)
    assert drills.ask_by_timetable() == 1
    with pytest.raises(Refusal, match="0"):
        drills.set_days(drilled, 366, world.by)
    assert Event.objects.filter(kind="drill.timetable").count() == 3


def test_a_disabled_or_released_instance_is_drilled_as_long_as_copies_are_kept(world: World, drilled: Instance) -> None:
    world.disable(drilled)
    assert drills.ask_by_timetable() == 1
    end()
    policies.release(drilled, world.by)
    later(7)
    assert drills.ask_by_timetable() == 1
    end()
    Copy.objects.update(state="expired", expired_at=clock.now())
    later(7)
    assert drills.ask_by_timetable() == 0


def test_the_sweep_asks_and_rings(world: World, drilled: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    rung = []
    monkeypatch.setattr("backups.bell.ring_drills", rung.append)
    tasks.sweep()
    assert Drill.objects.get().asked_by is None
    assert rung == [TARGET, TARGET], "once as it was asked for, once as it is due"


# ---- asking and claiming


def test_asked_twice_it_runs_once(world: World, drilled: Instance) -> None:
    first = drills.ask(drilled, world.by)
    assert drills.ask(drilled, world.by) == first
    assert drills.ask(drilled, world.by, pick=Pick.OLDEST) != first


def test_one_worker_has_it_and_only_in_the_region_of_the_copies(world: World, drilled: Instance) -> None:
    drill = drills.ask(drilled, world.by)
    assert drills.claim("ap-southeast-1") is None
    mine = drills.claim(TARGET)
    assert (mine.pk, mine.fence, mine.state) == (drill.pk, 1, State.RUNNING)
    assert drills.claim(TARGET) is None
    assert drills.claim_this(drill) is None
    Drill.objects.update(leased_until=clock.now() - timedelta(seconds=1))
    theirs = drills.claim_this(drill)
    assert theirs.fence == 2
    with pytest.raises(drills.LeaseLost):
        drills.finish(mine, State.PASSED, "too late")
    assert not drills.renew(mine)
    assert drills.renew(theirs)


def test_stopped_by_hand_it_is_somebody_elses_at_once(world: World, drilled: Instance) -> None:
    drills.ask(drilled, world.by)
    drills.give_back(drills.claim(TARGET))
    assert drills.claim(TARGET).attempts == 2


# ---- who cannot be drilled


def test_an_instance_that_can_be_restored_nowhere_is_skipped_with_the_reason(world: World) -> None:
    instance = world.instance("ledger", is_simulation=True)
    world.enable(instance)
    world.arrived(instance)
    assert drills.ask_by_timetable() == 1
    drill = Drill.objects.get()
    assert (drill.state, drill.sentence) == (
        State.SKIPPED,
        "No landing server of SQL Server in China (Shanghai) may be used for Payments. Register one on the Stores page,"
        " and grant it to the resource group.",
    )
    assert Event.objects.get(kind="drill.skipped").instance == instance
    assert not Alert.objects.filter(code="drill_failed").exists()
    assert drills.claim(TARGET) is None


def test_with_nothing_completed_it_is_skipped(world: World, able: None) -> None:
    drill = drills.ask(world.instance("orders"), world.by)
    assert (drill.state, drill.store) == (State.SKIPPED, None)
    assert "No copy of it has been completed" in drill.sentence


def test_an_engine_that_cannot_be_asked_takes_no_queries(
    world: World, drilled: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    able = SimpleNamespace(label="SQL Server")
    monkeypatch.setattr(drills, "engine_of", lambda name: SimpleNamespace(ask=None, capabilities=able))
    with pytest.raises(Refusal, match="cannot be asked"):
        drills.add_query(drilled, "sales", "SELECT 1", "1", world.by)
    assert not DrillQuery.objects.exists()


# ---- verdicts


def test_the_alert_opens_with_a_failed_drill_and_closes_with_a_passed_one(world: World, drilled: Instance) -> None:
    opened = Alert.objects.filter(code="drill_failed", instance=drilled, closed_at=None)
    for state, is_open in ((State.FAILED, True), (State.SKIPPED, True), (State.FAILED, True), (State.PASSED, False)):
        drills.ask(drilled, world.by)
        end(state)
        assert opened.exists() is is_open, state
    assert Event.objects.filter(kind__in=["drill.failed", "drill.passed", "drill.skipped"]).count() == 4


PROOF = {
    "restored_until": datetime(2026, 1, 1, tzinfo=UTC),
    "seconds": {"recovery": 41.2},
    "checks": [{"name": "pg_amcheck", "passed": True, "findings": []}],
    "evidence": {"total_rows": 1_204_332, "removed": True},
}


def test_the_last_proven_restore_is_the_newest_that_passed(
    world: World, drilled: Instance, django_assert_num_queries: Any
) -> None:
    other = world.instance("other")
    assert drills.last_proven([drilled, other]) == {}
    for pick, state, rows in (
        (Pick.NEWEST, State.PASSED, 1),
        (Pick.OLDEST, State.PASSED, 2),
        (Pick.NEWEST, State.FAILED, 3),
        (Pick.CANARY, State.PASSED, 4),
    ):
        drills.ask(drilled, world.by, pick=pick)
        end(state, **{**PROOF, "evidence": {"total_rows": rows, "removed": True}})
    with django_assert_num_queries(1):
        found = drills.last_proven([drilled, other])
    assert (list(found), found[drilled.pk].rows, found[drilled.pk].seconds) == ([drilled.pk], 2, 41.2)


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ({}, []),
        ({"restored_until": None}, ["moment"]),
        ({"seconds": {}}, ["moment"]),
        ({"checks": []}, ["without checks"]),
        ({"checks": [{"name": "pg_amcheck", "passed": False, "findings": ["torn"]}]}, ["without checks"]),
        ({"evidence": {"total_rows": 0}}, ["nobody saw"]),
        ({"evidence": {"removed": True}}, ["not counted"]),
    ],
)
def test_the_audit_finds_a_pass_that_rests_on_nothing(
    world: World, drilled: Instance, lacking: dict[str, Any], said: list[str]
) -> None:
    drills.ask(drilled, world.by)
    end(State.PASSED, **{**PROOF, **lacking})
    found = list(audit.unproven_passes())
    assert len(found) == len(said)
    assert all(word in sentence for word, sentence in zip(said, found, strict=True))


# ---- moments and damage, pure


def interval(start: int, stop: int) -> Any:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    return SimpleNamespace(start=began + timedelta(hours=start), end=began + timedelta(hours=stop))


def test_a_moment_lies_inside_the_window_and_never_in_a_gap() -> None:
    known = [interval(0, 3), interval(5, 5), interval(8, 20)]
    assert moment_of(known, Pick.OLDEST, Random(1)) == known[0].start
    assert moment_of(known, Pick.NEWEST, Random(1)) == moment_of(known, Pick.CANARY, Random(1)) == known[2].end
    luck = Random(7)
    found = [moment_of(known, Pick.RANDOM, luck) for _ in range(500)]
    assert all(any(one.start <= moment <= one.end for one in known) for moment in found)
    assert {one.start for one in known if any(one.start <= moment <= one.end for moment in found)} >= {
        known[0].start,
        known[2].start,
    }


@pytest.mark.parametrize("damage", [Damage(7, 1), Damage(0, 5), Damage(3, 4, 10), Damage(900, 60, 64)])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_damage_is_the_same_however_the_bytes_are_read(damage: Damage, chunk: int) -> None:
    content = bytes(value % 256 for value in range(1000))
    storage = Flipping(SimpleNamespace(open_range=lambda *where: Range(content, *where)), damage)
    read = bytearray()
    for offset in range(0, 1000, 250):
        with storage.open_range("key", offset, 250, None) as stream:
            buffer = memoryview(bytearray(chunk))
            while count := stream.readinto(buffer):
                read += buffer[:count]
    hit = {at for at in range(1000) if read[at] != content[at]}
    first = damage.first
    wanted = {at for at in range(first, 1000) if (at - first) % (damage.every or 10_000) < damage.length}
    assert hit == wanted
    assert all(bytes([read[at]]) == changed(content[at : at + 1], at) for at in hit)


def test_no_damage_is_of_a_kind_that_checksums_of_words_are_blind_to() -> None:
    """SQL Server's are XORs of a sector's words: whole sectors of inverted bytes would leave them as they were."""
    sound = mtf.write_full("orders", pages=16)
    for first in range(0, len(sound) - RUN_BYTES, 4 * 512):
        run = slice(first, first + RUN_BYTES)
        clone = bytearray(sound)
        clone[run] = changed(sound[run], first)
        verifier = Verifier()
        verifier.feed(clone)
        assert verifier.verdict().level is Level.DAMAGED or read_media(bytes(clone)).refusal, first


class Range:
    def __init__(self, content: bytes, key: str, offset: int, length: int, match: Any) -> None:
        self._left = content[offset : offset + length]

    def __enter__(self) -> Range:
        return self

    def __exit__(self, *error: Any) -> None: ...

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


# ---- places, leftovers, the bell


def test_a_place_that_the_account_cannot_reach_is_elsewhere(
    tmp_path: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.FARSHORE_DATA = tmp_path / "data"
    monkeypatch.setattr(places_for_servers, "ELSEWHERE", tmp_path / "lib")
    monkeypatch.setattr(confinement, "reaches", lambda whom, path: True)
    assert places_for_servers.place_for("drills") == tmp_path / "data" / "drills"
    monkeypatch.setattr(confinement, "reaches", lambda whom, path: False)
    with pytest.raises(Refusal, match="reaches neither"):
        places_for_servers.place_for("drills")
    monkeypatch.setattr(confinement, "reaches", lambda whom, path: path.is_relative_to(tmp_path / "lib"))
    elsewhere = places_for_servers.place_for("drills")
    assert elsewhere.is_relative_to(tmp_path / "lib")
    assert elsewhere == places_for_servers.place_for("drills"), "the same at every start"
    assert elsewhere.stat().st_mode & 0o777 == 0o711


def test_what_a_killed_worker_left_is_removed_and_what_is_in_use_is_not(
    world: World, drilled: Instance, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(drilling, "place_for", lambda kind: tmp_path)
    removed = []
    engine = SimpleNamespace(discard=lambda folder: removed.append(folder.name))
    monkeypatch.setattr(drilling, "engine_of", lambda name: engine)
    drill = drills.ask(drilled, world.by)
    Drill.objects.update(fence=3)
    drills.claim(TARGET)
    for name in (f"{drill.pk}-3", f"{drill.pk}-4", "999999-1", "lost+found"):
        (tmp_path / name).mkdir(exist_ok=True)
    drilling.clear_leftovers()
    assert removed == [f"{drill.pk}-3"], "the former attempt's; what no row names is not ours"
    Drill.objects.update(leased_until=clock.now() - timedelta(seconds=1))
    drilling.clear_leftovers()
    assert sorted(removed[1:]) == [f"{drill.pk}-3", f"{drill.pk}-4"]


def test_the_bell_starts_a_child_for_one_drill_and_no_more_than_may_run(
    world: World, drilled: Instance, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    started: list[tuple[Any, ...]] = []
    child = SimpleNamespace(poll=lambda: None)
    monkeypatch.setattr(tasks, "_child", lambda *command: started.append(command) or child)
    monkeypatch.setattr(tasks, "_drilling", [])
    monkeypatch.setattr(drilling, "clear_leftovers", lambda: None)
    drills.ask(drilled, world.by)
    drills.ask(drilled, world.by, pick=Pick.OLDEST)
    tasks.run_drills(TARGET)
    tasks.run_drills(TARGET)
    assert started == [("run_drill", Drill.objects.earliest("pk").pk, 1)]
    child.poll = lambda: 0
    tasks.run_drills(TARGET)
    assert len(started) == 2


def test_a_child_whose_fence_is_old_does_nothing(
    world: World, drilled: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.management.commands.run_drill.die_with_parent", lambda: None)
    monkeypatch.setattr(drilling, "run", lambda drill: pytest.fail("it ran"))
    drill = drills.ask(drilled, world.by)
    drills.claim(TARGET)
    call_command("run_drill", str(drill.pk), "7")
    assert Copy.objects.get().pins.count() == 0
