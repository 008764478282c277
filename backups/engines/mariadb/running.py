"""A restored MariaDB: started with our settings, under our superuser, and started again."""

from __future__ import annotations

import json
import secrets
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from backups.engines import confinement
from backups.engines.facts import Connection
from backups.engines.mariadb.settling import SUPERUSER, Home
from backups.engines.mariadb.tools import Tools, server_tools, started_series
from backups.engines.serving import RestoredServer, ServerProcess, end_all_in, free_port
from regions.refusals import Refusal

START_SECONDS = 300  # it may have much to roll back
PORT_TRIES = 3
HIGHEST_ID = 1 << 31


class Daemon(ServerProcess):
    """One run of mariadbd; its settings have been written."""

    def __init__(
        self,
        home: Home,
        tools: Tools,
        *,
        alone: bool,
        by: signal.Signals = signal.SIGTERM,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        home.socket.unlink(missing_ok=True)
        command = [tools.program("mariadbd"), f"--defaults-file={home.settings / 'my.cnf'}"]
        super().__init__(home, command, alone=alone, by=by, more=more)

    @property
    def is_ready(self) -> bool:
        return self.home.socket.exists() and "ready for connections" in self.said()

    def wait(self, look_up: Callable[[], None]) -> None:
        """Come back when it takes connections; raises Refusal when it does not."""
        until = time.monotonic() + START_SECONDS
        while not self.is_ready:
            look_up()
            if self.has_ended or time.monotonic() > until:
                raise Refusal(
                    "NotStarted", f"The restored server did not start: {last_words(self.said())}", "Use another backup."
                )
            time.sleep(0.05)


def last_words(said: str) -> str:
    telling = [line for line in said.splitlines() if "[ERROR]" in line and "Aborting" not in line]
    return (telling or said.splitlines() or ["it said nothing"])[-1][-500:]


def basedir_of(tools: Tools) -> Path | None:
    """Where the server's own messages lie, when it was not installed where it was built for."""
    above = tools.program("mariadbd").parent.parent
    return above if (above / "share").is_dir() else None


def open_doors(
    home: Home,
    tools: Tools,
    password: str,
    needed: Mapping[str, str],
    *,
    network: bool,
    address: str,
    port: int,
    server_id: int = 0,
    stop: Callable[[], None],
) -> RestoredServer:
    """Start the server for good and wait until it takes connections; `stop` may raise meanwhile.

    It is a server of its own: with a server_id that nobody had, so that its log is not taken for the old one's.
    """
    server_id = server_id or 1 + secrets.randbelow(HIGHEST_ID - 1)
    for left in reversed(range(PORT_TRIES)):
        chosen = port or (free_port(address) if network else 3306)
        listening = {"bind_address": address, "port": str(chosen)} if network else {"skip_networking": "ON"}
        logging = {"log_bin": "farshore-bin", "server_id": str(server_id), "init_file": str(home.orders)}
        home.put_orders(password, network=network)
        home.write_settings({**needed, **listening, **logging}, basedir=basedir_of(tools))
        daemon = Daemon(home, tools, alone=not network)
        try:
            daemon.wait(stop)
        except BaseException as error:
            daemon.stop()
            if isinstance(error, Refusal) and "Bind on TCP/IP port" in daemon.said() and not port and left:
                continue
            raise
        break
    home.orders.unlink()
    told = {"series": tools.series, "network": network, "address": address, "port": chosen, "server_id": server_id}
    (home.folder / "server.json").write_text(json.dumps({**told, "needed": dict(needed)}))
    host = address if network else str(home.sockets)
    reached = Connection(host, chosen, SUPERUSER, password, tls="disable")
    return RestoredServer(reached, daemon.isolation(network), tools.series, daemon)


def start_again(folder: Path, password: str) -> RestoredServer:
    """Start a restored server that ended with its parent; raises Refusal when it does not start."""
    return _start(folder, password, json.loads((folder / "server.json").read_text()))


def take_over(folder: Path, password: str, *, address: str, port: int) -> RestoredServer:
    """Start a restored server, which was stopped, where another one was reached, and from now on there."""
    told = json.loads((folder / "server.json").read_text())
    return _start(folder, password, {**told, "network": True, "address": address, "port": port})


def _start(folder: Path, password: str, told: dict[str, Any]) -> RestoredServer:
    home, tools = Home(folder, confinement.account()), server_tools(told.pop("series"))
    end_all_in(home.data)
    home.make_sockets()
    return open_doors(home, tools, password, told.pop("needed"), **told, stop=lambda: None)


def startable_versions() -> list[str]:
    """The series whose server is here, where the account that restored servers run as can reach it."""
    whom = confinement.account()
    found = (server_tools(series) for series in started_series())
    return [tools.series for tools in found if confinement.reaches(whom, tools.program("mariadbd"))]
