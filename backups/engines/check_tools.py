"""An engine's own checking tool beside a restored server: run to its end, or until its verdict is no longer wanted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence

from backups.engines.confinement import tied
from backups.engines.facts import Stopped

LOOK_SECONDS = 0.2


def run_check(
    command: Sequence[str], environment: Mapping[str, str], fd: int, stop: Callable[[], bool] | None
) -> tuple[int, str]:
    """Return the tool's status and all that it said; raises Stopped. It ends with the thread that calls.

    `fd`: the file by which the tool knows how to sign in, which it inherits.
    """
    child = subprocess.Popen(
        command,
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(fd,),
        preexec_fn=tied(os.getpid()),
    )
    try:
        return _outlast(child, stop)
    finally:
        child.kill()
        child.wait()


def _outlast(child: subprocess.Popen[bytes], stop: Callable[[], bool] | None) -> tuple[int, str]:
    while True:
        if stop and stop():
            raise Stopped("the check is no longer wanted")
        try:
            said = child.communicate(timeout=LOOK_SECONDS)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            continue
        return child.returncode, said
