"""A backup set's header as text for a terminal: aligned, no line over 80 columns, nothing in it that a file could use
to write elsewhere on the screen."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

WIDTH = 80
_INDENT, _NAME = 2, 24
_TYPES = {1: "full", 2: "log", 5: "differential"}
_NEVER_SHOWN = {"path", "Position", "refused", "verification", "Files"}
_KIB = 1024


def lines_of(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of one set, or of a file that is refused."""
    position = f" (set {told['Position']})" if told["Position"] else ""
    yield from _wrapped(f"{told['path']}{position}", WIDTH, WIDTH - 4, indent="    ")
    if told["refused"]:
        yield from _row("refused", f"{told['refused']['code']}: {told['refused']['sentence']}")
    else:
        for name, value in told.items():
            if name not in _NEVER_SHOWN:
                yield from _row(name, _value(name, value))
        for file in told["Files"]:
            yield from _row(f"File {file['FileId']} ({file['Type'] or '?'})", file["LogicalName"])
            yield from _row("", f"{_size(file['Size'])}, {file['PhysicalName']}")
    if told["verification"]:
        yield from _row("Verification", f"{told['verification']['level']}: {told['verification']['sentence']}")


def _value(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "BackupType":
        return f"{value} ({_TYPES[value]})"
    if name.endswith("Date"):
        return f"{datetime.fromisoformat(value).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if name == "BackupSize":
        return f"{value} ({_size(value)})"
    return str(value)


def _size(size: int) -> str:
    amount, units = float(size), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    while amount >= _KIB and len(units) > 1:
        amount, units = amount / _KIB, units[1:]
    return f"{amount:.1f} {units[0]}" if units[0] != "bytes" else f"{size} bytes"


def _row(name: str, value: str) -> Iterator[str]:
    room = WIDTH - _INDENT - _NAME
    for number, part in enumerate(_wrapped(value, room, room)):
        yield f"{' ' * _INDENT}{'' if number else name:{_NAME}}{part}".rstrip()


def _wrapped(text: str, first: int, rest: int, indent: str = "") -> Iterator[str]:
    """Yield a text in lines of so many columns, broken at spaces where there are some."""
    line, room, begin = "", first, ""
    for word in _words(printable(text)):
        if _columns(line + word.rstrip(" ")) > room and line.strip():
            yield begin + line.rstrip()
            line, room, begin = "", rest, indent
        for character in word:
            if _columns(line + character) > room and character != " ":
                yield begin + line
                line, room, begin = "", rest, indent
            line += character
    yield begin + line.rstrip()


def _words(text: str) -> Iterator[str]:
    """Yield words with the spaces behind them."""
    word = ""
    for character in text:
        if word.endswith(" ") and character != " ":
            yield word
            word = ""
        word += character
    yield word


def _columns(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in text)


def printable(text: str) -> str:
    """Return the text with everything that is no visible character written as an escape."""
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
