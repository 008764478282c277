"""What no engine's driver is given, because it could read it as more than one value. Pure."""

from __future__ import annotations

from backups.engines.facts import Connection
from regions.refusals import Refusal

TLS_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")


def refuse_ambiguous(
    connection: Connection, *, separators: str = ",", remedy: str = "Enter one host.", longest: int | None = None
) -> None:
    """Raise Refusal for a value that may not go to a driver.

    `separators`: the characters that no host has in it, for the driver splits at them; `remedy` is what to do about it.
    `longest`: how many characters a login of the engine has room for, in each value.
    """
    if connection.tls not in ("", *TLS_MODES):
        raise Refusal("UnknownTls", "There is no such TLS mode.", f"Choose one of {', '.join(TLS_MODES)}.", "tls")
    if not connection.host or any(character in connection.host for character in separators):
        raise Refusal("BadHost", "The host must be one name or one address.", remedy, "host")
    for field in ("host", "username", "password", "dbname", "hostaddr"):
        value = getattr(connection, field)
        if any(character in value for character in "\0\r\n"):
            raise Refusal("BadCharacter", f"The {field} has a line break in it.", "Enter it again.", field)
        if longest is not None and len(value) > longest:
            raise Refusal("TooLong", f"The {field} is longer than {longest} characters.", "Enter it again.", field)
