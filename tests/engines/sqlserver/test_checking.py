"""Looking into a restored database (simulation): its rows, the server's own check, a question."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace

import pytest

from backups.engines import engine_of
from backups.engines.facts import Connection, RunningServer, Stopped
from backups.engines.sqlserver import checking
from backups.engines.sqlserver.checking import in_text, why_not_ask
from backups.engines.sqlserver.refusals import Said
from demo.tds.machine import SimulatedMachine
from regions.refusals import Refusal

ENGINE = engine_of("sqlserver")


@pytest.fixture
def server(connection: Connection) -> RunningServer:
    return SimpleNamespace(connection=replace(connection, dbname="Orders"))


def test_rows_are_counted_table_by_table(server: RunningServer, machine: SimulatedMachine) -> None:
    machine.database("Orders").pages = 77
    assert ENGINE.count_rows(server) == {"Orders.dbo.pages": 77}
    with pytest.raises(Stopped):
        ENGINE.count_rows(server, stop=lambda: True)


def test_a_whole_database_passes_its_check_and_a_damaged_one_says_what_is_wrong(
    server: RunningServer, machine: SimulatedMachine
) -> None:
    assert ENGINE.check(server).passed
    machine.database("Orders").faults += ["Object ID 5: page (1:77) could not be processed.", "and another"]
    result = ENGINE.check(server)
    assert not result.passed and result.tool == "DBCC CHECKDB"
    assert result.findings == ("Object ID 5: page (1:77) could not be processed. (8928)", "and another (8928)")


def test_a_check_of_a_database_that_is_gone_is_no_pass(server: RunningServer, machine: SimulatedMachine) -> None:
    del machine.databases["orders"]
    with pytest.raises(Refusal):
        ENGINE.check(server)


def test_a_check_that_could_not_be_made_says_so_and_calls_nothing_damaged(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [Said(7983, "User 'farshore' does not have permission to run DBCC checkdb.", 14)]
    monkeypatch.setattr(checking, "carry_out", lambda *asked, **more: said)
    with pytest.raises(Refusal) as refused:
        ENGINE.check(server)
    assert "permission" in str(refused.value)


def test_a_question_is_answered_with_one_value(server: RunningServer) -> None:
    assert ENGINE.ask(server, "", "SELECT COUNT_BIG(*) FROM dbo.pages;") == "64"
    assert ENGINE.ask(server, "", "SELECT number FROM dbo.pages WHERE number < 0") == "no row"
    with pytest.raises(Refusal) as refused:
        ENGINE.ask(server, "", "SELECT nothing FROM nowhere")
    assert refused.value.code == "QuestionFailed"


def test_it_is_asked_as_a_user_that_reads_this_one_database(server: RunningServer, machine: SimulatedMachine) -> None:
    """Others' restored databases stand beside it, and belong to the same login."""
    for _ in range(2):
        assert ENGINE.ask(server, "", "SELECT USER_NAME() AS who") == "farshore_asks"
    assert machine.database("Orders").users == {"farshore_asks": {"db_datareader"}}
    assert ENGINE.count_rows(server) == {"Orders.dbo.pages": 64}, "our own checks go on as before"


@pytest.mark.parametrize(
    "question",
    [
        "DELETE FROM orders",
        "SELECT 1; DROP TABLE orders",
        "SELECT * INTO copied FROM orders",
        "WITH x AS (SELECT 1 AS n) DELETE FROM x",
        "/* SELECT */ TRUNCATE TABLE orders",
        "",
    ],
)
def test_nothing_but_one_select_is_asked(question: str) -> None:
    assert why_not_ask(question).code == "NoRows"


@pytest.mark.parametrize(
    "question",
    [
        "select 1",
        "SELECT 'DROP; it' AS said FROM [delete] -- update;",
        'WITH x AS (SELECT 1 AS "into") SELECT * FROM x;',
    ],
)
def test_words_in_quotes_and_comments_are_only_words(question: str) -> None:
    assert why_not_ask(question) is None


def test_values_are_told_as_text() -> None:
    at = datetime(2026, 11, 27, 14, 3, 22, tzinfo=UTC)
    told = [in_text(value) for value in (None, True, 7, Decimal("1.50"), b"\x0a\xff", at, "ü")]
    assert told == ["NULL", "1", "7", "1.50", "0x0AFF", "2026-11-27 14:03:22+00:00", "ü"]
