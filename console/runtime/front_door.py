"""What `manage.py` does: `up` and `test` bring their own environment, everything else finds the one they made.

`inspect` needs that environment alone: no database, no data folder, none of our settings.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from console.runtime import bootstrap, places, variables
from regions.refusals import Refusal


def main(argv: Sequence[str]) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    command, rest = (argv[1] if len(argv) > 1 else "help"), list(argv[2:])
    try:
        return _run(command, rest, list(argv))
    except Refusal as refusal:
        print(f"\n{refusal.sentence}\n{refusal.remedy}".rstrip(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _run(command: str, rest: list[str], argv: list[str]) -> int:
    if command == "up":
        with _disk_errors_in_words():
            return _up(rest, argv)
    if command == "test":
        with _disk_errors_in_words():
            bootstrap.enter(argv, for_tests=True)
        from console.runtime import testing

        return testing.main(rest)
    bootstrap.find_environment(argv)
    if command == "inspect":
        return _inspect(argv)
    places.adopt_notes(places.data_folder())
    gc.disable()  # loading leaves nothing to collect, and is searched twice; `console.apps` turns it on again
    from django.core.management import execute_from_command_line

    execute_from_command_line(argv)
    return 0


def _inspect(argv: list[str]) -> int:
    """Run without `console.settings`, which would make a data folder and a key. Whoever has a shell here may connect
    to this machine's own addresses anyway."""
    from django.conf import settings

    settings.configure(
        FARSHORE_ALLOW_LOOPBACK=True, FARSHORE_ALLOWED_NETWORKS=variables.words("FARSHORE_ALLOWED_NETWORKS")
    )
    from console.management.commands.inspect import Command

    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        Command().run_from_argv(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _up(rest: list[str], argv: list[str]) -> int:
    if sys.platform != "linux":
        raise Refusal("NotLinux", "`manage.py up` needs Linux.", "Run its parts (web, worker, beat) by themselves.")
    os.environ.setdefault("FARSHORE_BEGAN", str(time.time()))  # when the person pressed Enter
    bootstrap.enter(argv)
    from console.runtime import up

    return up.main(rest)


@contextmanager
def _disk_errors_in_words() -> Iterator[None]:
    try:
        yield
    except OSError as wrong:
        if wrong.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Refusal(
                "DiskFull", f"The disk is full: {wrong.filename or ''}", "Make room and start again."
            ) from wrong
        if wrong.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and wrong.filename:
            raise Refusal(
                "NotWritable", f"{wrong.filename} cannot be written.", "Use a clone of your own, or set FARSHORE_DATA."
            ) from wrong
        raise
