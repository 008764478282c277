from __future__ import annotations

from pathlib import Path

import pytest

from backups.engines.postgresql import tools
from regions.refusals import Refusal


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools, "PACKAGED", (f"{tmp_path}/packaged/{{major}}",))
    monkeypatch.delenv("FARSHORE_EMBEDDED_TOOLS")


def install(folder: Path, name: str = "pg_basebackup") -> Path:
    folder.mkdir(parents=True)
    program = folder / name
    program.touch()
    program.chmod(0o755)
    return folder


def test_the_variable_wins_over_the_package_and_its_own_major_over_newer_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged, newer = install(tmp_path / "packaged" / "16"), install(tmp_path / "packaged" / "17")
    named = install(tmp_path / "named")
    assert tools.tools_for(16) == tools.Tools(16, packaged)
    monkeypatch.setenv("PG_BIN_16", str(named))
    assert tools.tools_for(16).folder == named
    assert tools.tools_for(17).folder == newer


def test_newer_tools_serve_an_older_server_and_older_ones_never_a_newer(tmp_path: Path) -> None:
    install(tmp_path / "packaged" / "15")
    newer = install(tmp_path / "packaged" / "17")
    assert tools.tools_for(16) == tools.Tools(17, newer)
    with pytest.raises(Refusal, match="PostgreSQL 18 or newer"):
        tools.tools_for(18)


def test_the_embedded_tools_serve_only_where_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refusal):
        tools.tools_for(18)
    assert tools.tools_for(13, allow_embedded=True).major == 18
    monkeypatch.setenv("FARSHORE_EMBEDDED_TOOLS", "1")
    assert tools.tools_for(18).program("pg_basebackup").is_file()


def test_only_majors_with_a_server_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tools.majors_with_server() == []
    install(tmp_path / "packaged" / "15")  # its client alone
    install(tmp_path / "packaged" / "16", "postgres")
    monkeypatch.setenv("PG_BIN_14", str(install(tmp_path / "named", "postgres")))
    assert tools.majors_with_server() == [14, 16]
    assert [tools.server_tools(major).major for major in tools.majors_with_server()] == [14, 16]
    monkeypatch.setenv("FARSHORE_EMBEDDED_TOOLS", "1")
    assert tools.majors_with_server() == [14, 16, 18]
