"""Reading the environment: every variable is either right or refused with its name, what was found and what is wanted.

Standard library only: the supervisor and the bootstrap read variables before Django can be imported.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from regions.refusals import Refusal


def refuse(name: str, wanted: str) -> Refusal:
    """Say what a variable should be; never repeat its value, which may hold a password."""
    return Refusal("BadEnvironment", f"{name} is not usable: {wanted}.", f"Correct {name} and start again.", name)


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def flag(name: str, default: bool = False) -> bool:
    given = text(name).lower()
    if given in ("", "1", "true", "yes", "on", "0", "false", "no", "off"):
        return given in ("1", "true", "yes", "on") if given else default
    raise refuse(name, "it must be yes or no")


def number(name: str, default: int, least: int = 0, most: int = 2**31) -> int:
    given = text(name)
    if not given:
        return default
    if not given.isascii() or not given.isdigit() or not least <= int(given) <= most:
        raise refuse(name, f"it must be a whole number from {least} to {most}")
    return int(given)


def choice(name: str, options: Sequence[str], default: str) -> str:
    given = text(name, default)
    if given not in options:
        raise refuse(name, f"it must be one of {', '.join(options)}")
    return given


def words(name: str) -> list[str]:
    return [word.strip() for word in text(name).split(",") if word.strip()]


def absolute_path(name: str) -> str:
    given = text(name)
    if given and (not given.startswith("/") or "/../" in f"{given}/" or "\0" in given):
        raise refuse(name, "it must be an absolute path")
    return given


def address(name: str, default: str) -> str:
    """Read an IP address of this machine to listen at."""
    given = text(name, default)
    try:
        return str(ipaddress.ip_address(given))
    except ValueError:
        raise refuse(name, "it must be an IP address") from None


def _split(name: str, address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as wrong:
        raise refuse(name, "it is not a URL") from wrong
    return parts


@dataclass(frozen=True)
class DatabaseAddress:
    name: str
    host: str
    port: str
    user: str
    password: str = field(repr=False)
    options: dict[str, str]


def database_address(name: str, address: str) -> DatabaseAddress:
    """Read postgresql://user:password@host:port/name?host=/socket/folder&sslmode=…"""
    parts = _split(name, address)
    if parts.scheme not in ("postgresql", "postgres"):
        raise refuse(name, "it must begin with postgresql:// (SQLite and other databases are not supported)")
    options = dict(parse_qsl(parts.query))
    database = unquote(parts.path.lstrip("/"))
    if not database:
        raise refuse(name, "it names no database")
    return DatabaseAddress(
        name=database,
        host=options.pop("host", unquote(parts.hostname or "")),
        port=options.pop("port", str(parts.port or "")),
        user=options.pop("user", unquote(parts.username or "")),
        password=options.pop("password", unquote(parts.password or "")),
        options=options,
    )


BROKER_SCHEMES = ("redis", "rediss", "redis+socket", "amqp", "amqps", "memory")


def broker_address(name: str, address: str) -> str:
    if _split(name, address).scheme not in BROKER_SCHEMES:
        raise refuse(name, f"it must begin with one of {', '.join(s + '://' for s in BROKER_SCHEMES)}")
    return address


def public_address(name: str) -> SplitResult | None:
    """Return the address people reach us at, or None when it is this machine only."""
    given = text(name)
    if not given:
        return None
    parts = _split(name, given)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise refuse(name, "it must be like https://farshore.example.com, without a path")
    return parts


def folder_and_location(name: str) -> tuple[str, str] | None:
    """Read /folder=/location/: what lies below the folder is what a proxy has below its internal location."""
    given = text(name)
    folder, _, location = given.partition("=")
    if given and not (folder.startswith("/") and location.startswith("/") and location.endswith("/")):
        raise refuse(name, "it must be like /srv/stores=/_stores/")
    return (folder.rstrip("/"), location) if given else None
