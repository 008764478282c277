"""What a downloaded file must hash to, and how to find out with the tools everybody has."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from backups.models import Download


@dataclass(frozen=True)
class Digest:
    """`is_flat`: SHA-256 of the file itself; else of the SHA-256 of its parts, in order (design.md §4)."""

    hex: str
    is_flat: bool
    command: str


def digest_of(download: Download) -> Digest:
    """Return the strongest thing known of the file: a hash of the whole stream survives neither a slice nor a crash,
    so large files have one of their parts."""
    name = shlex.quote(f"./{download.name}")
    parts = list(download.transfer.parts.order_by("number").values_list("size", "sha256")[:2])
    flat = download.file.integrity.get("sha256") or (parts[0][1] if len(parts) == 1 else "")
    if flat:
        return Digest(flat, True, f"sha256sum {name}")
    if not parts:
        return Digest("", True, "")
    each = f"split -b {parts[0][0]} --filter='sha256sum | head -c 64 | xxd -r -p' {name}"
    return Digest(download.transfer.digest, False, f"{each} | sha256sum")
