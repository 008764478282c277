"""Where a store is: the address a person typed, cleaned, and whether two of them share ground."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from django.conf import settings

from regions.refusals import Refusal

BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")


class Location(NamedTuple):
    """`server` and the steps from its root; two stores share ground when one's steps begin with the other's."""

    server: str
    steps: tuple[str, ...]

    def overlaps(self, other: Location) -> bool:
        shared = min(len(self.steps), len(other.steps))
        return self.server == other.server and self.steps[:shared] == other.steps[:shared]


def clean_url(url: str) -> str:
    """Return the address in its one written form; raises Refusal for what cannot be a store."""
    parts = urlsplit(f"file://{quote(url.strip())}" if url.strip().startswith("/") else url.strip())
    if parts.username or parts.password or parts.query or parts.fragment:
        raise _refuse("SecretInAddress", "An address must not hold keys or parameters.", "Use the fields for them.")
    if parts.scheme == "file":
        return f"file://{quote(str(_folder(parts.netloc, unquote(parts.path))))}"
    if parts.scheme == "s3":
        return _bucket(parts.netloc, parts.path)
    raise _refuse("InvalidAddress", "A store is a folder (file:///…) or a bucket (s3://bucket/prefix).", "Correct it.")


def clean_options(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that mean something to the store; raises Refusal for an endpoint that is none."""
    if not url.startswith("s3://"):
        return {}
    endpoint = urlsplit(str(options.get("endpoint") or "").strip())
    if endpoint.geturl() and (endpoint.scheme not in ("http", "https") or not endpoint.hostname):
        raise _refuse("InvalidEndpoint", "The endpoint is no http or https address.", "Correct it.", "endpoint")
    if endpoint.username or endpoint.password or endpoint.query or endpoint.path.strip("/"):
        raise _refuse("InvalidEndpoint", "The endpoint must be an address only.", "Remove the rest.", "endpoint")
    if options.get("addressing") not in (None, "", "path", "virtual"):
        raise _refuse("InvalidAddressing", "Addressing is path or virtual.", "Choose one.", "addressing")
    known = {name: options[name] for name in ("region", "addressing", "verify") if options.get(name)}
    return {**known, "endpoint": endpoint.geturl().rstrip("/")} if endpoint.geturl() else known


def location_of(url: str, options: Mapping[str, Any]) -> Location:
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Location("file", Path(os.path.realpath(unquote(parts.path))).parts)
    server = urlsplit(options.get("endpoint") or "https://s3.amazonaws.com").netloc.lower()
    return Location(server, (parts.netloc, *parts.path.strip("/").split("/")) if parts.path else (parts.netloc,))


def _folder(host: str, path: str) -> Path:
    folder = Path(os.path.normpath(path))
    if host or not path.startswith("/"):
        raise _refuse("InvalidAddress", "A folder store needs an absolute path.", "Begin it with file:///.")
    if not folder.is_dir():
        raise _refuse("NoSuchFolder", f"There is no folder {folder} on this machine.", "Create or mount it first.")
    real = Path(os.path.realpath(folder))
    roots = [Path(os.path.realpath(root)) for root in getattr(settings, "FARSHORE_FOLDER_ROOTS", None) or ()]
    if roots and not any(real.is_relative_to(root) for root in roots):
        raise _refuse("FolderNotAllowed", f"{folder} lies outside FARSHORE_FOLDER_ROOTS.", "Choose a folder inside.")
    if Path(os.path.realpath(settings.FARSHORE_KEYS)).is_relative_to(real):
        raise _refuse("FolderNotAllowed", f"{folder} holds Farshore's own key ring.", "Choose a folder of its own.")
    return folder


def _bucket(name: str, path: str) -> str:
    prefix = path.strip("/")
    if not BUCKET.fullmatch(name):
        raise _refuse("InvalidAddress", f"{name or 'Nothing'} is no name of a bucket.", "Write s3://bucket/prefix.")
    if any(step in ("", ".", "..") for step in prefix.split("/")) and prefix:
        raise _refuse("InvalidAddress", "The prefix has an empty step.", "Write s3://bucket/some/prefix.")
    return f"s3://{name}/{prefix}" if prefix else f"s3://{name}"


def _refuse(code: str, sentence: str, remedy: str, field: str = "url") -> Refusal:
    return Refusal(code, sentence, remedy, field)
