"""What of an answer has arrived: what the server's socket took, less what the other side has not acknowledged yet.

A socket takes megabytes that nobody ever reads when the other side goes away. Linux says how many bytes of a connection
are not acknowledged; elsewhere, and under a server that does not show its socket, what was sent counts as arrived.
Under a proxy the proxy is the other side: tell it not to buffer (X-Accel-Buffering).
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Mapping
from typing import Any

if sys.platform == "linux":
    import fcntl
    import termios

STALLED_SECONDS = 120  # how long one chunk, and the last acknowledgement, may take
LOOKING_SECONDS = 0.02
TCP_CLOSE = 7  # tcpi_state: reset, or timed out


class Wire:
    """The connection of one request."""

    def __init__(self, environment: Mapping[str, Any]) -> None:
        found = environment.get("gunicorn.socket")
        self._socket = found if sys.platform == "linux" and _is_tcp(found) else None
        if found is not None:
            found.settimeout(STALLED_SECONDS)  # else one reader that stands still holds a thread for ever

    def waiting(self) -> int:
        """Return how many bytes were sent and are not known to have arrived."""
        if self._socket is None:
            return 0
        try:
            return struct.unpack("I", fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        except (OSError, ValueError):
            return sys.maxsize  # closed under us: nothing more is known

    def drain(self) -> int:
        """Wait until everything has arrived or will not any more; return what is still missing."""
        until = time.monotonic() + STALLED_SECONDS
        while (missing := self.waiting()) and not self._is_gone() and time.monotonic() < until:
            time.sleep(LOOKING_SECONDS)
        return missing

    def _is_gone(self) -> bool:
        try:
            return self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE
        except (OSError, ValueError):
            return True


def _is_tcp(found: Any) -> bool:
    return found is not None and found.family in (socket.AF_INET, socket.AF_INET6)
