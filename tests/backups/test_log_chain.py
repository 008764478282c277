"""Chains, gaps, windows and plans: the published traps one by one, then whole histories against an oracle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter
from types import ModuleType

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from backups.chains import dependents, log_chain, log_lines
from backups.engines import engine_of
from backups.engines.chains import ChainSet, chain_set
from backups.engines.facts import Kind
from backups.engines.mariadb import chains as mariadb
from backups.engines.postgresql import chains as postgresql
from backups.engines.sqlserver import chains as sqlserver
from demo import mtf
from tests.backups.database_life import LIVES, STEPS, Life, at
from tests.engines.sqlserver.distant import inspected

SQL, PG, MARIA = (engine_of(name).chain_rules for name in ("sqlserver", "postgresql", "mariadb"))


def data(id: int, first: int, last: int | None, second: int, kind: str = Kind.FULL, **more: object) -> ChainSet:
    return ChainSet(id, kind, first, last, at(second), until_time=at(second), set_guid=f"set {id}", **more)


def log(id: int, first: int, last: int, since: int, until: int, **more: object) -> ChainSet:
    return ChainSet(id, Kind.LOG, first, last, at(until), at(since), at(until), **more)


def left(parent: str, place: int, second: int) -> dict[str, object]:
    """What the logs of a fork say of where it left another one."""
    return {"parent_fork": parent, "fork_position": place, "forked_at": at(second)}


def seconds(intervals: list[log_chain.Interval]) -> list[tuple[int, int]]:
    return [(_second(found.start), _second(found.end)) for found in intervals]


def _second(moment: datetime) -> int:
    return int((moment - at(0)).total_seconds())


def ids(plan: log_chain.Plan) -> list[int]:
    assert plan.refusal is None, plan.refusal
    return [one.id for one in plan.sets]


FULL = data(1, 100, 130, 10)
LOGS = [log(2, 90, 150, 5, 20), log(3, 150, 200, 20, 30), log(4, 200, 260, 30, 40)]


# ---- SQL Server: the published traps


def test_an_unbroken_chain_is_one_interval_from_the_full_to_the_last_log():
    assert seconds(log_chain.window([FULL], LOGS, SQL)) == [(10, 40)]
    assert log_chain.gaps([FULL], LOGS, SQL) == []


def test_without_logs_a_full_is_one_point():
    assert seconds(log_chain.window([FULL], [], SQL)) == [(10, 10)]
    assert ids(log_chain.plan_for(at(10), [FULL], [], SQL)) == [1]


def test_a_log_taken_during_a_full_belongs_to_it_and_alone_leads_nowhere():
    during, after = log(2, 90, 120, 3, 8), log(3, 120, 180, 8, 20)
    assert not log_chain.anchors(FULL, during, SQL)
    assert log_chain.anchors(FULL, after, SQL)
    assert ids(log_chain.plan_for(at(15), [FULL], [during, after], SQL)) == [1, 3]
    assert seconds(log_chain.window([FULL], [during], SQL)) == [(10, 10)]


def test_a_log_that_ends_where_the_full_ends_is_too_early():
    assert not log_chain.anchors(FULL, log(2, 90, 130, 5, 20), SQL)
    assert seconds(log_chain.window([FULL], [log(2, 90, 130, 5, 20)], SQL)) == [(10, 10)]


def test_an_empty_log_keeps_the_chain_and_extends_the_time():
    empty = log(5, 260, 260, 40, 50)
    assert log_chain.follows(LOGS[-1], empty, SQL)
    assert log_chain.follows(empty, log(6, 260, 300, 50, 60), SQL)
    assert seconds(log_chain.window([FULL], [*LOGS, empty], SQL)) == [(10, 50)]
    assert ids(log_chain.plan_for(at(45), [FULL], [*LOGS, empty], SQL)) == [1, 2, 3, 4, 5]


def test_overlapping_logs_are_no_gap_and_need_not_all_be_restored():
    overlapping = [*LOGS, log(5, 200, 300, 30, 50), log(6, 210, 230, 31, 35), log(7, 300, 310, 50, 60)]
    assert log_chain.gaps([FULL], overlapping, SQL) == []
    assert ids(log_chain.plan_for(at(60), [FULL], overlapping, SQL)) == [1, 2, 3, 5, 7]


def test_a_following_log_begins_neither_behind_the_end_nor_before_the_beginning():
    previous = log(1, 100, 200, 0, 10)
    begins = {begin: log_chain.follows(previous, log(2, begin, 300, 10, 20), SQL) for begin in (99, 100, 200, 201)}
    assert begins == {99: False, 100: True, 200: True, 201: False}


def test_a_copy_only_full_anchors_logs_but_never_a_differential():
    copy_only = FULL._replace(is_copy_only=True)
    differential = data(9, 150, 151, 22, Kind.DIFFERENTIAL, base_guid="set 1")
    assert seconds(log_chain.window([copy_only, differential], LOGS, SQL)) == [(10, 40)]
    assert ids(log_chain.plan_for(at(25), [copy_only, differential], LOGS, SQL)) == [1, 2, 3]
    assert log_chain.needs([copy_only, differential], [], SQL) == {}


def test_the_newest_usable_differential_shortens_the_way():
    other = data(8, 140, 145, 15, base_guid="")
    differential = data(9, 160, 161, 22, Kind.DIFFERENTIAL, base_guid="set 1")
    orphan = data(10, 170, 171, 24, Kind.DIFFERENTIAL, base_guid="set of another")
    assert ids(log_chain.plan_for(at(35), [FULL, other, differential, orphan], LOGS, SQL)) == [1, 9, 3, 4]


def test_a_differential_bridges_a_gap_since_it_needs_no_log_before():
    differential = data(9, 160, 161, 22, Kind.DIFFERENTIAL, base_guid="set 1")
    assert seconds(log_chain.window([FULL, differential], LOGS[1:], SQL)) == [(10, 10), (22, 40)]
    (gap,) = log_chain.gaps([FULL, differential], LOGS[1:], SQL)
    assert (gap.reached, gap.begins, gap.healed_by) == (130, 150, differential)


def test_logs_of_another_recovery_fork_never_continue_though_their_positions_do():
    sets = [FULL._replace(fork="a")]
    logs = [one._replace(fork="a") for one in LOGS[:2]] + [LOGS[2]._replace(fork="b")]
    assert not log_chain.follows(logs[1], logs[2], SQL)
    assert seconds(log_chain.window(sets, logs, SQL)) == [(10, 30)]
    (gap,) = log_chain.gaps(sets, logs, SQL)
    assert (gap.reached, gap.begins, gap.reached_fork, gap.fork, gap.healed_by) == (200, 200, "a", "b", None)
    assert (gap.from_time, gap.until_time) == (at(30), at(30))


def test_a_set_that_is_not_complete_counts_for_nothing_here_and_is_no_gap():
    waiting = LOGS[1]._replace(is_completed=False)
    assert seconds(log_chain.window([FULL], [LOGS[0], waiting, LOGS[2]], SQL)) == [(10, 20)]
    assert log_chain.gaps([FULL], [LOGS[0], waiting, LOGS[2]], SQL) == []
    assert log_chain.window([FULL._replace(is_completed=False)], LOGS, SQL) == []


def test_how_far_one_set_reaches_ends_at_the_first_hole():
    differential = data(9, 160, 161, 22, Kind.DIFFERENTIAL, base_guid="set 1")
    found = [log_chain.reach(id, [FULL, differential], LOGS[1:], SQL) for id in (1, 9, 77)]
    assert found == [at(10), at(40), None], "no log leads on from the full, though one leads over it"
    waiting = FULL._replace(is_completed=False)
    assert log_chain.reach(1, [waiting], LOGS, SQL) is log_chain.reach(9, [waiting, differential], LOGS, SQL) is None
    assert log_chain.reach(1, [FULL], [LOGS[0], LOGS[2]], SQL) == at(20)


def test_another_tools_log_leaves_a_gap_with_exact_limits():
    later = log(6, 300, 350, 55, 60)
    (gap,) = log_chain.gaps([FULL], [*LOGS, later], SQL)
    assert (gap.reached, gap.begins, gap.from_time, gap.until_time) == (260, 300, at(40), at(55))
    assert gap.healed_by is None


def test_a_gap_is_healed_by_the_next_set_that_needs_nothing_before_it():
    later, cure = log(6, 300, 350, 55, 60), data(7, 320, 330, 62, is_copy_only=True)
    logs = [*LOGS, later, log(8, 350, 400, 60, 70)]
    (gap,) = log_chain.gaps([FULL, cure], logs, SQL)
    assert gap.healed_by == cure
    assert seconds(log_chain.window([FULL, cure], logs, SQL)) == [(10, 40), (62, 70)]
    (second,) = log_chain.gaps([FULL, cure], [*logs, log(9, 410, 420, 75, 80)], SQL)[1:]
    assert (second.reached, second.begins, second.healed_by) == (400, 410, None)


def test_a_full_inside_a_gap_does_not_heal_it():
    inside = data(7, 270, 280, 50)
    (gap,) = log_chain.gaps([FULL, inside], [*LOGS, log(6, 300, 350, 55, 60)], SQL)
    assert gap.healed_by is None
    assert seconds(log_chain.window([FULL, inside], [*LOGS, log(6, 300, 350, 55, 60)], SQL)) == [(10, 40), (50, 50)]


def test_intervals_stay_apart_where_a_gap_lies_within_one_second():
    cure = data(7, 300, 310, 40)
    logs = [*LOGS, log(6, 300, 350, 40, 60)]
    assert seconds(log_chain.window([FULL, cure], logs, SQL)) == [(10, 40), (40, 60)]


def test_logs_before_the_first_full_are_no_gap():
    assert log_chain.gaps([FULL], [log(9, 10, 50, 0, 2), *LOGS], SQL) == []


def test_a_clock_that_went_back_never_lengthens_the_window():
    assert seconds(log_chain.window([FULL], [*LOGS[:2], log(4, 200, 260, 30, 27)], SQL)) == [(10, 27)]


def test_sets_without_positions_are_points():
    dump = data(1, None, None, 10)
    assert seconds(log_chain.window([dump], LOGS, SQL)) == [(10, 10)]
    assert log_chain.logs_after(dump, LOGS, SQL) == []


@pytest.mark.parametrize("lost", LOGS)
def test_removing_any_one_log_is_noticed(lost):
    rest = [one for one in [*LOGS, log(5, 260, 300, 40, 50)] if one != lost]
    (gap,) = log_chain.gaps([FULL], rest, SQL)
    assert (gap.reached, gap.begins) == (max(lost.first, FULL.last), lost.last)
    assert seconds(log_chain.window([FULL], rest, SQL)) == [(10, max(10, _second(lost.from_time)))]


# ---- words for a moment that cannot be had


@pytest.mark.parametrize(
    ("second", "code", "words"),
    [
        (5, "MomentTooEarly", "first moment that can be restored is 2026-03-01 00:00:10 UTC"),
        (50, "LogGap", "from 2026-03-01 00:00:40 UTC to 2026-03-01 00:00:55 UTC is missing"),
        (61, "LogGap", "is missing"),
        (80, "MomentTooLate", "reaches 2026-03-01 00:01:10 UTC"),
    ],
)
def test_a_moment_that_cannot_be_had_says_why_and_what_is_near(second, code, words):
    cure, logs = data(7, 320, 330, 62), [*LOGS, log(6, 300, 350, 55, 60), log(8, 350, 400, 60, 70)]
    refusal = log_chain.plan_for(at(second), [FULL, cure], logs, SQL).refusal
    assert refusal.code == code
    assert words in refusal.sentence
    assert refusal.remedy.startswith("Choose 2026-03-01")


def test_between_two_fulls_without_logs_nothing_can_be_had():
    refusal = log_chain.plan_for(at(15), [FULL, data(2, 300, 310, 20)], [], SQL).refusal
    assert refusal.code == "MomentNotCovered"
    assert refusal.remedy == "Choose 2026-03-01 00:00:10 UTC or earlier, or 2026-03-01 00:00:20 UTC or later."


def test_a_moment_is_said_in_whole_seconds_and_never_later_than_it_is():
    within = timedelta(microseconds=400_000)
    fulls = [data(n, 300, 310, second)._replace(until_time=at(second) + within) for n, second in ((1, 10), (2, 20))]
    refusal = log_chain.plan_for(at(15), fulls, [], SQL).refusal
    assert refusal.sentence == "No log has been copied that leads on from 2026-03-01 00:00:10 UTC."
    assert refusal.remedy == "Choose 2026-03-01 00:00:10 UTC or earlier, or 2026-03-01 00:00:20 UTC or later."
    early = log_chain.plan_for(at(5), fulls, [], SQL).refusal
    assert early.sentence == "The first moment that can be restored is 2026-03-01 00:00:10 UTC."


def test_nothing_copied_is_said():
    assert log_chain.plan_for(at(15), [], LOGS, SQL).refusal.code == "NothingToRestore"


# ---- PostgreSQL and MariaDB


def test_postgresql_needs_every_segment_from_the_start_of_the_set():
    assert seconds(log_chain.window([FULL], LOGS, PG)) == [(10, 40)]
    late = log(2, 120, 150, 8, 20)
    assert seconds(log_chain.window([FULL], [late, *LOGS[1:]], PG)) == [(10, 10)]
    (gap,) = log_chain.gaps([FULL], [late, *LOGS[1:]], PG)
    assert (gap.reached, gap.begins) == (100, 120)


def promoted() -> tuple[list[ChainSet], list[ChainSet]]:
    """A second timeline leaves the first at 220, while the first goes on to 260."""
    logs = [one._replace(fork="1") for one in LOGS]
    second = [log(6, 200, 280, 36, 50, fork="2"), log(7, 280, 300, 50, 60, fork="2")]
    return [FULL._replace(fork="1")], [*logs, *(one._replace(**left("1", 220, 36)) for one in second)]


def test_a_new_timeline_continues_an_old_one_at_its_switch_point():
    sets, logs = promoted()
    assert seconds(log_chain.window(sets, logs, PG)) == [(10, 40), (36, 60)]
    assert log_chain.gaps(sets, logs, PG) == []
    assert ids(log_chain.plan_for(at(35), sets, logs, PG)) == [1, 2, 3, 4]
    assert ids(log_chain.plan_for(at(55), sets, logs, PG)) == [1, 2, 3, 6, 7]
    assert [log_chain.follows(logs[place], logs[place + 1], PG) for place in (1, 2, 3)] == [True, True, True]


def test_only_the_log_that_holds_the_switch_follows_the_old_timeline():
    _, logs = promoted()
    assert log_chain.follows(logs[1], logs[3], PG)
    assert not log_chain.follows(logs[1], logs[3]._replace(first=221), PG)
    assert not log_chain.follows(logs[2], logs[3]._replace(first=230, fork_position=220), PG)


def test_a_promotion_leaves_no_moment_out():
    """What the old timeline's last whole log does not hold, the new one's first does."""
    old = [one._replace(fork="1") for one in LOGS[:2]]
    new = [log(6, 200, 280, 30, 50, fork="2", **left("1", 220, 30))]
    sets = [FULL._replace(fork="1")]
    assert seconds(log_chain.window(sets, [*old, *new], PG)) == [(10, 30), (30, 50)]
    assert ids(log_chain.plan_for(at(35), sets, [*old, *new], PG)) == [1, 2, 3, 6]


def test_where_logs_disagree_on_the_switch_nothing_leads_across():
    """Two servers have begun a timeline of the same number: whose logs these are nobody knows."""
    sets, logs = promoted()
    other = logs[-1]._replace(fork_position=240)
    assert seconds(log_chain.window(sets, [*logs[:-1], other], PG)) == [(10, 40)]


def test_the_first_to_know_says_when_a_timeline_began():
    sets, logs = promoted()
    later = logs[-1]._replace(forked_at=at(55))
    assert seconds(log_chain.window(sets, [*logs[:-1], later], PG)) == [(10, 40), (36, 60)]


def test_a_hole_between_two_timelines_begins_at_the_switch():
    sets, logs = promoted()
    without = [one for one in logs if one.id != 6]
    (gap,) = log_chain.gaps(sets, without, PG)
    assert (gap.reached, gap.begins, gap.reached_fork, gap.fork) == (220, 280, "1", "2")
    assert (gap.from_time, gap.until_time) == (at(36), at(50))
    assert seconds(log_chain.window(sets, without, PG)) == [(10, 40)]


def test_what_closes_a_gap_lies_on_the_forks_before_as_far_as_they_count():
    """The old timeline went on alone; what nobody has copied of the two after it leads from where it was left."""
    gap = log_chain.Gap(160, 190, at(40), at(80), "1", "3")
    second = {"fork": "2"} | left("1", 143, 45)
    copied = [log(1, 140, 150, 20, 30, fork="1"), log(2, 150, 160, 30, 40, fork="1")]
    behind = log(9, 190, 200, 80, 90, fork="3", **left("2", 163, 65))
    between = [log(4, 140, 150, 20, 50, **second), log(5, 150, 160, 50, 60, **second)]
    crossing = [log(n, 100 + 10 * n, 110 + 10 * n, 60, 70, fork="3", **left("2", 163, 65)) for n in (6, 7, 8)]
    alone = [log(n, 50 + 10 * n, 60 + 10 * n, 40, 50, fork="1") for n in range(11, 15)]
    across = log_chain.logs_across(gap, [*copied, *between, *crossing, *alone, behind], PG)
    assert [one.id for one in across] == [4, 5, 6, 7, 8]
    for lost in (*between, *crossing):
        kept = [one for one in (*copied, *between, *crossing, *alone, behind) if one is not lost]
        assert log_chain.logs_across(gap, kept, PG) == []


def test_where_two_timelines_lived_at_once_the_newer_counts():
    sets, logs = promoted()
    assert ids(log_chain.plan_for(at(38), sets, logs, PG)) == [1, 2, 3, 6]


def test_a_timeline_of_which_nobody_knows_where_it_began_leads_nowhere():
    """Logs that were received before that was written down."""
    sets, logs = promoted()
    without = [one._replace(parent_fork="", fork_position=None, forked_at=None) for one in logs]
    assert seconds(log_chain.window(sets, without, PG)) == [(10, 40)]
    (gap,) = log_chain.gaps(sets, without, PG)
    assert (gap.reached_fork, gap.fork, gap.begins) == ("1", "2", 200)


def test_a_set_taken_after_the_switch_is_of_no_use_to_the_new_timeline():
    sets, logs = promoted()
    later = data(8, 225, 230, 37, fork="1")
    assert ids(log_chain.plan_for(at(55), [*sets, later], logs, PG)) == [1, 2, 3, 6, 7]


def test_an_incremental_may_stand_on_an_incremental():
    chain = [FULL, data(8, 160, 170, 22, Kind.DIFFERENTIAL, base_guid="set 1")]
    chain.append(data(9, 210, 220, 32, Kind.DIFFERENTIAL, base_guid="set 8"))
    assert ids(log_chain.plan_for(at(38), chain, LOGS, PG)) == [1, 8, 9, 4]
    assert seconds(log_chain.window([chain[0], chain[2]], [], PG)) == [(10, 10)]


def test_mariadb_goes_on_from_the_backups_coordinates_without_a_hole():
    place, end = mariadb.position_of, mariadb.end_of
    full = data(1, None, place(7, 900), 10)
    logs = [log(n, place(n, 4), end(n, 5000, closed=n < 9), n * 10, n * 10 + 10) for n in (7, 8, 9)]
    assert seconds(log_chain.window([full], logs, MARIA)) == [(10, 100)]
    assert seconds(log_chain.window([full], [logs[0], logs[2]], MARIA)) == [(10, 80)]
    (gap,) = log_chain.gaps([full], [logs[0], logs[2]], MARIA)
    assert (gap.reached, gap.begins) == (place(8), place(9))


def test_the_lost_rest_of_a_binlog_is_a_hole():
    place, end = mariadb.position_of, mariadb.end_of
    full = data(1, None, place(7, 4), 10)
    logs = [log(2, place(7), end(7, 5000, closed=False), 10, 20), log(3, place(8, 4), end(8, 9, closed=False), 25, 30)]
    (gap,) = log_chain.gaps([full], logs, MARIA)
    assert (gap.reached, gap.begins) == (place(7, 5000), place(8))


# ---- real headers, times on the safe side


def test_sets_read_from_files_make_a_chain_and_one_lost_file_a_gap():
    files = [inspected(mtf.file_of(backup)).sets[0] for backup in mtf.chain(logs=4, differentials=0)]
    known = [chain_set(number, facts, SQL) for number, facts in enumerate(files)]
    sets = [one for one in known if one.kind != Kind.LOG]
    logs = [one for one in known if one.kind == Kind.LOG]
    (whole,) = log_chain.window(sets, logs, SQL)
    assert whole.start == files[0].finished_at + timedelta(seconds=1)
    assert whole.end == files[4].started_at
    assert log_chain.gaps(sets, logs[:1] + logs[2:], SQL)[0].reached == logs[0].last


# ---- what each set needs


def test_a_full_is_kept_by_its_differentials_and_by_the_logs_up_to_the_next_full():
    second = data(5, 205, 210, 36)
    more = [*LOGS, log(6, 260, 300, 40, 50)]
    assert log_chain.needs([FULL, second], more, SQL) == {2: {1}, 3: {2}, 4: {5}, 6: {4}}
    differential = data(7, 160, 161, 22, Kind.DIFFERENTIAL, base_guid="set 1")
    assert log_chain.needs([FULL, differential], LOGS, SQL) == {7: {1}, 2: {1}, 3: {7}, 4: {3}}


def test_a_full_that_is_still_queued_releases_nothing():
    second = data(5, 205, 210, 36)._replace(is_completed=False)
    assert log_chain.needs([FULL, second], LOGS, SQL) == {2: {1}, 3: {2}, 4: {5, 3}}


def test_a_new_timeline_keeps_the_old_ones_logs():
    sets, logs = promoted()
    assert log_chain.needs(sets, logs, PG) == {2: {1}, 3: {2}, 4: {3}, 6: {1, 2, 3}, 7: {6}}


def test_retention_keeps_what_the_last_log_needs():
    own = {one.id: one.finished_at for one in [FULL, *LOGS]}
    needed_by = log_chain.needed_by(log_chain.needs([FULL], LOGS, SQL))
    assert set(dependents.effective(own, needed_by).values()) == {at(40)}


def test_the_logs_to_copy_when_logs_are_enabled_oldest_first():
    before = log(9, 50, 90, 0, 5)
    found = log_chain.logs_after(FULL, [LOGS[2], before, LOGS[0], LOGS[1], log(6, 300, 310, 55, 60)], SQL)
    assert [one.id for one in found] == [2, 3, 4]
    assert log_chain.logs_after(FULL, LOGS[1:], SQL) == []


def test_many_logs_take_no_square_of_time():
    logs = [log(n, n * 10, n * 10 + 10, n, n + 1) for n in range(20_000)]
    fulls = [data(100_000 + n, n * 10, n * 10 + 5, n) for n in range(50, 20_000, 50)]
    began = perf_counter()
    assert seconds(log_chain.window(fulls, logs, SQL)) == [(50, 20_000)]
    assert len(log_chain.needs(fulls, logs, SQL)) == 20_000 - 50
    assert perf_counter() - began < 20  # 0.3 s on an idle machine; the square would take minutes


# ---- whole histories against the oracle

STEP = st.tuples(
    st.sampled_from([name for name, often in STEPS.items() for _ in range(often)]), st.integers(0, 999_999)
)
HISTORY = st.lists(STEP, min_size=40, max_size=40)
QUICK = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
SEARCH = settings(QUICK, max_examples=6000)  # for a planted bug; ends with the first history that shows it
SOAK = settings(QUICK, max_examples=5000, derandomize=False, phases=[Phase.generate, Phase.shrink])


def agree(life: Life) -> None:
    """The window, the plans, the gaps and the needs are what the oracle says, at every second of a history."""
    intervals = log_chain.window(life.sets, life.logs, life.rules)
    last = None
    for second in range(len(life.moments)):
        plan = log_chain.plan_for(at(second), life.sets, life.logs, life.rules)
        expected = life.can_be_had(second)
        assert any(found.start <= at(second) <= found.end for found in intervals) == expected, second
        assert (plan.refusal is None) == expected, (second, plan)
        if expected:
            check_plan(life, plan, second)
            assert int(plan.sets[-1].fork) == max(life.can_be_had_on(second), default=int(plan.sets[-1].fork)), second
            last = (plan, second)
    if last:
        losing_any_one_is_noticed(life, *last)
    if not life.crosses_forks:
        check_gaps(life)
    check_needs(life)
    check_reach(life)


def check_plan(life: Life, plan: log_chain.Plan, second: int) -> None:
    restored = life.replay(plan.sets, second)
    if any(one.kind == Kind.LOG for one in plan.sets):
        assert restored == life.lived(second)[int(plan.sets[-1].fork)], second
        assert plan.sets[-1].until_time >= at(second)
    else:
        assert plan.sets[-1].shown_at == at(second)


def losing_any_one_is_noticed(life: Life, plan: log_chain.Plan, second: int) -> None:
    for lost in plan.sets:
        rest = [[one for one in kept if one != lost] for kept in (life.sets, life.logs)]
        other = log_chain.plan_for(at(second), *rest, life.rules)
        if other.refusal is None:
            check_plan(life, other, second)


def check_gaps(life: Life) -> None:
    """There is a gap on a fork exactly when a log there presumes a transaction that neither full nor log holds."""
    found = log_chain.gaps(life.sets, life.logs, life.rules)
    whole = [one for one in life.taken if not one.is_log and (one.base is None or one.base in life.taken)]
    for fork in {one.set.fork for one in life.taken}:
        logs = [one for one in life.taken if one.is_log and one.set.fork == fork]
        pool = frozenset().union(*(one.holds for one in logs))
        begins = [one.shows for one in whole if one.set.fork == fork]
        if any(int(one.set.fork) < int(fork) for one in whole):  # known before it was restored in place
            begins += [one.before for one in logs]
        missing = any(begin <= one.before and one.before - begin - pool for begin in begins for one in logs)
        assert any(gap.fork == gap.reached_fork == fork for gap in found) == missing, fork
    for gap in found:
        if gap.fork == gap.reached_fork:
            spans = [life.rules.span(one) for one in life.logs if one.fork == gap.fork]
            assert not any(first < gap.begins and gap.reached < last for first, last in spans)
            assert any(first == gap.begins for first, _ in spans)


def check_needs(life: Life) -> None:
    """With a log and what it needs alone, its last moment can be had if it can be had at all."""
    sets, logs = ([one for one in kept if one.is_completed] for kept in (life.sets, life.logs))
    needs = log_chain.needs(sets, logs, life.rules)
    for one in logs:
        second = _second(one.until_time)
        if int(one.fork) not in life.lived(second) or is_held_by_another(one, logs, life):
            continue
        if int(one.fork) != max(life.can_be_had_on(second), default=None) or one.id not in needs:
            continue
        kept = closure(one.id, needs)
        plan = log_chain.plan_for(at(second), *([a for a in b if a.id in kept] for b in (sets, logs)), life.rules)
        if all(a.shown_at <= one.until_time for a in sets if a.id in kept):
            assert plan.refusal is None, (one, kept, plan)
            check_plan(life, plan, second)


def check_reach(life: Life) -> None:
    """How far one set reaches is what the window says where there is no other set."""
    for one in life.sets:
        lineage = log_chain.lineage_of(one.id, life.sets, life.rules)
        found = log_chain.reach(one.id, life.sets, life.logs, life.rules)
        assert (found is None) == (not lineage), (one, found)
        if lineage:
            ends = {interval.end for interval in log_chain.window(lineage, life.logs, life.rules)}
            assert found == max(ends) if len(lineage) == 1 else found in {*ends, one.shown_at}, (one, found)


def is_held_by_another(log: ChainSet, logs: list[ChainSet], life: Life) -> bool:
    first, last = life.rules.span(log)
    spans = [life.rules.span(other) for other in logs if other.id != log.id and other.fork == log.fork]
    return any(begins <= first and last <= ends for begins, ends in spans)


def closure(id: int, needs: dict[int, set[int]]) -> set[int]:
    found, stack = {id}, [id]
    while stack:
        for one in needs.get(stack.pop(), set()) - found:
            found.add(one)
            stack.append(one)
    return found


def play(engine: str, how: settings) -> None:
    @how
    @given(HISTORY)
    def histories(steps: list[tuple[str, int]]) -> None:
        agree(LIVES[engine](engine).play(steps))

    histories()


@pytest.mark.parametrize("engine", LIVES)
def test_every_history_is_judged_as_the_oracle_judges_it(engine):
    play(engine, QUICK)


@pytest.mark.soak
@pytest.mark.parametrize("engine", LIVES)
def test_five_thousand_histories_are_judged_as_the_oracle_judges_them(engine):
    play(engine, SOAK)


# ---- bugs planted on purpose

BASE_BY_IDENTITY = """by_guid.get(found[0].base_guid)
        if base is None or base in found or not rules.is_base(base, found[0]):"""
BASE_BY_TIME = """max((one for one in by_guid.values() if age(one) < age(data)), key=age, default=None)
        if base is None or base in found:"""
BUGS: list[tuple[str, ModuleType, str, str]] = [
    ("sqlserver", log_lines, "stretch.first > reached:", "stretch.first > reached + 10:"),
    ("sqlserver", log_lines, "reached = max(reached, stretch.last)", "reached = stretch.last"),
    ("sqlserver", log_lines, "position < self.runs[place].end", "position <= self.runs[place].end"),
    ("sqlserver", log_lines, "or one.fork not in limits:", "or False:"),
    ("sqlserver", log_lines, "log.shown_at, log)", "log.finished_at, log)"),
    ("sqlserver", log_lines, BASE_BY_IDENTITY, BASE_BY_TIME),
    ("sqlserver", log_lines, "filter(None, stretches)", "(s for s in stretches if s.first < s.last)"),
    ("sqlserver", log_lines, "if base is None or", "if base is None: break\n        if"),
    ("sqlserver", log_chain, "if one.is_completed]", "]"),
    ("sqlserver", log_chain, "stretch.until >= moment)", "True)"),
    ("sqlserver", log_chain, "{lineage[-2].id}", "set()"),
    ("sqlserver", log_chain, "run.furthest[place - 1].log", "run.stretches[0].log"),
    ("sqlserver", log_chain, "reached = reached or _anchor_before(line, run)", "pass"),
    ("sqlserver", log_chain, " if anchor.data.id == id]", "]"),
    ("postgresql", log_lines, "limit is None or one.last <= limit", "True"),
    ("postgresql", log_lines, "min(last, limit), _LONG_AGO", "last, _LONG_AGO"),
    ("postgresql", log_lines, "max(data.shown_at, self.began_at)", "data.shown_at"),
    ("postgresql", log_lines, "if log.parent_fork]", "if False]"),
    ("postgresql", log_lines, "limits[fork] = min(", "limits[fork] = max("),
    ("postgresql", log_chain, "*line.told_since(anchor.data.fork), ", ""),
    ("postgresql", log_chain, ", *between)}", ")}"),
    ("postgresql", log_chain, "return len(line.limits), data", "return -len(line.limits), data"),
    ("postgresql", postgresql, "return data.first", "return data.last"),
    ("mariadb", mariadb, "return None if data.last is None else _met(data.last)", "return data.first"),
    ("mariadb", mariadb, "<= MAGIC", "< 0"),
]


@contextmanager
def planted(module: ModuleType, right: str, wrong: str) -> Iterator[None]:
    """Run with a bug in a module; what was imported from it is made anew before and after."""
    source = Path(module.__file__).read_text()
    assert source.count(right) == 1, right
    try:
        _remake(module, source.replace(right, wrong))
        yield
    finally:
        _remake(module, source)


def _remake(module: ModuleType, source: str) -> None:
    for each in (sqlserver, postgresql, mariadb, log_lines, log_chain):
        text = source if each is module else Path(each.__file__).read_text()
        exec(compile(text, each.__file__, "exec"), each.__dict__)


@pytest.mark.parametrize(("engine", "module", "right", "wrong"), BUGS, ids=[bug[3].split(chr(10))[0] for bug in BUGS])
def test_a_planted_bug_is_found(engine: str, module: ModuleType, right: str, wrong: str):
    with planted(module, right, wrong), pytest.raises(Exception):  # noqa: B017 - whatever a bug leads to
        play(engine, SEARCH)


def test_the_oracle_is_kept_busy():
    """Enough moments of the histories can be had, and enough cannot, for the comparison to say something."""
    counts = {True: 0, False: 0}

    @QUICK
    @given(HISTORY)
    def histories(steps: list[tuple[str, int]]) -> None:
        life = LIVES["sqlserver"]("sqlserver").play(steps)
        for second in range(len(life.moments)):
            counts[life.can_be_had(second)] += 1

    histories()
    assert min(counts.values()) > 1000
