"""What a probe learns of a server and of each of its databases (R-3.5, R-9.3), and the script of rights."""

from __future__ import annotations

from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from backups.engines import engine_of
from backups.engines.facts import Connection
from backups.engines.sqlserver.connecting import session
from backups.engines.sqlserver.rights import script_for
from backups.engines.sqlserver.server import DatabaseStanding, inspect_databases
from demo.tds import SimulatedMachine, SimulatedServer
from regions.refusals import Refusal
from tests.engines.sqlserver.conftest import SHARE, reach


def probe(connection: Connection):
    return engine_of("sqlserver").probe(connection)


def take(connection: Connection, statement: str) -> None:
    with session(connection) as opened:
        opened.run(statement)


def known(connection: Connection) -> dict[str, DatabaseStanding]:
    return {one.name: one for one in inspect_databases(connection)}


def test_a_probe_tells_version_edition_databases_and_bytes(machine: SimulatedMachine, connection: Connection) -> None:
    machine.add("Bills]o'x ☂", pages=128)
    found = probe(connection)
    assert found.version == "15.0.4430.1" and found.databases == ("Bills]o'x ☂", "Orders")
    assert found.data_bytes == (64 + 128) * 8192
    assert not found.is_secondary and found.identity == ""
    assert "Developer Edition (64-bit)." in found.notes


def test_each_database_says_how_it_stands(machine: SimulatedMachine, connection: Connection) -> None:
    machine.add("Plain", recovery_model="SIMPLE")
    machine.add("Asleep", state="OFFLINE")
    machine.add("Secret", thumbprint=bytes.fromhex("ab" * 20))
    before = known(connection)
    assert before["Orders"].last_full_at is None and before["Orders"].log_chain_position is None
    take(connection, f"BACKUP DATABASE [Orders] TO DISK = N'{SHARE}\\a.bak' WITH FORMAT, CHECKSUM")
    found = known(connection)
    (row,) = machine.history
    assert found["Orders"].last_full_at == row.backup.finished_at
    assert found["Orders"].log_chain_position == row.backup.first, "where its next log begins"
    assert not found["Plain"].has_logs and not found["Asleep"].is_online
    assert found["Secret"].certificate_thumbprint == "ab" * 20
    notes = "\n".join(probe(connection).notes)
    assert "Asleep is OFFLINE" in notes and "Plain is in recovery model SIMPLE" in notes
    assert f"needs certificate {'ab' * 20} at the destination" in notes
    assert "Secret: its log chain has not begun" in notes and "Orders: its log chain" not in notes


def test_a_copy_only_full_is_no_last_full_and_begins_no_chain(
    machine: SimulatedMachine, connection: Connection
) -> None:
    take(connection, f"BACKUP DATABASE [Orders] TO DISK = N'{SHARE}\\a.bak' WITH FORMAT, COPY_ONLY")
    assert known(connection)["Orders"].last_full_at is None
    assert known(connection)["Orders"].log_chain_position is None


def test_times_of_msdb_become_utc_by_their_zone_and_an_unknown_zone_is_no_time(
    machine: SimulatedMachine, connection: Connection
) -> None:
    machine.time_zone = 32  # quarter hours: eight hours east
    take(connection, f"BACKUP DATABASE [Orders] TO DISK = N'{SHARE}\\a.bak' WITH FORMAT")
    assert known(connection)["Orders"].last_full_at == machine.history[0].backup.finished_at
    machine.remember(machine.history[0].backup, machine.history[0].families, "sa", time_zone=None)
    assert known(connection)["Orders"].last_full_at is None


def test_a_secondary_is_known_by_its_group_as_is_its_primary(machine: SimulatedMachine, connection: Connection) -> None:
    group = uuid4()
    orders = machine.database("Orders")
    orders.group, orders.is_primary, orders.is_preferred = group, False, True
    other = SimulatedMachine("SQL-SIM-2")
    other.accounts = machine.accounts
    other.add("Orders", group=group, is_preferred=False)
    with SimulatedServer(other) as primary:
        there = probe(reach(primary))
        assert (there.is_secondary, there.identity) == (False, str(group))
        assert not known(reach(primary))["Orders"].is_preferred
    here = probe(connection)
    assert (here.is_secondary, here.identity) == (True, str(group))
    assert known(connection)["Orders"].is_secondary and known(connection)["Orders"].is_preferred


def test_an_account_that_may_little_is_told_what_it_lacks(machine: SimulatedMachine, connection: Connection) -> None:
    account = machine.accounts["farshore"]
    account.sees_state, account.kills, account.backs_up = False, False, frozenset()
    notes = "\n".join(probe(connection).notes)
    assert "VIEW SERVER STATE" in notes and "ALTER ANY CONNECTION" in notes and "db_backupoperator" in notes
    assert probe(connection).data_bytes == 0
    account.reads_history = False
    with pytest.raises(Refusal) as refused:
        probe(connection)
    assert (refused.value.code, refused.value.field) == ("MayNotReadHistory", "username")


def test_a_sysadmin_is_told_that_it_is_too_much(machine: SimulatedMachine, connection: Connection) -> None:
    machine.accounts["farshore"].is_sysadmin = True
    assert "sysadmin" in "\n".join(probe(connection).notes)


def test_a_server_that_is_too_old_is_refused(machine: SimulatedMachine, connection: Connection) -> None:
    machine.version = (12, 0, 6024)
    with pytest.raises(Refusal) as refused:
        probe(connection)
    assert refused.value.code == "TooOld" and "2016" in refused.value.sentence


def test_the_script_grants_what_is_used_and_quotes_every_name() -> None:
    script = script_for("far]sho're", ["Orders", "a]b"], major=15)
    assert "CREATE LOGIN [far]]sho're]" in script and "SUSER_ID(N'far]sho''re')" in script
    assert "USE [a]]b];" in script and script.count("[db_backupoperator] ADD MEMBER [far]]sho're]") == 2
    assert "GRANT VIEW SERVER STATE TO" in script and "GRANT ALTER ANY CONNECTION TO" in script
    assert all(
        f"GRANT SELECT ON dbo.{table} TO" in script for table in ("backupset", "backupmediaset", "backupmediafamily")
    )
    assert "ADD MEMBER [sysadmin]" not in script and "[sysadmin]" not in script and "dbcreator" not in script


def test_what_logins_and_jobs_take_is_left_to_whoever_runs_it() -> None:
    script = script_for("farshore", ["Orders"], major=16)
    wider = [line for line in script.splitlines() if "DEFINITION" in line or "sysjob" in line]
    assert len(wider) == 5 and all(line.startswith("-- ") for line in wider), wider


def test_from_2022_on_the_finer_rights_are_granted() -> None:
    suspending = "GRANT ALTER TO [farshore];"
    assert suspending in script_for("farshore", ["Orders"], major=16, snapshots=True)
    assert suspending not in script_for("farshore", ["Orders"], major=16)
    script = script_for("farshore", [], major=16, restores=True)
    assert "VIEW SERVER PERFORMANCE STATE" in script and "VIEW SERVER STATE" not in script
    assert "msdb" not in script and "[db_backupoperator]" in script_for("x", ["Orders"], restores=True)
    assert "[dbcreator]" in script and "GRANT VIEW DEFINITION TO [farshore]" in script


def test_the_front_door_prints_the_script_without_a_database_or_a_server() -> None:
    out = StringIO()
    call_command("login_script", "sqlserver", "--database", "Sales", "--database", "a]b", "--major", "16", stdout=out)
    assert out.getvalue() == script_for("farshore", ["Sales", "a]b"], major=16)
    with pytest.raises(CommandError, match="invalid choice: 'postgresql'"):
        call_command("login_script", "postgresql")
