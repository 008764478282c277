"""A worker that dies at one exact moment: `python -m tests.faults.victim WINDOW VERB ARGUMENTS…`.

It is the real code in a real process; only the moment of death is planted, right before or after one call.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import django


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(owner: Any, name: str, nth: int = 1) -> None:
    """Die once the nth call of owner.name has returned."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        result = original(*args, **kwargs)
        calls += 1
        if calls == nth:
            die()
        return result

    setattr(owner, name, dying)


def before(owner: Any, name: str) -> None:
    setattr(owner, name, die)


def after_statement(begins: str, nth: int) -> None:
    """Die once the server has carried out the nth statement that begins so."""
    from backups.engines.sqlserver import restoring

    original, calls = restoring.carry_out, 0

    def dying(working: Any, watching: Any, statement: str, *values: Any, **more: Any) -> Any:
        nonlocal calls
        result = original(working, watching, statement, *values, **more)
        calls += statement.startswith(begins)
        if calls == nth:
            die()
        return result

    restoring.carry_out = dying


def plant(window: str) -> None:
    from backups import alerts, bell
    from backups.copying import carrying, manifest, mending, replication
    from backups.default_backups import recording, shares, snapshot_hook, snapshots, taking
    from backups.engines import postgresql, sqlserver
    from backups.engines.postgresql import feeding, unpacking
    from backups.engines.postgresql import restoring as engine
    from backups.engines.sqlserver import suspending, to_url, watching
    from backups.keeping import expiring, purging, retention
    from backups.logs.log_receiving import delivery
    from backups.restoring import holding, landed, places, replacing
    from backups.servers import landing_shares
    from regions.storage.filesystem import FolderStorage

    windows = {
        "upload created, not journaled": lambda: after(FolderStorage, "create_upload"),
        "after a part": lambda: after(carrying, "_record_part", 2),
        "completed, no row": lambda: after(FolderStorage, "complete_upload"),
        "half read back": lambda: after(carrying, "_record_verified", 2),
        "verified, not committed": lambda: after(manifest, "build"),
        "manifest written, not committed": lambda: before(retention, "open_span"),
        "marked expired": lambda: after(expiring, "expire_due"),
        "intention to delete journaled": lambda: before(purging, "_delete_object"),
        "deleted, no row": lambda: before(purging, "_finish"),
        "backup sent, not recorded": lambda: before(recording, "record"),
        "backup half sent": lambda: after(taking, "keep", 3),
        "server still writes": lambda: after(watching.Running, "join"),
        "server has ended it": lambda: before(shares, "_stream"),
        "recorded, share not cleared": lambda: before(shares, "remove"),
        "key journaled": lambda: before(to_url, "let_write"),
        "server has ended it, nobody looked": lambda: after(to_url, "let_write"),
        "suspension journaled": lambda: after(snapshots.Taking, "_begin"),
        "suspended": lambda: before(snapshots.Taking, "_freeze"),
        "hook at work": lambda: after(snapshot_hook, "_has_ended", 2),
        "hook done": lambda: before(suspending.Taking, "_write"),
        "metadata written": lambda: before(suspending.Taking, "_let_go"),
        "thawed": lambda: before(snapshots.Taking, "_carry"),
        "one file stored": lambda: after(snapshots, "pour", 2),
        "snapshot sent, not recorded": lambda: before(recording, "record"),
        "recorded, not released": lambda: before(snapshots, "release"),
        "released, no row": lambda: after(snapshot_hook, "release"),
        "log journaled, not stored": lambda: before(delivery, "_upload"),
        "log stored, not recorded": lambda: before(delivery, "_record"),
        "log recorded, not told": lambda: after(delivery, "_record"),
        "logs begun, not said": lambda: before(bell, "ring_backups"),
        "claimed": lambda: before(replication, "carry_slice"),
        "claimed again": lambda: before(mending, "mend_slice"),
        "sound, old object there": lambda: after(mending, "mend_slice"),
        "folder journaled": lambda: before(places, "prepared"),
        "unpacking": lambda: after(unpacking, "_put", 300),
        "replaying": lambda: after(feeding.LogFeed, "answer"),
        "starting": lambda: before(engine, "open_doors"),
        "rows counted": lambda: before(holding.Work, "_ready"),
        "landing journaled": lambda: before(landing_shares, "make"),
        "bringing": lambda: before(landing_shares.os, "fchmod"),
        "all in the share": lambda: before(sqlserver, "restore_database"),
        "full restored": lambda: after_statement("RESTORE DATABASE", 1),
        "log restored": lambda: after_statement("RESTORE LOG", 1),
        "database there, no row": lambda: after(sqlserver, "restore_database"),
        "share cleared, no row": lambda: before(landed.Landed, "_ready"),
        "database dropped, no row": lambda: after(sqlserver, "drop_database"),
        "original asked to stop": lambda: after(replacing, "ask_for_room"),
        "original stopped": lambda: before(postgresql, "take_over"),
        "at the original's address": lambda: after(postgresql, "take_over"),
        "places changed for good": lambda: before(holding.Work, "hold"),
        "instance made": lambda: after(holding.Work, "_register"),
        "mailed, not written down": lambda: after(alerts, "_mail"),
    }
    windows[window]()


def main(window: str, verb: str, *arguments: str) -> None:
    django.setup()
    plant(window)
    from backups import alerts, default_backups, restoring
    from backups.copying import mending, replication
    from backups.keeping import expiring, purging
    from backups.logs import log_receiving

    if verb == "carry":
        copy = replication.claim(arguments[0])
        replication.carry_slice(copy)
    elif verb == "mend":
        mending.mend_slice(mending.claim(arguments[0]))
    elif verb == "expire":
        expiring.expire_due()
    elif verb == "purge":
        purging.purge_due(arguments[0])
    elif verb == "take":
        default_backups.take(default_backups.claim(arguments[0]))
    elif verb == "restore":
        restoring.run(restoring.claim(arguments[0]), threading.Event())
    elif verb == "receive":
        log_receiving.serve(arguments[0])
    elif verb == "mail":
        alerts.mail_due()


if __name__ == "__main__":
    main(*sys.argv[1:])
