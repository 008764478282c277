"""Children end when their parent ends, even by kill -9 (Linux: PR_SET_PDEATHSIG).

The signal comes when the *thread* that started the child ends, so children are started from main threads only.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(by: signal.Signals = signal.SIGKILL) -> None:
    _libc.prctl(PR_SET_PDEATHSIG, int(by), 0, 0, 0)


def tied_to(parent: int, by: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn` for Popen; a parent that died before the child got here counts too."""

    def tie() -> None:
        die_with_parent(by)
        if os.getppid() != parent:
            os.kill(os.getpid(), by)

    return tie
