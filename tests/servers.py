"""Real servers that some tests ask for, started at the first asking: S3 regions and a message broker."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.programs import needs, program
from tests.room import ROOM

CEPH = Path(__file__).parent / "tools" / "ceph_region.py"
RABBIT_SECONDS = 60


@dataclass(frozen=True)
class S3Region:
    endpoint: str
    access_key: str
    secret_key: str


def free_port(below: int = 65_000) -> int:
    """A port that nobody listens on now; `below` leaves room for a second one at a fixed distance."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port < below:
            return port


@pytest.fixture(scope="session")
def ceph_regions() -> Iterator[tuple[S3Region, S3Region]]:
    """Two places with real S3 (a Ceph gateway each), in memory."""
    needs("radosgw", "ceph-mon", "ceph-osd", "radosgw-admin", "monmaptool")
    with _ceph("alpha") as alpha, _ceph("beta") as beta:
        yield alpha, beta


@contextmanager
def _ceph(name: str) -> Iterator[S3Region]:
    where = ["--data", str(ROOM / "ceph")]
    port = str(free_port(below=50_000))  # its monitor listens 9,000 above
    started = subprocess.run(
        [sys.executable, str(CEPH), "start", name, port, *where], capture_output=True, text=True, timeout=180
    )
    try:
        assert started.returncode == 0, started.stderr
        yield S3Region(**json.loads(started.stdout))
    finally:
        subprocess.run([sys.executable, str(CEPH), "stop", name, *where], check=True)


@pytest.fixture(scope="session")
def rabbitmq_url() -> Iterator[str]:
    """A RabbitMQ of our own on a free port, or the one that TEST_RABBITMQ_URL names."""
    if given := os.environ.get("TEST_RABBITMQ_URL"):
        yield given
        return
    needs("rabbitmq-server", "epmd")
    with _rabbitmq(ROOM / "rabbitmq") as url:
        yield url


@contextmanager
def _rabbitmq(home: Path) -> Iterator[str]:
    home.mkdir()
    port = free_port(below=44_000)  # Erlang's own distribution listens 20,000 above
    environment = _rabbit_environment(home, port)
    with open(home / "out.log", "wb") as out:
        server = subprocess.Popen(
            _rabbit_command(), env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    try:
        _wait_for_rabbit(server, port, home)
        yield f"amqp://guest:guest@127.0.0.1:{port}//"
    finally:
        server.terminate()
        server.wait(30)
        subprocess.run([program("epmd") or "epmd", "-port", environment["ERL_EPMD_PORT"], "-kill"], capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


def _rabbit_command() -> list[str]:
    """The server itself: Debian's wrapper in /usr/sbin insists on the system's own user and folders."""
    real = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    return [str(real) if real.exists() else str(program("rabbitmq-server"))]


def _rabbit_environment(home: Path, port: int) -> dict[str, str]:
    plugins = home / "enabled_plugins"
    plugins.write_text("[].\n")
    (home / "rabbitmq.conf").write_text(f"listeners.tcp.default = 127.0.0.1:{port}\nloopback_users = none\n")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "ERL_EPMD_PORT": str(free_port()),
        "RABBITMQ_NODENAME": f"farshore{port}@localhost",
        "RABBITMQ_DIST_PORT": str(port + 20_000),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(home / "no-such-file"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_PID_FILE": str(home / "pid"),
    }


def _wait_for_rabbit(server: subprocess.Popen[bytes], port: int, home: Path) -> None:
    until = time.monotonic() + RABBIT_SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"RabbitMQ did not start: {(home / 'out.log').read_text(errors='replace')[-1000:]}", pytrace=False)
