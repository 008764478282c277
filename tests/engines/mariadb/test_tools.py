from __future__ import annotations

from pathlib import Path

import pytest

from backups.engines.mariadb import tools
from regions.refusals import Refusal


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools, "PACKAGED", (f"{tmp_path}/packaged",))
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("MARIADB_BIN", raising=False)


def install(folder: Path, version: str, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names or ("mariadb-backup", "mariadbd", "mariadb-binlog"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} based on MariaDB server {version}-MariaDB Linux'\n")
        (folder / name).chmod(0o755)
    return folder


def test_the_tools_of_the_servers_own_series_are_taken_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = install(tmp_path / "packaged", "10.11.6")
    old, new = install(tmp_path / "old", "10.6.16"), install(tmp_path / "new", "11.4.2")
    assert tools.tools_for("10.11").program("mariadb-backup") == packaged / "mariadb-backup"
    monkeypatch.setenv("MARIADB_BIN", f"{old}:{new}")
    assert tools.tools_for("11.4").folders == (new,)
    assert tools.server_tools("10.6").folders == (old,)
    assert tools.tools_for("10.11").program("mariadbd") == packaged / "mariadbd"
    assert tools.started_series() == ["10.6", "11.4", "10.11"]


def test_another_series_is_refused_by_name_but_reads_a_servers_log(tmp_path: Path) -> None:
    packaged = install(tmp_path / "packaged", "10.11.6")
    for asked, code in ((tools.tools_for, "ToolsMissing"), (tools.server_tools, "ServerMissing")):
        with pytest.raises(Refusal, match=r"MariaDB 11\.4") as refused:
            asked("11.4")
        assert refused.value.code == code and "MARIADB_BIN" in refused.value.remedy
    assert tools.binlog_tool("11.4") == packaged / "mariadb-binlog"


def test_a_program_that_was_replaced_is_asked_again(tmp_path: Path) -> None:
    install(tmp_path / "packaged", "10.11.6")
    assert tools.started_series() == ["10.11"]
    (tmp_path / "packaged" / "mariadbd").write_text("#!/bin/sh\necho 'mariadbd Ver 11.4.2-MariaDB'\n")
    assert tools.started_series() == ["11.4"]
