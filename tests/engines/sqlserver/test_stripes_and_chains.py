"""Stripes are put together by identity, and a differential finds the one full it was made from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from backups.engines.facts import Inspection
from backups.engines.sqlserver.chains import base_of, is_base
from backups.engines.sqlserver.stripes import group
from demo import mtf
from tests.engines.sqlserver.distant import inspected

FULL = mtf.full(pages=20)
STRIPES = {f"sales_{n}.bak": inspected(file) for n, file in enumerate(mtf.stripes_of(FULL, 3), 1)}


def test_all_stripes_make_one_complete_set():
    grouping = group(STRIPES)
    assert not grouping.incomplete
    (whole,) = grouping.complete
    assert whole.files == {1: "sales_1.bak", 2: "sales_2.bak", 3: "sales_3.bak"}
    assert whole.facts.set_guid == str(FULL.set_guid)


@given(st.sets(st.sampled_from(sorted(STRIPES))))
def test_a_set_waits_for_its_missing_stripes_and_names_them(present):
    grouping = group({name: STRIPES[name] for name in present})
    for waiting in grouping.incomplete:
        assert waiting.missing == tuple(n for n in (1, 2, 3) if f"sales_{n}.bak" not in present)
    assert len(grouping.complete) == (present == set(STRIPES))
    assert len(grouping.incomplete) == (0 < len(present) < 3)


def test_the_order_in_which_stripes_are_seen_does_not_matter():
    answers = {repr(group(dict(order))) for order in permutations(STRIPES.items())}
    assert len(answers) == 1


def test_a_stripe_of_another_night_does_not_fill_the_gap():
    other = mtf.full(started_at=FULL.started_at + timedelta(days=1), first=mtf.lsn(60))
    files = {**STRIPES, "sales_3.bak": inspected(mtf.stripes_of(other, 3)[2])}
    grouping = group(files)
    assert [waiting.missing for waiting in grouping.incomplete if 1 in waiting.files] == [(3,)]
    assert not grouping.complete


def test_a_stripe_that_contradicts_the_others_is_named():
    (facts,) = STRIPES["sales_2.bak"].sets
    files = {**STRIPES, "sales_2.bak": Inspection(sets=(replace(facts, database="Payroll"),))}
    (doubtful,) = group(files).incomplete
    assert doubtful.contradicting == ("sales_2.bak",)
    assert doubtful.missing == (2,)


def test_the_same_stripe_under_two_names_counts_once():
    (whole,) = group({**STRIPES, "z_copy_of_1.bak": STRIPES["sales_1.bak"]}).complete
    assert whole.spare == ("z_copy_of_1.bak",)


def test_a_file_that_was_refused_counts_for_nothing():
    grouping = group({**STRIPES, "sales_3.bak": inspected(b"TAPE")})
    assert not grouping.complete
    assert grouping.incomplete[0].missing == (3,)


def test_appended_sets_are_grouped_each_for_itself():
    chain = mtf.chain(logs=2, differentials=1)
    grouping = group({"sales.bak": inspected(mtf.file_of(*chain))})
    assert len(grouping.complete) == 4


def facts_of(backup: mtf.Backup):
    return inspected(mtf.file_of(backup)).sets[0]


def test_a_differential_needs_the_full_it_was_made_from():
    day = timedelta(days=1)
    fulls = [mtf.full(first=mtf.lsn(40 + n), started_at=FULL.started_at + n * day) for n in range(3)]
    made = mtf.differential(fulls[1], first=mtf.lsn(90), started_at=FULL.started_at + 5 * day)
    known = [facts_of(full) for full in fulls]
    assert base_of(facts_of(made), known) is known[1]
    assert base_of(facts_of(made), known[:1] + known[2:]) is None


def test_a_copy_only_full_is_never_the_base():
    copy_only = replace(FULL, copy_only=True)
    made = mtf.differential(FULL, first=mtf.lsn(90), started_at=FULL.started_at)
    assert not is_base(facts_of(copy_only), facts_of(made))
    assert is_base(facts_of(FULL), facts_of(made))


def test_only_differentials_have_a_base():
    log = mtf.log(FULL, first=mtf.lsn(41), last=mtf.lsn(42), started_at=FULL.started_at)
    assert not is_base(facts_of(FULL), facts_of(log))
    assert not is_base(facts_of(FULL), facts_of(FULL))
