"""What a copy was compared with, and what the file's own checksums said of it."""

from __future__ import annotations

from backups.copying.verification import WORDS, Reference
from backups.models import Copy
from console.widgets.labels import translated


def compared_with(copy: Copy) -> str:
    """Return what the bytes that arrived were held against, "" while they have not all arrived (I1)."""
    if copy.completed_at is None:
        return ""
    return translated(WORDS[Reference(copy.reference or Reference.NONE)])
