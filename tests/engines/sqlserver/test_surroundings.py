"""What databases need beside them: seen as far as the account may see, and scripted so that it can be made again."""

from __future__ import annotations

import pytest

from backups.engines import engine_of
from backups.engines.facts import Connection, Surroundings
from demo.tds.machine import Job, Principal, SimulatedMachine

CLERK = Principal("clerk]'s", b"\x51" * 16, password_hash=b"\x02\x00\xab\xcd", default_database="Orders")
GUEST = Principal("SHOP\\guests", b"\x01\x05" + b"\x07" * 26, kind="G", is_disabled=True, roles=("dbcreator",))
SYSTEM = Principal("NT SERVICE\\SQLWriter", b"\x01\x06" + b"\x09" * 26, kind="U")
INNER = Principal("##MS_PolicyEventProcessingLogin##", b"\x77" * 16)


@pytest.fixture
def furnished(machine: SimulatedMachine) -> SimulatedMachine:
    beside = machine.beside
    beside.principals += [CLERK, GUEST, SYSTEM, INNER]
    beside.jobs.append(Job("Nightly 'close'", "EXEC dbo.CloseDay\n  @really = 'yes'", owner="clerk]'s"))
    beside.linked["ERP"] = "erp.shop.test"
    machine.certificates |= {"TdeCert": b"\x0a\xbc", "##MS_SQLResourceSigningCertificate##": b"\xff"}
    return machine


@pytest.fixture
def seen(furnished: SimulatedMachine, connection: Connection) -> Surroundings:
    return engine_of("sqlserver").look_around(connection)


def test_it_is_named_by_what_two_servers_are_compared_by(seen: Surroundings) -> None:
    assert seen.names == {
        "login": ("clerk]'s (SID 0x" + "51" * 16 + ")", "SHOP\\guests (SID 0x0105" + "07" * 26 + ")"),
        "job": ("Nightly 'close'",),
        "linked_server": ("ERP",),
        "certificate": ("0abc",),
    }


def test_a_login_comes_back_with_its_sid_and_its_hashed_password(seen: Surroundings) -> None:
    sid = "0x" + "51" * 16
    assert "IF SUSER_ID(N'clerk]''s') IS NULL" in seen.script
    born = f"CREATE LOGIN [clerk]]'s] WITH PASSWORD = 0x0200ABCD HASHED, SID = {sid}, CHECK_POLICY = ON"
    assert born in seen.script
    assert "IF DB_ID(N'Orders') IS NOT NULL ALTER LOGIN [clerk]]'s] WITH DEFAULT_DATABASE = [Orders];" in seen.script
    assert "0200abcd" not in repr(seen).lower(), "a hash of a password is a secret"


def test_a_windows_group_comes_back_with_its_role_and_stays_disabled(seen: Surroundings) -> None:
    assert "CREATE LOGIN [SHOP\\guests] FROM WINDOWS;" in seen.script
    assert "ALTER LOGIN [SHOP\\guests] DISABLE;" in seen.script
    assert "ALTER SERVER ROLE [dbcreator] ADD MEMBER [SHOP\\guests];" in seen.script


def test_what_every_server_has_of_its_own_is_left_out(seen: Surroundings) -> None:
    assert "##" not in seen.script and "NT SERVICE" not in seen.script and "[sa]" not in seen.script


def test_a_job_comes_back_with_its_step_its_schedule_and_its_owner(seen: Surroundings) -> None:
    assert "@job_name = N'Nightly ''close''', @enabled = 1" in seen.script
    assert "@owner_login_name = N'clerk]''s'" in seen.script
    assert "@command = N'EXEC dbo.CloseDay\n  @really = ''yes'''" in seen.script
    assert "sp_add_jobschedule" in seen.script and "@freq_type = 4" in seen.script


def test_linked_servers_and_certificates_say_what_has_to_be_done_by_hand(seen: Surroundings) -> None:
    assert "EXEC sp_addlinkedserver @server = N'ERP', @srvproduct = N'', @provider = N'MSOLEDBSQL'" in seen.script
    assert "-- Certificate TdeCert, thumbprint 0x0ABC:" in seen.script
    assert any("linked servers" in note for note in seen.notes)


def test_what_the_account_may_not_see_is_named_with_the_right_that_shows_it(
    furnished: SimulatedMachine, connection: Connection
) -> None:
    account = furnished.accounts["farshore"]
    account.sees_definitions = account.sees_keys = account.reads_jobs = False
    seen = engine_of("sqlserver").look_around(connection)
    assert seen.names == {"login": (), "job": (), "linked_server": (), "certificate": ()}
    assert [note.partition(":")[2].split(" on")[0] for note in seen.notes] == [
        " GRANT VIEW ANY DEFINITION.",
        " GRANT SELECT",
    ]
    assert all(f"-- {note}" in seen.script for note in seen.notes)


def test_a_password_that_may_not_be_seen_is_to_be_chosen_and_said_so(
    furnished: SimulatedMachine, connection: Connection
) -> None:
    furnished.accounts["farshore"].sees_hashes = False
    seen = engine_of("sqlserver").look_around(connection)
    assert "[clerk]]'s] WITH PASSWORD = N'<choose one>', SID = 0x" in seen.script
    assert any("VIEW ANY CRYPTOGRAPHICALLY SECURED DEFINITION" in note for note in seen.notes)


def test_names_that_try_to_leave_their_quotes_or_their_comment_stay_in(
    machine: SimulatedMachine, connection: Connection
) -> None:
    machine.certificates["x\nDROP DATABASE Orders; --"] = b"\x01"
    machine.beside.linked["a'; DROP LOGIN sa; --"] = "b"
    script = engine_of("sqlserver").look_around(connection).script
    assert not [line for line in script.splitlines() if line.startswith("DROP")]
    assert "N'a''; DROP LOGIN sa; --'" in script
