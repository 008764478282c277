"""A machine that vanishes lets go of its locks: PostgreSQL looks after each session, and ends it within a minute.

Left to itself it finds out after two hours, and so long a beat that is gone would lead, and nothing would be swept.
A session over a socket on the same machine ends with its process, and takes these settings without using them.
"""

from __future__ import annotations

from typing import Any

NOTICE = "SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"


def notice(connection: Any, **_: Any) -> None:
    """Ask for it on a connection of Django's that was opened now."""
    with connection.connection.cursor() as cursor:
        cursor.execute(NOTICE)
