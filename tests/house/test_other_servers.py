"""The same code on servers of your own: a PostgreSQL over TCP with a password, RabbitMQ with quorum queues."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection, Queue

from console.runtime.places import CLONE
from console.runtime.postgres import Postgres
from tests.house.running import Up, plain_environment, soon, up
from tests.servers import free_port

pytestmark = pytest.mark.long

PASSWORD = "a word/with@signs"
ASK_QUEUES = "from console.celery import app; print(app.control.inspect(timeout=3).active_queues())"


@pytest.fixture
def database_url(open_folder: Path) -> Iterator[str]:
    """A PostgreSQL as an administrator would run it: TCP, a password, an ordinary role that owns its database."""
    port = free_port()
    settings = {"listen_addresses": "127.0.0.1", "port": str(port)}
    server = Postgres(open_folder / "pg", open_folder / "s", open_folder / "pg.log", settings=settings, durable=False)
    server.prepare()
    (server.cluster / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    server.start()
    where = ("--host", server.sockets, "--port", port, "--username", server.superuser)
    server.run("psql", *where, "-c", f"CREATE ROLE console LOGIN PASSWORD '{PASSWORD}'", "postgres")
    server.run("createdb", *where, "--owner", "console", "console")
    yield f"postgresql://console:a%20word%2Fwith%40signs@127.0.0.1:{port}/console"
    server.stop()


@pytest.fixture
def running(open_folder: Path, database_url: str, rabbitmq_url: str) -> Iterator[Up]:
    variables = {"DATABASE_URL": database_url, "BROKER_URL": rabbitmq_url}
    with up(CLONE, open_folder / "data", variables=variables) as running:
        running.wait_until_open()
        yield running


def shell(data: Path, code: str) -> str:
    """Ask beside the running house, as a person would: it finds the servers by itself."""
    command = [sys.executable, "manage.py", "shell", "-v0", "-c", code]
    environment = plain_environment(FARSHORE_DATA=str(data))
    return subprocess.run(command, cwd=CLONE, env=environment, capture_output=True, text=True).stdout.strip()


def queues_served(data: Path) -> set[str]:
    answers = ast.literal_eval(shell(data, ASK_QUEUES) or "{}") or {}
    return {queue["name"] for worker, queues in answers.items() if worker.startswith("all@") for queue in queues}


def is_quorum(url: str, name: str) -> bool:
    """Declare it again as a quorum queue: RabbitMQ refuses when it is of another kind."""
    with Connection(url) as connection:
        queue = Queue(name, exchange=name, routing_key=name, queue_arguments={"x-queue-type": "quorum"})
        queue(connection.default_channel).queue_declare()
    return True


def test_up_uses_the_servers_it_is_given(running: Up, open_folder: Path, rabbitmq_url: str) -> None:
    data = open_folder / "data"
    assert not running.child("postgresql") and not running.child("valkey")
    assert soon(lambda: "control" in queues_served(data), 60)
    assert is_quorum(rabbitmq_url, "control")

    shell(data, "from console.celery import app; app.serve_region('cn-beijing')")
    assert soon(lambda: "region.cn-beijing" in queues_served(data))
    assert is_quorum(rabbitmq_url, "region.cn-beijing")

    assert PASSWORD not in running.said
    assert all(PASSWORD not in log.read_text() for log in (data / "logs").iterdir())
