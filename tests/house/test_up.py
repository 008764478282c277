"""One command: it starts everything, keeps it running, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.runtime.postgres import Account, reaches, unprivileged
from console.runtime.supervisor import Child
from tests.house.running import Up, clean_copy, plain_environment, soon, up
from tests.programs import needs
from tests.room import ROOM

pytestmark = pytest.mark.long

CHILDREN = ("postgresql", "valkey", "web", "worker", "beat")


@pytest.fixture(scope="module")
def clone() -> Path:
    return clean_copy(Path(tempfile.mkdtemp(dir=ROOM)) / "far shore")


@pytest.fixture(scope="module")
def data(clone: Path) -> Path:
    """One data folder for the stories below, so that only the first of them begins from nothing."""
    return clone.parent / "my data"


@pytest.fixture
def running(clone: Path, data: Path) -> Iterator[Up]:
    with up(clone, data) as running:
        running.wait_until_open()
        yield running


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def all_children_run(running: Up) -> bool:
    return all(running.child(name) for name in CHILDREN)


def test_from_nothing_it_makes_its_environment_and_opens(open_folder: Path) -> None:
    clone = clean_copy(open_folder / "a clean clone")
    python = getattr(sys, "_base_executable", sys.executable)
    with up(clone, clone / "var", python=python) as first:
        print(f"from nothing: {first.wait_until_open():.1f} s")
        assert answers(f"{first.address}accounts/login/")
        assert "Password" in first.said and "Recovery kit" in first.said
        assert first.stop() == 0
    with up(clone, clone / "var", python=python) as again:
        print(f"next start: {again.wait_until_open():.1f} s")
        assert "Password" not in again.said
        assert again.stop() == 0


def test_ctrl_c_stops_everything_and_gives_up_its_port(running: Up) -> None:
    family = running.family()
    assert len(family) > len(CHILDREN)
    assert running.stop(signal.SIGINT) == 0
    assert not [process for process in family if process.is_running()]


def test_kill_9_of_the_supervisor_ends_every_child(running: Up) -> None:
    assert soon(lambda: all_children_run(running))
    family = running.family()
    running.process.kill()
    running.process.wait()
    assert soon(lambda: not [process for process in family if process.is_running()], 20), [
        process.cmdline() for process in family if process.is_running()
    ]


def test_right_after_a_kill_9_it_starts_again_on_the_same_data(running: Up, clone: Path, data: Path) -> None:
    running.process.kill()
    running.process.wait()
    with up(clone, data) as again:
        again.wait_until_open()
        assert "Password" not in again.said
        assert again.stop() == 0


def test_a_child_that_is_killed_is_started_again(running: Up) -> None:
    for name in CHILDREN:
        assert soon(lambda name=name: running.child(name)), name
        before = running.child(name)
        before.kill()
        assert soon(lambda: (now := running.child(name)) and now.pid != before.pid, 20), name  # noqa: B023
        assert f"{name} ended (SIGKILL)" in running.said
        assert soon(lambda: answers(f"{running.address}health")), name


def test_its_logs_are_for_its_owner_alone(running: Up, data: Path) -> None:
    found = {log.name: log.stat().st_mode & 0o777 for log in (data / "logs").iterdir()}
    assert {"web.log", "postgresql.log", "valkey.log"} <= set(found)
    assert set(found.values()) == {0o600}
    assert (data / "logs").stat().st_mode & 0o777 == 0o700


def test_a_log_that_an_earlier_start_left_open_to_all_is_closed(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    log.write_text("before\n")
    log.chmod(0o644)
    child = Child("web", ["/bin/echo", "after"], log)
    child.start()
    assert child.process.wait(30) == 0
    assert log.read_text() == "before\nafter\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_other_commands_find_its_database(running: Up, clone: Path, data: Path) -> None:
    ask = "from django.contrib.auth.models import User; print('people:', User.objects.count())"
    answer = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v0", "-c", ask],
        cwd=clone,
        env=plain_environment(FARSHORE_DATA=str(data)),
        capture_output=True,
        text=True,
    )
    assert "people: 1" in answer.stdout, answer.stderr
    assert (data / "environment").stat().st_mode & 0o777 == 0o600


def test_two_run_beside_each_other_but_not_on_the_same_data(
    running: Up, clone: Path, data: Path, open_folder: Path
) -> None:
    with up(clone, open_folder / "other") as second:
        second.wait_until_open()
        assert second.address != running.address
        assert answers(f"{running.address}health") and answers(f"{second.address}health")
    with up(clone, data) as third:
        assert third.process.wait(30) == 2
        assert "already runs" in third.said and running.address in third.said


def test_a_taken_port_is_refused_before_anything_starts(clone: Path, open_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with up(clone, open_folder / "data", "--port", str(port)) as refused:
            assert refused.process.wait(30) == 2
            assert f"Port {port} is taken" in refused.said and "--port" in refused.said
            assert "Stopping" not in refused.said
            assert "Traceback" not in refused.said
    assert not (open_folder / "data" / "postgres").exists()


def test_a_bad_variable_is_refused_by_its_name(clone: Path, open_folder: Path) -> None:
    variables = {"DATABASE_URL": "sqlite:///secret.db"}
    with up(clone, open_folder / "data", variables=variables) as refused:
        assert refused.process.wait(30) == 2
        assert "DATABASE_URL" in refused.said and "secret.db" not in refused.said
        assert "Traceback" not in refused.said


def python_for(account: Account) -> str:
    """A Python that this account can start: root's own may lie in a folder nobody else enters."""
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        if (
            Path(candidate).exists()
            and reaches(account, Path(candidate))
            and reaches(account, Path(candidate).resolve())
        ):
            return candidate
    return needs("a python3 that every user can start") or ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_it_runs_as_an_ordinary_user(open_folder: Path) -> None:
    nobody = unprivileged(["nobody"])
    clone = clean_copy(open_folder / "far shore")
    subprocess.run(["chown", "-R", f"{nobody.uid}:{nobody.gid}", str(clone)], check=True)
    ways = {**nobody.popen, "variables": {"HOME": str(clone)}}
    with up(clone, clone / "var", python=python_for(nobody), **ways) as running:
        running.wait_until_open()
        assert {process.uids().effective for process in running.family()} == {nobody.uid}
        assert running.stop(signal.SIGTERM) == 0
