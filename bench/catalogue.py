"""An empty catalogue in a PostgreSQL of its own, for benches that fill it; forgetful, and gone afterwards."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def catalogue(settings: Mapping[str, str]) -> Iterator[Path]:
    """Yield a folder, with Django on a migrated PostgreSQL beside it; `settings` are that server's."""
    sys.path.insert(0, str(ROOT))
    from console.runtime.postgres import Postgres, unprivileged

    room = Path(tempfile.mkdtemp(prefix="farshore-bench-"))
    account = unprivileged()
    room.chmod(0o711)
    if account:
        os.chown(room, account.uid, account.gid)
    server = Postgres(room / "postgres", room / "s", room / "postgres.log", settings=dict(settings), durable=False)
    server.prepare()
    server.start()
    try:
        where = quote(str(server.sockets), safe="")
        os.environ["DATABASE_URL"] = f"postgresql:///postgres?user={server.superuser}&host={where}"
        os.environ["FARSHORE_DATA"] = str(room / "data")
        os.environ["DJANGO_SETTINGS_MODULE"] = "console.settings"
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        yield room
    finally:
        server.stop()
        shutil.rmtree(room, ignore_errors=True)
