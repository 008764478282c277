#!/usr/bin/env python3
"""How far the copies of logs are behind, with many small PostgreSQL servers writing.

    python bench/log_lag.py [--instances 20] [--seconds 180] [--wal-mib 16]

Starts Farshore as `manage.py up` does (two work processes, one receiving process), the servers beside it, and a writer
that commits to each of them twice a second. Lag is now minus "restorable until" at the destination, looked at every
second for each instance; the way of a log is from the last change in it to its verified copy. Everything shares the
machine's cores, so the share of processor time stands beside the figures.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from console.runtime import places  # noqa: E402
from console.runtime.postgres import Postgres, unprivileged  # noqa: E402

SOURCE, TARGET = "cn-hangzhou", "cn-shanghai"
SMALL = {
    "shared_buffers": "4MB",
    "max_connections": "12",
    "max_wal_senders": "4",
    "max_replication_slots": "2",
    "max_slot_wal_keep_size": "1GB",
    "autovacuum": "off",
    "max_wal_size": "128MB",
}
START_SECONDS, FIRST_SECONDS = 180, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--wal-mib", type=int, default=16, help="size of a WAL segment")
    parser.add_argument("--flush", type=int, default=10, help="seconds after which logs leave a server")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="farshore-lag-") as room, ExitStack() as ends:
        os.chmod(room, 0o711)
        data = Path(room) / "data"
        ends.enter_context(farshore(data, given.flush))
        servers = list(ends.enter_context(writing(Path(room), given.instances, given.wal_mib)))
        places.adopt_notes(data)
        os.environ["DJANGO_SETTINGS_MODULE"] = "console.settings"
        import django

        django.setup()
        enable(Path(room), servers)
        wait_until_all_can_be_restored(len(servers))
        report(*measure(given.seconds), given)


@contextmanager
def farshore(data: Path, flush: int) -> Iterator[None]:
    os.environ.update(
        FARSHORE_DATA=str(data), FARSHORE_ALLOW_LOOPBACK="1", FARSHORE_EMBEDDED_TOOLS="1", LOG_FLUSH_SECONDS=str(flush)
    )
    with subprocess.Popen([sys.executable, "manage.py", "up"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as up:
        opened = threading.Event()
        threading.Thread(target=_read, args=(up, opened), daemon=True).start()
        try:
            if not opened.wait(START_SECONDS):
                raise SystemExit("Farshore did not open")
            yield
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(60)


def _read(up: subprocess.Popen[str], opened: threading.Event) -> None:
    for line in up.stdout or ():
        if "is open" in line:
            opened.set()
        if "level=error" in line:
            print(line, end="", flush=True)


# ---- servers


@contextmanager
def writing(room: Path, count: int, wal_mib: int) -> Iterator[list[Postgres]]:
    servers = [_server(room, f"s{n}") for n in range(count)]
    template = room / "template"
    places.private_folder(template, _owner())
    initdb = ["--auth-local=trust", "--no-sync", "--username", servers[0].superuser, f"--wal-segsize={wal_mib}"]
    servers[0].run("initdb", "--pgdata", template, *initdb)
    over = threading.Event()
    try:
        for server in servers:
            subprocess.run(["cp", "-a", template, server.cluster], check=True)
            server.prepare()
            server.start()
        for server in servers:
            threading.Thread(target=_write, args=(server, over), daemon=True).start()
        yield servers
    finally:
        over.set()
        for server in servers:
            server.stop()
            shutil.rmtree(server.sockets, ignore_errors=True)


def _server(room: Path, name: str) -> Postgres:
    sockets = Path("/tmp") / f"{room.name}-{name}"
    settings = SMALL | {"port": "5432"}
    return Postgres(room / name, sockets, room / f"{name}.log", settings=settings, durable=False)


def _owner() -> tuple[int, int] | None:
    account = unprivileged()
    return (account.uid, account.gid) if account else None


def _write(server: Postgres, over: threading.Event) -> None:
    with suppress(psycopg.Error), psycopg.connect(server.url("postgres"), autocommit=True) as session:
        session.execute("CREATE TABLE IF NOT EXISTS ticks (at timestamptz DEFAULT now(), note text)")
        while not over.wait(0.5):
            session.execute("INSERT INTO ticks (note) SELECT md5(n::text) FROM generate_series(1, 20) n")


# ---- Farshore


def enable(room: Path, servers: Sequence[Postgres]) -> None:
    from django.contrib.auth import get_user_model

    from backups import fleet, policies
    from backups.events import By
    from backups.models import Instance, ResourceGroup
    from backups.policies import Settings
    from regions.models import Region

    by = By(get_user_model().objects.get(), "127.0.0.1")
    for region in (SOURCE, TARGET):
        (room / region).mkdir()
        fleet.attach(Region.objects.get(pk=region), (room / region).as_uri(), {}, {}, by)
    group = ResourceGroup.objects.get_or_create(name="Bench")[0]
    for number, server in enumerate(servers):
        where = {"host": str(server.sockets), "port": 5432, "username": server.superuser, "dbname": "postgres"}
        facts = {"group": group, "region_id": SOURCE, "engine": "postgresql", "arrival": "taken", "tls": "disable"}
        instance = fleet.add(Instance(name=f"server-{number:02}", **facts, **where), "", by)
        policies.apply(instance, Settings(True, 7, TARGET, logs_enabled=True, agreed=True), by)


def wait_until_all_can_be_restored(count: int) -> None:
    from backups.models import RestorableInterval

    began = time.monotonic()
    there = 0
    while there < count:
        if time.monotonic() - began > FIRST_SECONDS:
            raise SystemExit(f"only {there} of {count} instances can be restored to a moment")
        time.sleep(1)
        there = RestorableInterval.objects.exclude(reached=None).values("instance").distinct().count()
    print(f"{count} instances can be restored to a moment {time.monotonic() - began:.0f} s after they were enabled")


def measure(seconds: int) -> tuple[list[float], list[float], list[float], float]:
    """Return lags, the ways of logs (from their last change, from their delivery), and the machine's busy share."""
    from django.db.models import Max

    from backups.models import Copy, RestorableInterval
    from regions import clock

    lags: list[float] = []
    began_at, busy = clock.now(), _busy()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        at = clock.now()
        newest = RestorableInterval.objects.exclude(reached=None).values("instance").annotate(until=Max("ended_at"))
        lags += [(at - row["until"]).total_seconds() for row in newest]
        time.sleep(1)
    share = [after - before for before, after in zip(busy, _busy(), strict=True)]
    logs = Copy.objects.filter(set__kind="log", completed_at__gte=began_at).select_related("set")
    ways = [(copy.completed_at - copy.set.finished_at).total_seconds() for copy in logs]
    carried = [(copy.completed_at - copy.set.discovered_at).total_seconds() for copy in logs]
    return lags, ways, carried, share[0] / sum(share)


def _busy() -> tuple[float, float]:
    """Return processor seconds spent and idle since the machine started."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    idle = ticks[3] + ticks[4]
    return float(sum(ticks) - idle), float(idle)


def report(lags: list[float], ways: list[float], carried: list[float], busy: float, given: argparse.Namespace) -> None:
    from backups.models import Alert, BackupJob, LogGap

    print(
        f"\n{given.instances} instances, {given.seconds} s, a log every {given.flush} s, {given.wal_mib} MiB segments:"
    )
    print(f"{'':44}{'p50 s':>8}{'p95 s':>8}{'max s':>8}")
    for name, figures in (
        ("now minus 'restorable until'", lags),
        ("a log: last change in it to verified copy", ways),
        ("a log: delivered to verified copy", carried),
    ):
        ordered = sorted(figures)
        p95 = ordered[int(len(ordered) * 0.95)]
        print(f"{name:44}{statistics.median(ordered):>8.1f}{p95:>8.1f}{ordered[-1]:>8.1f}")
    print(f"{len(ways)} logs copied, {len(ways) / given.seconds:.2f} a second; the processors were {busy:.0%} busy")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    alerts = list(Alert.objects.filter(closed_at=None).values_list("code", flat=True))
    print(
        f"gaps: {LogGap.objects.count()}, backups: {BackupJob.objects.count()}, open alerts: {alerts}, {peak} MiB here"
    )


if __name__ == "__main__":
    main()
