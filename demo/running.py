"""The fleet at work: `manage.py demo` runs this beside the console until it is told to stop."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from django.db import Error as DatabaseError
from django.db import connection

from backups.events import By
from demo import cast, fleet, sqlserver_server
from demo.history import Stories
from demo.postgresql import Shop
from demo.sqlserver_job import Jobs
from demo.sqlserver_server import DemoServer
from regions.refusals import Refusal

log = logging.getLogger(__name__)
STEP_SECONDS = 2


def run(data: Path, stop: Event) -> None:
    """Run the servers, the SQL Server jobs and the stories; call it from the main thread."""
    with only_one(data / "demo"):
        fleet.prepare(data)
        by, shop, jobs = fleet.administrator(), Shop(data), Jobs(data / "demo", stop)
        treasury, vault = (DemoServer(role, data) for role in (sqlserver_server.TREASURY, sqlserver_server.VAULT))
        landings = {region: DemoServer(role, data) for region, role in sqlserver_server.LANDINGS.items()}
        writing = Thread(target=jobs.run, name="sqlserver-jobs")
        try:
            shop.start()
            for server in (treasury, vault, *landings.values()):
                server.start()
            writing.start()
            shop.join(by)
            treasury.join(cast.TREASURY, by)
            vault.join(cast.VAULT, by)
            for region, landing in landings.items():
                landing.serve_restores(region, by)
            live(shop, (treasury, vault, *landings.values()), by, stop)
        finally:
            stop.set()
            if writing.ident:
                writing.join()
            for server in (treasury, vault, *landings.values()):
                server.stop()
            shop.stop()


def live(shop: Shop, servers: Iterable[DemoServer], by: By, stop: Event) -> None:
    stories = Stories(by)
    while not stop.wait(STEP_SECONDS):
        shop.keep_running()
        shop.change()
        for server in servers:
            server.work()
        try:
            stories.advance()
        except DatabaseError as error:  # the catalogue restarts; the next step goes on
            log.warning("the catalogue does not answer", extra={"reason": str(error).strip()})
            connection.close()


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Two demos on one folder would write over each other; the lock goes with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refusal("DemoRuns", f"The demo already runs in {folder}.", "Stop that one first.") from None
        yield
