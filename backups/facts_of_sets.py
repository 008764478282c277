"""From an engine's facts to a set's columns, the same for backups that were taken and that were found."""

from __future__ import annotations

from typing import Any

from backups.engines.facts import SetFacts


def columns_of(facts: SetFacts) -> dict[str, Any]:
    """Return the set's own columns from an engine's facts."""
    return {
        "started_at": facts.started_at,
        "finished_at": facts.finished_at,
        "first_position": facts.first_position,
        "last_position": facts.last_position,
        "checkpoint_position": facts.checkpoint_position,
        "base_position": facts.base_position,
        "fork": facts.fork,
        "parent_fork": facts.parent_fork,
        "fork_position": facts.fork_position,
        "forked_at": facts.forked_at,
        "set_guid": facts.set_guid,
        "family_guid": facts.family_guid,
        "base_guid": facts.base_guid,
        "is_copy_only": facts.is_copy_only,
        "has_checksums": facts.has_checksums,
        "is_encrypted": facts.encrypted,
        "server": facts.server,
        "tool_version": facts.software_version,
        "size_bytes": facts.size_bytes,
    }
