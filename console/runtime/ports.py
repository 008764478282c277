"""Which port the web listens on."""

from __future__ import annotations

import socket

from regions.refusals import Refusal

USUAL = 8000
TRIES = 100


def is_free(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except PermissionError:
            raise Refusal("PortReserved", f"Port {port} is reserved for root.", "Choose one above 1023.") from None
        except OSError as wrong:
            if wrong.errno in _NOT_HERE:
                raise Refusal("BadAddress", f"{address} is not an address of this machine.", "Change --bind.") from None
            return False
    return True


_NOT_HERE = (99, -2, -5)  # EADDRNOTAVAIL and the resolver's two ways of not knowing a name


def choose(address: str, wanted: int | None, last: int | None) -> int:
    """The port asked for, or it is refused; else the one of last time; else the first free one from the usual on."""
    if wanted is not None:
        if not is_free(address, wanted):
            raise Refusal("PortTaken", f"Port {wanted} is taken by another program.", "Choose another with --port.")
        return wanted
    for port in [*([last] if last else []), *range(USUAL, USUAL + TRIES)]:
        if is_free(address, port):
            return port
    raise Refusal("PortTaken", f"Ports {USUAL} to {USUAL + TRIES - 1} are all taken.", "Choose one with --port.")
