"""What is wrong is said in words, with what to do next, before anything has been touched."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from console.runtime import bootstrap, front_door, places, ports, postgres, variables
from console.runtime.postgres import Postgres, unprivileged
from regions.refusals import Refusal

AGED = "import sys, runpy; sys.version_info = (3, 9, 18, 'final', 0); runpy.run_path('manage.py', run_name='__main__')"


def test_an_old_python_is_told_which_one_is_needed() -> None:
    answer = subprocess.run([sys.executable, "-c", AGED], cwd=places.CLONE, capture_output=True, text=True)
    assert answer.returncode == 1
    assert "needs Python 3.11" in answer.stderr and "Traceback" not in answer.stderr


def test_a_python_without_ensurepip_is_told_which_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Refusal, match=r"apt install python3\.\d+-venv"):
        bootstrap._make_venv()


def test_a_full_disk_is_refused_before_installing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10 * 2**20))
    with pytest.raises(Refusal, match="10 MiB left"):
        bootstrap._refuse_a_full_disk()


def test_a_disk_that_fills_up_while_installing_is_named() -> None:
    with pytest.raises(Refusal, match="disk became full"):
        bootstrap._run([sys.executable, "-c", "raise OSError(28, 'No space left on device')"])


def test_a_cluster_of_another_major_is_refused_and_kept(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "postgres", tmp_path / "sockets", tmp_path / "log", account=None)
    server.cluster.mkdir()
    (server.cluster / "PG_VERSION").write_text("12\n")
    with pytest.raises(Refusal, match="made by PostgreSQL 12"):
        server.prepare()
    assert (server.cluster / "PG_VERSION").read_text() == "12\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")
def test_in_a_private_clone_roots_programs_and_data_go_where_the_account_reaches(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, shared = open_folder / "private", open_folder / "shared"
    private.mkdir(mode=0o700)
    monkeypatch.setattr(postgres, "ROOTS_PLACE", shared)
    assert postgres.cluster_place(private, unprivileged()).is_relative_to(shared)
    assert postgres.cluster_place(open_folder, unprivileged()) == open_folder / "postgres"
    copied = postgres._copied(Path(postgres.programs(None)).parent)
    assert copied.is_relative_to(shared)
    ways = unprivileged().popen
    asked = subprocess.run([copied / "bin" / "initdb", "--version"], capture_output=True, text=True, cwd="/", **ways)
    assert "initdb (PostgreSQL)" in asked.stdout, asked.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")
def test_a_cluster_that_lies_elsewhere_is_found_again_when_its_clone_moves(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "ROOTS_PLACE", open_folder / "shared")
    data = open_folder / "private" / "var"
    data.parent.mkdir(mode=0o700)
    before = postgres.cluster_place(data, unprivileged())
    data.parent.rename(open_folder / "moved")
    assert postgres.cluster_place(open_folder / "moved" / "var", unprivileged()) == before


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "cannot be written"), (errno.EROFS, "clone of")],
)
def test_what_the_disk_refuses_is_said_in_words(number: int, words: str) -> None:
    with pytest.raises(Refusal, match=words), front_door._disk_errors_in_words():
        raise OSError(number, "from the system", "/opt/farshore/var")


def test_a_socket_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "sockets").symlink_to(tmp_path / "real")
    with pytest.raises(Refusal, match="belongs to somebody else"):
        places.private_folder(tmp_path / "sockets")


def test_socket_paths_stay_short_however_deep_the_data_lies() -> None:
    folder = places.socket_folder("db", Path("/very/deep" * 30))
    assert len(f"{folder}/.s.PGSQL.5432.lock") < 107


def test_a_reserved_or_foreign_address_is_refused() -> None:
    with pytest.raises(Refusal, match="not an address of this machine"):
        ports.is_free("203.0.113.7", 8000)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (lambda: variables.flag("ODD"), "maybe"),
        (lambda: variables.number("ODD", 1, least=1), "0"),
        (lambda: variables.number("ODD", 1), "1e3"),
        (lambda: variables.number("ODD", 1), "٣"),
        (lambda: variables.choice("ODD", ("a", "b"), "a"), "c"),
        (lambda: variables.address("ODD", "127.0.0.1"), "everywhere"),
        (lambda: variables.public_address("ODD"), "farshore.example.com"),
        (lambda: variables.public_address("ODD"), "https://farshore.example.com/path"),
        (lambda: variables.folder_and_location("ODD"), "/srv/stores"),
        (lambda: variables.folder_and_location("ODD"), "/srv/stores=_stores"),
        (lambda: variables.database_address("ODD", os.environ["ODD"]), "mysql://root:hush@db/x"),
        (lambda: variables.database_address("ODD", os.environ["ODD"]), "postgresql://root:hush@db:port/x"),
        (lambda: variables.database_address("ODD", os.environ["ODD"]), "postgresql://root:hush@db/"),
        (lambda: variables.broker_address("ODD", os.environ["ODD"]), "http://:hush@broker"),
    ],
)
def test_a_bad_variable_is_named_and_its_value_is_not_repeated(
    read: object, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD", value)
    with pytest.raises(Refusal) as refused:
        read()
    assert refused.value.sentence.startswith("ODD is not usable") and "hush" not in str(refused.value)


def test_alert_recipients_without_a_mail_server_are_refused(tmp_path: Path) -> None:
    """Their mails would be counted as sent, and nobody would read them."""
    told = {"FARSHORE_DATA": str(tmp_path), "FARSHORE_ALERT_RECIPIENTS": "dba@example.org", "EMAIL_HOST": ""}
    command = [sys.executable, "-c", "import console.settings"]
    ask = {"cwd": places.CLONE, "capture_output": True, "text": True}
    refused = subprocess.run(command, env=os.environ | told, **ask)
    assert refused.returncode and "FARSHORE_ALERT_RECIPIENTS is not usable: mail" in refused.stderr
    assert subprocess.run(command, env=os.environ | told | {"EMAIL_HOST": "mail.example.org"}, **ask).returncode == 0


def test_a_database_url_may_name_a_socket_folder_or_a_host() -> None:
    by_socket = variables.database_address("X", "postgresql:///farshore?user=a&host=%2Frun%2Fmy%20place")
    assert (by_socket.host, by_socket.user, by_socket.name) == ("/run/my place", "a", "farshore")
    by_host = variables.database_address("X", "postgresql://a:p%40ss@db.example:5433/farshore?sslmode=verify-full")
    assert (by_host.host, by_host.port, by_host.password) == ("db.example", "5433", "p@ss")
    assert by_host.options == {"sslmode": "verify-full"}
    assert "p@ss" not in repr(by_host)
