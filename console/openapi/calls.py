"""A call as it came: method, query, form, headers. We read it ourselves, at most 1 MiB, with nothing of Django between.

Only what bears the mark of a signed call at `/` or `/openapi/` is ours (openapi/README.md, "Reaching us").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote_to_bytes

PATHS = frozenset({"/", "/openapi/"})
MOST_BYTES = 1 << 20
MOST_PARAMETERS = 2_000
FORM = "application/x-www-form-urlencoded"
ACS3 = "ACS3-"

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Call:
    """`query` and `form` in their order, undecodable bytes as surrogate escapes; `headers` by lower-case name."""

    method: str
    path: str
    query: Pairs
    form: Pairs
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    is_too_large: bool = False
    is_too_long: bool = False

    @cached_property
    def parameters(self) -> dict[str, str]:
        """Query and form, merged; what comes first counts."""
        found: dict[str, str] = {}
        for name, value in (*self.query, *self.form):
            found.setdefault(name, value)
        return found

    @property
    def wants_json(self) -> bool:
        """Without `Format` or `accept` the protocol's default is XML."""
        asked = self.parameters.get("Format", "")
        return asked.lower() == "json" if asked else "json" in self.headers.get("accept", "").lower()


def pairs_of(encoded: bytes, most: int = MOST_PARAMETERS) -> Pairs:
    """Read `a=1&b=` with blank values kept, `+` and `%20` both a space; at most so many pairs and one more."""
    found: Pairs = []
    for part in encoded.split(b"&", most + 1)[: most + 1]:
        if part:
            name, _, value = part.partition(b"=")
            found.append((_decoded(name), _decoded(value)))
    return found


def _decoded(text: bytes) -> str:
    return unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8", "surrogateescape")


def is_text(value: str) -> bool:
    """Whether the database can keep it: no undecodable bytes, no NUL."""
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


def headers_of(meta: Mapping[str, Any]) -> dict[str, str]:
    """By lower-case name; WSGI hands bytes over as Latin-1, what was signed is UTF-8."""
    own = {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}
    named = {name: name[5:].replace("_", "-").lower() for name in meta if name.startswith("HTTP_")}
    return {
        called: str(meta[name]).encode("latin-1", "replace").decode("utf-8", "surrogateescape")
        for name, called in {**named, **own}.items()
        if meta.get(name) is not None
    }


def raw_query(meta: Mapping[str, Any]) -> bytes:
    return str(meta.get("QUERY_STRING", "")).encode("latin-1", "replace")
