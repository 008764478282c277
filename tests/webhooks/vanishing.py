"""A way to the database on which a machine can vanish: PostgreSQL is never told that the other side is gone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlencode

from django.db import connection

VANISHING = "vanishing"  # what its sessions are called in pg_stat_activity


@contextmanager
def a_way_to_the_database(folder: Path) -> Iterator[str]:
    """Yield a DATABASE_URL for another process. When that is killed, its sessions stay until the block ends."""
    place, held = connection.settings_dict, []
    port = place["PORT"] or "5432"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / f".s.PGSQL.{port}"))
    listener.listen()

    def accept() -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                near, _ = listener.accept()
                far = _database(place["HOST"], port)
                held.extend((near, far))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_carry, args=[source, sink], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    given = {"host": str(folder), "port": port, "user": place["USER"], "application_name": VANISHING}
    if place["PASSWORD"]:
        given["password"] = place["PASSWORD"]
    try:
        yield f"postgresql:///{place['NAME']}?{urlencode(given)}"
    finally:
        for one in (listener, *held):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def _database(host: str, port: str) -> socket.socket:
    if not host.startswith("/"):
        return socket.create_connection((host or "localhost", int(port)))
    found = socket.socket(socket.AF_UNIX)
    found.connect(f"{host}/.s.PGSQL.{port}")
    return found


def _carry(source: socket.socket, sink: socket.socket) -> None:
    """Hand on what comes, and not that it has ended."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
