"""A restored server as a process of ours: started confined, ended with us, and proven gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from backups.engines import confinement
from backups.engines.facts import Connection
from backups.engines.postgresql.settling import SUPERUSER, Home, sizes_from_control
from backups.engines.postgresql.tools import Tools, majors_with_server, server_tools
from backups.engines.serving import LAST_SECONDS, RestoredServer, ServerProcess, end_all_in, free_port
from regions.refusals import Refusal

START_SECONDS = 120
PORT_TRIES = 3


class Postmaster(ServerProcess):
    """One run of the server; its settings have been written. It lives no longer than the thread that starts it."""

    farewell = ((signal.SIGINT, 20), (signal.SIGQUIT, 5), (signal.SIGKILL, LAST_SECONDS))

    def __init__(self, home: Home, tools: Tools, *, alone: bool, by: signal.Signals = signal.SIGINT) -> None:
        (home.data / "postmaster.pid").unlink(missing_ok=True)
        super().__init__(home, [tools.program("postgres"), *where(home)], alone=alone, by=by)

    @property
    def is_ready(self) -> bool:
        """It takes connections: replaying is over."""
        with suppress(OSError, UnicodeDecodeError):
            lines = (self.home.data / "postmaster.pid").read_text().splitlines()
            return len(lines) >= 8 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"
        return False


def where(home: Home) -> list[str]:
    return ["-D", str(home.data), "-c", f"config_file={home.settings / 'postgresql.conf'}"]


def give_password(home: Home, tools: Tools, password: str) -> None:
    """Make our superuser while nobody can connect: in single-user mode, which needs to know none of the old roles."""
    home.write_settings(sizes_from_control(home, tools), network=False)
    orders = f"CREATE ROLE {SUPERUSER};\nALTER ROLE {SUPERUSER} RESET ALL;\n" + (
        f"ALTER ROLE {SUPERUSER} SUPERUSER LOGIN CONNECTION LIMIT -1 VALID UNTIL 'infinity' PASSWORD '{password}';\n"
    )
    with open(home.log, "ab") as out:
        done = subprocess.run(
            [str(tools.program("postgres")), "--single", *where(home), "template1"],
            input=orders.encode(),
            cwd="/",
            env=confinement.environment(home.folder),
            stdout=subprocess.DEVNULL,
            stderr=out,
            timeout=START_SECONDS,
            preexec_fn=confinement.confined(os.getpid(), home.whom, alone=True),
        )
    if done.returncode:
        raise Refusal("NotStarted", "The restored server could not be given a password.", f"See its log {home.log}.")


def open_doors(
    home: Home, tools: Tools, password: str, *, network: bool, address: str, port: int, stop: Callable[[], None]
) -> RestoredServer:
    """Start the server for good and wait until it takes connections; `stop` may raise meanwhile."""
    for left in reversed(range(PORT_TRIES)):
        chosen = port or (free_port(address) if network else 5432)
        listening = {"listen_addresses": address if network else "", "port": str(chosen)}
        values = {**sizes_from_control(home, tools), **listening, "unix_socket_directories": str(home.sockets)}
        home.write_settings(values, network=network)
        postmaster = Postmaster(home, tools, alone=not network)
        try:
            _wait(postmaster, stop)
        except BaseException as error:
            postmaster.stop()
            if isinstance(error, Refusal) and "could not bind" in postmaster.said() and not port and left:
                continue
            raise
        break
    told = {"major": tools.major, "network": network, "address": address, "port": chosen}
    (home.folder / "server.json").write_text(json.dumps(told))
    host = address if network else str(home.sockets)
    reached = Connection(host, chosen, SUPERUSER, password, tls="disable")
    return RestoredServer(reached, postmaster.isolation(network), str(tools.major), postmaster)


def _wait(postmaster: Postmaster, stop: Callable[[], None]) -> None:
    until = time.monotonic() + START_SECONDS
    while not postmaster.is_ready:
        stop()
        if postmaster.has_ended or time.monotonic() > until:
            raise Refusal("NotStarted", f"The restored server did not start: {last_words(postmaster.said())}", "")
        time.sleep(0.05)


def last_words(said: str) -> str:
    telling = [line for line in said.splitlines() if any(word in line for word in ("FATAL:", "PANIC:", "ERROR:"))]
    return (telling or said.splitlines() or ["it said nothing"])[-1][-500:]


def startable_versions() -> list[str]:
    """The majors whose server is here, where the account that restored servers run as can reach it."""
    whom = confinement.account()
    found = [server_tools(major) for major in majors_with_server()]
    return [str(tools.major) for tools in found if confinement.reaches(whom, tools.program("postgres"))]


def start_again(folder: Path, password: str) -> RestoredServer:
    """Start a restored server that ended with its parent; raises Refusal when it does not start."""
    return _start(folder, password, json.loads((folder / "server.json").read_text()))


def take_over(folder: Path, password: str, *, address: str, port: int) -> RestoredServer:
    """Start a restored server, which was stopped, where another one was reached, and from now on there."""
    told = json.loads((folder / "server.json").read_text())
    return _start(folder, password, {**told, "network": True, "address": address, "port": port})


def _start(folder: Path, password: str, told: dict[str, Any]) -> RestoredServer:
    home, tools = Home(folder, confinement.account()), server_tools(told.pop("major"))
    end_all_in(home.data)
    home.make_sockets()
    return open_doors(home, tools, password, **told, stop=lambda: None)
