"""What stood beside a set's database, for its page: names by kind, and the script for whoever may operate it."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext, ngettext

from backups.models import BackupSet, Kind, ServerScript
from backups.servers import server_scripts

SHOWN = 50


@dataclass(frozen=True)
class Beside:
    """`named`: the kind as people call it, some of its names, and how many more there are in words."""

    row: ServerScript
    named: list[tuple[str, list[str], str]]


def beside(found: BackupSet) -> Beside | None:
    """None for logs, and where a backup holds the whole server with everything in it."""
    if found.kind == Kind.LOG or not found.database:
        return None
    row = server_scripts.of_set(found)
    if row is None:
        return None
    kinds = {
        "login": gettext("Logins"),
        "job": gettext("Agent jobs"),
        "linked_server": gettext("Linked servers"),
        "certificate": gettext("Certificates"),
    }
    return Beside(row, [(word, *_some_of(row.names.get(kind, []))) for kind, word in kinds.items()])


def _some_of(names: list[str]) -> tuple[list[str], str]:
    more = len(names) - SHOWN
    said = ngettext("and %(n)s more", "and %(n)s more", more) % {"n": more} if more > 0 else ""
    return names[:SHOWN], said


def file_name(found: BackupSet, row: ServerScript) -> str:
    return f"{found.instance.code}-server-{row.first_seen_at:%Y%m%d-%H%M%S}.sql"
