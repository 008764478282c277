"""The simulation speaks TDS as others know it: python-tds and FreeTDS (pymssql) both talk to it over real sockets."""

from __future__ import annotations

import importlib.util
import os
import random
import socket
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytds
import pytest

from backups.engines.facts import Kind
from backups.engines.sqlserver import inspect
from backups.engines.sqlserver.checksums import Verifier
from demo import mtf
from demo.tds import SimulatedMachine, SimulatedServer
from demo.tds.machine import Family
from tests.engines.sqlserver.conftest import PASSWORD, SHARE, until
from tests.engines.sqlserver.distant import Distant

FULL = f"BACKUP DATABASE [Orders] TO DISK = N'{SHARE}\\a.bak' WITH FORMAT, CHECKSUM"
TYPES = """
SELECT 7 AS small, 12345678901 AS large, CAST(1 AS bit) AS yes, N'Ünïcödé ☂ ''quoted''' AS words,
       CAST(NULL AS nvarchar(20)) AS none, CAST(N'long' AS nvarchar(max)) AS long, 0x00FF AS bytes,
       CAST(39000000048800071 AS numeric(25, 0)) AS lsn,
       CAST('0f8fad5b-d9cb-469f-a165-70867728950e' AS uniqueidentifier) AS guid,
       CAST(%s AS datetime) AS coarse, CAST(%s AS datetime2) AS fine, CAST(NULL AS uniqueidentifier) AS nobody
"""
MOMENT = datetime(2026, 11, 2, 3, 4, 5, 123000)


def needs_pymssql() -> None:
    """As `tests.programs.needs`: skipped by name where it has no wheel, required under FARSHORE_REQUIRE=all."""
    if importlib.util.find_spec("pymssql"):
        return
    if os.environ.get("FARSHORE_REQUIRE") == "all":
        pytest.fail("needs pymssql, and FARSHORE_REQUIRE=all", pytrace=False)
    pytest.skip("needs pymssql")


@pytest.fixture(params=["python-tds", "pymssql"])
def cursor(request: pytest.FixtureRequest, server: SimulatedServer):
    """A cursor of either client, in autocommit."""
    if request.param == "python-tds":
        opened = pytds.connect(
            "127.0.0.1", port=server.port, user="farshore", password=PASSWORD, autocommit=True, database="Orders"
        )
    else:
        needs_pymssql()
        import pymssql

        opened = pymssql.connect(
            server="127.0.0.1", port=server.port, user="farshore", password=PASSWORD, database="Orders", autocommit=True
        )
    yield opened.cursor()
    opened.close()


def test_two_clients_that_know_nothing_of_each_other_read_every_type_alike(cursor) -> None:
    cursor.execute(TYPES, (MOMENT, MOMENT))
    (row,) = cursor.fetchall()
    assert [column[0] for column in cursor.description][:4] == ["small", "large", "yes", "words"]
    assert row[:7] == (7, 12345678901, True, "Ünïcödé ☂ 'quoted'", None, "long", b"\x00\xff")
    assert row[7] == Decimal("39000000048800071") and isinstance(row[7], Decimal)
    assert row[8] == uuid.UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
    assert abs(row[9] - MOMENT) < timedelta(milliseconds=4) and row[10] == MOMENT and row[11] is None


def test_it_says_that_it_is_a_simulation(cursor) -> None:
    cursor.execute("SELECT @@VERSION")
    assert "simulation" in cursor.fetchone()[0]


def test_a_statement_that_it_does_not_know_is_refused_with_its_words(cursor) -> None:
    with pytest.raises(Exception, match="near 'CREATE TABLE x"):
        cursor.execute("CREATE TABLE x (y int)")
    with pytest.raises(Exception, match="Invalid object name 'sys.columns'"):
        cursor.execute("SELECT name FROM sys.columns")
    with pytest.raises(Exception, match="Conversion failed"):
        cursor.execute("SELECT CAST('tomorrow' AS datetime)")
    with pytest.raises(Exception, match="cannot answer this"):
        cursor.execute("SELECT 1 + 'one'")
    cursor.execute("SELECT DB_NAME()")
    assert cursor.fetchone()[0] == "Orders", "an error ends the statement, not the session"


def test_either_client_takes_a_backup_and_reads_it_in_the_history(cursor, machine: SimulatedMachine) -> None:
    cursor.execute(FULL)
    cursor.execute("SELECT backup_set_uuid, last_lsn, differential_base_guid FROM msdb.dbo.backupset")
    ((guid, last, base),) = cursor.fetchall()
    (found,) = Distant((machine.shares[SHARE] / "a.bak").read_bytes()).inspect().sets
    assert (str(guid), int(last), base) == (found.set_guid, found.last_position, None)


def test_a_wrong_password_and_a_missing_database_are_refused_by_number(server: SimulatedServer) -> None:
    for given in ({"password": "wrong"}, {"user": "nobody"}, {"database": "Nowhere"}):
        known = {"user": "farshore", "password": PASSWORD, "database": "Orders"} | given
        with pytest.raises(pytds.OperationalError) as refused:
            pytds.connect("127.0.0.1", port=server.port, autocommit=True, **known)
        assert refused.value.msg_no == 18456
        assert ("Cannot open database" in str(refused.value)) == ("database" in given)


# ---- backups


def opened(server: SimulatedServer):
    return pytds.connect("127.0.0.1", port=server.port, user="farshore", password=PASSWORD, autocommit=True).cursor()


def numbers(cursor) -> list[int]:
    return [error.msg_no for _, error in cursor.messages]


def test_a_backup_tells_of_its_progress_its_pages_and_its_success(
    server: SimulatedServer, machine: SimulatedMachine
) -> None:
    machine.database("Orders").pages = 2048
    cursor = opened(server)
    cursor.execute(f"{FULL}, STATS = 20")
    said = numbers(cursor)
    assert said.count(3211) >= 4 and said[-3:] == [4035, 4035, 3014]
    body = (machine.shares[SHARE] / "a.bak").read_bytes()
    verifier = Verifier()
    verifier.feed(memoryview(body))
    assert verifier.verdict().level == "backup checksum"


@pytest.mark.parametrize(
    ("statement", "cause"),
    [
        (f"BACKUP DATABASE [Gone] TO DISK = N'{SHARE}\\x.bak'", 911),
        ("BACKUP DATABASE [Orders] TO DISK = N'\\\\elsewhere\\x.bak'", 3201),
        (f"BACKUP DATABASE [Orders] TO DISK = N'{SHARE}\\no\\folder.bak'", 3201),
        (f"BACKUP DATABASE [Orders] TO DISK = N'{SHARE}\\..\\out.bak'", 3201),
        (f"BACKUP LOG [Orders] TO DISK = N'{SHARE}\\x.trn'", 4214),
        (f"BACKUP LOG [Plain] TO DISK = N'{SHARE}\\x.trn'", 4208),
        (f"BACKUP DATABASE [Orders] TO DISK = N'{SHARE}\\x.dif' WITH DIFFERENTIAL", 3035),
        (f"BACKUP DATABASE [Mirror] TO DISK = N'{SHARE}\\x.bak'", 3059),
        (f"BACKUP DATABASE [Mirror] TO DISK = N'{SHARE}\\x.bak' WITH DIFFERENTIAL, COPY_ONLY", 3059),
        (f"BACKUP DATABASE [Theirs] TO DISK = N'{SHARE}\\x.bak'", 262),
        (f"BACKUP DATABASE [Asleep] TO DISK = N'{SHARE}\\x.bak'", 942),
    ],
)
def test_what_fails_says_why_before_it_says_that_it_failed(
    server: SimulatedServer, machine: SimulatedMachine, statement: str, cause: int
) -> None:
    machine.add("Plain", recovery_model="SIMPLE")
    machine.add("Mirror", group=uuid.uuid4(), is_primary=False)
    machine.add("Theirs")
    machine.add("Asleep", state="OFFLINE")
    machine.accounts["farshore"].backs_up = frozenset({"Orders", "Plain", "Mirror", "Asleep"})
    cursor = opened(server)
    with pytest.raises(pytds.DatabaseError):
        cursor.execute(statement)
    assert numbers(cursor) == [cause, 3013]
    assert not machine.history and not list(machine.shares[SHARE].iterdir())


def test_a_backup_in_a_transaction_is_refused(server: SimulatedServer, machine: SimulatedMachine) -> None:
    for begin in ("SET IMPLICIT_TRANSACTIONS OFF; BEGIN TRAN", ""):
        held = pytds.connect("127.0.0.1", port=server.port, user="farshore", password=PASSWORD, autocommit=bool(begin))
        cursor = held.cursor()
        if begin:
            cursor.execute(begin)
        with pytest.raises(pytds.DatabaseError):
            cursor.execute(FULL)
        assert numbers(cursor) == [3021, 3013]


def test_the_log_chain_has_no_gap_and_begins_with_the_first_full(
    server: SimulatedServer, machine: SimulatedMachine
) -> None:
    orders, cursor = machine.database("Orders"), opened(server)
    cursor.execute(FULL)
    for number in range(3):
        orders.work()
        cursor.execute(f"BACKUP LOG [Orders] TO DISK = N'{SHARE}\\{number}.trn' WITH FORMAT, CHECKSUM")
    cursor.execute(FULL.replace("a.bak", "copy.bak") + ", COPY_ONLY")
    orders.work()
    cursor.execute(f"BACKUP DATABASE [Orders] TO DISK = N'{SHARE}\\d.dif' WITH FORMAT, CHECKSUM, DIFFERENTIAL")
    full, first, second, third, copy, differential = (row.backup for row in machine.history)
    assert (first.first, second.first, third.first) == (full.first, first.last, second.last)
    assert differential.base_guid == full.set_guid and copy.copy_only
    read = [Distant(path.read_bytes()).inspect().sets[0] for path in sorted(machine.shares[SHARE].iterdir())]
    assert {facts.set_guid for facts in read} == {str(row.backup.set_guid) for row in machine.history}
    assert [facts.begins_log_chain for facts in read if facts.kind is Kind.LOG] == [True, False, False]


def test_appended_and_striped_files_are_what_msdb_says(server: SimulatedServer, machine: SimulatedMachine) -> None:
    cursor, folder = opened(server), machine.shares[SHARE]
    for _ in range(3):
        machine.database("Orders").work()
        cursor.execute(f"BACKUP DATABASE [Orders] TO DISK = N'{SHARE}\\db.bak' WITH NOINIT, CHECKSUM")
    sets = Distant((folder / "db.bak").read_bytes()).inspect().sets
    assert [facts.position for facts in sets] == [1, 2, 3] == [row.position for row in machine.history]
    assert [facts.set_guid for facts in sets] == [str(row.backup.set_guid) for row in machine.history]
    assert len({row.media_id for row in machine.history}) == 1
    stripes = ", ".join(f"DISK = N'{SHARE}\\s{n}.bak'" for n in range(3))
    cursor.execute(f"BACKUP DATABASE [Orders] TO {stripes} WITH FORMAT, CHECKSUM")
    read = [Distant((folder / f"s{n}.bak").read_bytes()).inspect().sets[0] for n in range(3)]
    assert [(facts.family_sequence, facts.family_count) for facts in read] == [(1, 3), (2, 3), (3, 3)]


def test_an_attention_ends_a_backup_and_leaves_no_file(server: SimulatedServer, machine: SimulatedMachine) -> None:
    machine.database("Orders").pages, machine.pace = 2048, 4 << 20
    connection = pytds.connect("127.0.0.1", port=server.port, user="farshore", password=PASSWORD, autocommit=True)
    session = connection._tds_socket.main_session
    session.submit_plain_query(FULL)
    until(lambda: any(one.request for one in machine.sessions.values()))
    connection.cursor().cancel()
    cursor = connection.cursor()
    cursor.execute("SELECT 1")
    assert cursor.fetchone() == (1,), "the session lives on"
    assert not machine.history and not list(machine.shares[SHARE].iterdir())


def test_ties_are_not_cut_and_joins_are_by_equal_columns(server: SimulatedServer, machine: SimulatedMachine) -> None:
    backup = mtf.full("Orders", started_at=datetime(2026, 11, 2, tzinfo=UTC))
    for number in range(4):
        machine.remember(backup, tuple(Family(f"{number}-{n}", 2, n) for n in (1, 2, 3)), "sa")
    cursor = opened(server)
    cursor.execute("""
        SELECT TOP (4) WITH TIES s.backup_set_id, f.physical_device_name AS device
        FROM msdb.dbo.backupset AS s
        LEFT JOIN msdb.dbo.backupmediafamily AS f ON s.media_set_id = f.media_set_id AND f.family_sequence_number < 3
        WHERE s.backup_set_id > 1 ORDER BY s.backup_set_id
    """)
    assert cursor.fetchall() == [(2, "1-1"), (2, "1-2"), (3, "2-1"), (3, "2-2")]
    cursor.execute("SELECT TOP (1) WITH TIES backup_set_id FROM msdb.dbo.backupset ORDER BY database_name")
    assert len(cursor.fetchall()) == 4


def test_what_it_writes_is_read_by_the_same_reader_as_real_files(machine: SimulatedMachine) -> None:
    described = machine.describe(machine.database("Orders"), Kind.FULL, copy_only=False, checksum=True, name="n")
    body = mtf.file_of(described)
    (found,) = inspect(lambda offset, length: body[offset : offset + length], len(body)).sets
    assert found.set_guid == str(described.set_guid) and found.server == "SQL-SIM-1"


def test_a_client_that_speaks_nonsense_harms_nobody_else(server: SimulatedServer) -> None:
    chance = random.Random(1)
    for size in (1, 8, 9, 100, 5000):
        for head in (
            b"",
            bytes([18, 1, 0, 9 + size // 256, 0, 0, 1, 0]),
            bytes([18, 1, 0, 14, 0, 0, 1, 0, 1, 0, 6, 0, 0, 255]),
        ):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(head + chance.randbytes(size))
    assert numbers(opened(server)) == [5701, 50000]
