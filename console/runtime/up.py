"""`manage.py up`: everything Farshore needs on one machine, in one terminal.

supervisor (this process; standard library only)
  ├─ postgresql   unless DATABASE_URL is given
  ├─ valkey       unless BROKER_URL is given
  ├─ web          gunicorn, 2 processes of 4 threads
  ├─ worker       every queue, 2 processes
  ├─ beat         the timetable
  └─ demo         with --demo
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from console.runtime import places, ports, valkey, variables
from console.runtime.lifeline import tied_to
from console.runtime.postgres import Postgres, cluster_place, unprivileged, where_restores_find_it
from console.runtime.supervisor import Child, Supervisor
from regions.refusals import Refusal

ROOM_NEEDED = 300 * 2**20
WEB_SECONDS = 60
EVERYWHERE, LOOPBACK = ("0.0.0.0", "::"), ("127.0.0.1", "::1", "localhost")


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    data = places.data_folder()
    data.mkdir(parents=True, exist_ok=True)
    _refuse_a_full_disk(data)
    with _only_one(data):
        return House(options, data).run()


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="manage.py up", description="Start Farshore; Ctrl-C stops it.")
    parser.add_argument("--demo", action="store_true", help="with the demonstration fleet")
    parser.add_argument("--port", type=int, help=f"the web's port (usually {ports.USUAL}, or the next free one)")
    parser.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS", help="where the web listens (127.0.0.1)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="how many jobs run at once (2)")
    return parser.parse_args(arguments)


def _refuse_a_full_disk(data: Path) -> None:
    free = shutil.disk_usage(data).free
    if free < ROOM_NEEDED:
        raise Refusal(
            "DiskFull",
            f"The disk that holds {data} has {free // 2**20} MiB left; {ROOM_NEEDED // 2**20} MiB are needed.",
            "Make room there, or name another folder in FARSHORE_DATA.",
        )


@contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """Hold the data folder; a second `up` on it is told who is there. The lock goes with the process."""
    with open(data / "up.lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            address = places.read_notes(data).get("FARSHORE_ADDRESS", "")
            raise Refusal(
                "AlreadyUp",
                f"Farshore already runs from {data}. {address}".strip(),
                "Stop that one first, or name another folder in FARSHORE_DATA.",
            ) from None
        yield


def _say(sentence: str) -> None:
    with suppress(OSError):  # nobody listens any more: that is no reason to stop halfway
        print(f"[{time.time() - float(os.environ['FARSHORE_BEGAN']):5.1f} s] {sentence}", flush=True)


class House:
    """One start of Farshore, from the ground up."""

    def __init__(self, options: argparse.Namespace, data: Path) -> None:
        self.options, self.data = options, data
        self.logs = places.private_folder(data / "logs")
        self.supervisor = Supervisor(_say)
        self.is_new = False

    def run(self) -> int:
        try:
            self._settle_environment()
            self._lay_foundations()
            self._prepare()
            self._open()
            self.supervisor.run()
            return 0
        finally:
            self._close()

    def _settle_environment(self) -> None:
        """Decide every address first, so that all children hear the same; then let the settings refuse what is bad."""
        self.own_database, self.own_broker = not variables.text("DATABASE_URL"), not variables.text("BROKER_URL")
        last = places.read_notes(self.data).get("FARSHORE_PORT", "")
        port = ports.choose(self.options.bind, self.options.port, int(last) if last.isdigit() else None)
        self.local_address = f"http://{_host(self.options.bind)}:{port}/"
        self.address = variables.text("PUBLIC_URL") or self.local_address
        os.environ.update(
            FARSHORE_DATA=str(self.data),
            FARSHORE_PORT=str(port),
            FARSHORE_BIND=self.options.bind,
            FARSHORE_ADDRESS=self.address,
            FARSHORE_HOSTS=",".join([*variables.words("FARSHORE_HOSTS"), *_own_names(self.options.bind)]),
            PYTHONUNBUFFERED="1",
        )
        os.environ.setdefault("DATABASE_URL", places.embedded_database_url(self.data))
        os.environ.setdefault("BROKER_URL", places.embedded_broker_url(self.data))
        if self.options.demo:
            os.environ.setdefault("FARSHORE_ALLOW_LOOPBACK", "yes")
            os.environ.setdefault("FARSHORE_EMBEDDED_TOOLS", "1")  # the demo's PostgreSQL is the embedded one
            os.environ.setdefault(*where_restores_find_it())
            snapshots = (
                self.data / "demo" / "snapshots"
            )  # where the demo's storage puts its hook, and shows what it froze
            os.environ.setdefault("SNAPSHOT_HOOK", str(snapshots / "snapshot-hook"))
            os.environ.setdefault("SNAPSHOT_ROOT", str(snapshots / "frozen"))
        importlib.import_module("console.settings")

    def _lay_foundations(self) -> None:
        if self.own_broker:
            self._start_valkey()
        if self.own_database:
            self._start_postgres()
        names = ("DATABASE_URL", "BROKER_URL", "FARSHORE_PORT", "FARSHORE_ADDRESS", "PUBLIC_URL", "FARSHORE_HOSTS")
        kept = [
            *names,
            "FARSHORE_ALLOW_LOOPBACK",
            "FARSHORE_ALLOWED_NETWORKS",
            "FARSHORE_KEYS",
            "FARSHORE_EMBEDDED_TOOLS",
            *(name for name in os.environ if name.startswith("PG_BIN_")),
        ]
        places.leave_notes(self.data, {name: os.environ[name] for name in kept if os.environ.get(name)})

    def _start_valkey(self) -> None:
        folder = self.data / "valkey"
        folder.mkdir(exist_ok=True)
        sockets = places.private_folder(places.socket_folder("mq", self.data))
        self._add("valkey", valkey.command(sockets, folder), ends_by=signal.SIGTERM)

    def _start_postgres(self) -> None:
        account = unprivileged()
        sockets = places.socket_folder("db", self.data)
        server = Postgres(cluster_place(self.data, account), sockets, self.logs / "postgresql.log", account)
        self.is_new = server.prepare()
        child = Child(
            "postgresql",
            server.command(),
            server.log,
            stops_by=signal.SIGINT,
            grace_seconds=30,
            options=server.popen_options(),
        )
        self.supervisor.add(child)
        server.wait_until_ready(child.process)
        server.ensure_database(places.DATABASE)
        _say(f"PostgreSQL is up ({server.cluster}).")

    def _prepare(self) -> None:
        """Migrate and the like, in a child, only when something it depends on has changed since the last start."""
        stamp, now = self.data / "prepared", self._fingerprint()
        if not self.is_new and self.own_database and stamp.exists() and stamp.read_text() == now:
            return
        command = self._manage("prepare", *(["--demo"] if self.options.demo else []))
        with subprocess.Popen(command, cwd=places.CLONE, preexec_fn=tied_to(os.getpid(), signal.SIGKILL)) as child:
            while child.poll() is None and not self.supervisor.told_to_stop.wait(0.05):
                pass
            if self.supervisor.told_to_stop.is_set():
                child.kill()
        if child.returncode and not self.supervisor.told_to_stop.is_set():
            raise Refusal("NotPrepared", "Farshore could not be prepared; the reason stands above.")
        stamp.write_text(now)
        _say("The database is prepared.")

    def _fingerprint(self) -> str:
        facts = [f"{os.environ['DATABASE_URL']} {self.options.demo} {sys.version}"]
        facts += [f"{file}:{file.stat().st_mtime_ns}:{file.stat().st_size}" for file in sorted(_what_matters())]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    def _open(self) -> None:
        """The web first and alone: on two cores, a page comes seconds earlier than with everything at once."""
        self._add("web", self._manage("web"), ends_by=signal.SIGTERM, grace_seconds=8)
        is_open = self.supervisor.wait_for(self._web_answers, WEB_SECONDS)
        if self.supervisor.told_to_stop.is_set():
            return
        if is_open:
            _say(f"Farshore is open: {self.address}   (Ctrl-C stops everything)")
            if self.options.bind not in LOOPBACK and not variables.text("PUBLIC_URL"):
                _say("Other machines can reach it without encryption: put a TLS proxy before it and set PUBLIC_URL.")
        else:
            _say(f"The web does not answer yet; its log: {self.logs / 'web.log'}")
        self._add("worker", self._manage("worker", "--concurrency", str(self.options.workers)))
        self._add("beat", self._manage("beat"))
        if self.options.demo:
            self._add("demo", self._manage("demo"), ends_by=signal.SIGTERM, grace_seconds=10)

    def _web_answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.local_address}health", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _add(self, name: str, command: Sequence[str], **ways: object) -> None:
        options = {"cwd": places.CLONE}
        self.supervisor.add(Child(name, command, self.logs / f"{name}.log", options=options, **ways))

    @staticmethod
    def _manage(*words: str) -> list[str]:
        return [sys.executable, str(places.CLONE / "manage.py"), *words]

    def _close(self) -> None:
        if not self.supervisor.children:
            return
        _say("Stopping …")
        self.supervisor.stop()
        for kind in ("db", "mq"):
            with suppress(OSError):
                places.socket_folder(kind, self.data).rmdir()
        _say("Stopped.")


def _host(bind: str) -> str:
    address = "127.0.0.1" if bind in EVERYWHERE else bind
    return f"[{address}]" if ":" in address else address


def _own_names(bind: str) -> list[str]:
    """The names this machine goes by, for --bind beyond loopback: another Host header is refused."""
    if bind not in EVERYWHERE:
        return [bind]
    found = {socket.gethostname(), socket.getfqdn()}
    with suppress(OSError):
        found |= {place[4][0] for place in socket.getaddrinfo(socket.gethostname(), None)}
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
        outward.connect(("192.0.2.1", 9))  # sends nothing; it tells which of our addresses faces the network
        found.add(outward.getsockname()[0])
    return sorted(found)


def _what_matters() -> Iterable[Path]:
    """The files whose change asks for another preparation: migrations, static files, requirements."""
    yield places.CLONE / "requirements.txt"
    yield from places.CLONE.glob("*/migrations/*.py")
    yield from places.CLONE.glob("console/*/migrations/*.py")
    yield from (file for file in (places.CLONE / "static").rglob("*") if file.is_file())
