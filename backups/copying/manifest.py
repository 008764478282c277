"""The manifest: written once per copy, last; a destination can be read without our database (design.md §3).

What a reader needs to know the copy again stands in it: the instance, the set's positions, each file with its parts,
and where it came from. What may change afterwards stands in the state objects beside it. A later version of a major
only adds fields; a reader tolerates that some are absent and refuses a newer major.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from backups.models import BackupFile, Copy, Transfer
from regions import clock
from regions.models import Installation
from regions.refusals import Refusal

FORMAT = "farshore-manifest/1"


def build(copy: Copy, transfers: Sequence[Transfer]) -> bytes:
    """Return the manifest's bytes: installation, instance, set, positions, files with parts and digests."""
    found = copy.set
    document = {
        "format": FORMAT,
        "installation": str(Installation.current().uuid),
        "written_at": _plain(clock.now()),
        "instance": _instance(copy),
        "set": {name: _plain(getattr(found, name)) for name in SET_FIELDS} | {"id": found.pk},
        "copy": {
            "id": copy.pk,
            "attempt": copy.fence,
            "origin": copy.origin,
            "planned_at": _plain(copy.planned_at),
            "policy": copy.policy.kind,
            "source_region": copy.policy.source_region_id,
            "destination_region": copy.policy.destination_id,
            "destination_store": str(copy.destination_store.uuid),
            "route_version": copy.route_version,
            "retention_days": copy.policy.retention_days,
        },
        "files": [_file(copy, transfer) for transfer in transfers],
    }
    return json.dumps(document, sort_keys=True, indent=1).encode()


def read(body: bytes, form: str = FORMAT) -> dict[str, Any]:
    """Return the document of a manifest, or of another object of ours; raises Refusal for what this version cannot
    read."""
    try:
        document = json.loads(body)
        name, major = str(document["format"]).rsplit("/", 1)
        wanted, known = form.rsplit("/", 1)
        is_newer = name == wanted and int(major) > int(known)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable("It is not what Farshore writes there.") from error
    if is_newer:
        raise _unreadable(f"A newer Farshore wrote it ({document['format']}).")
    if name != wanted:
        raise _unreadable(f"It is a {name!r:.40}, not a {wanted}.")
    return document


def _unreadable(sentence: str) -> Refusal:
    return Refusal("ManifestUnreadable", sentence, "Read it with the version of Farshore that wrote it.")


SET_FIELDS = (
    "database",
    "kind",
    "method",
    "origin",
    "run_id",
    "started_at",
    "finished_at",
    "discovered_at",
    "first_position",
    "last_position",
    "checkpoint_position",
    "base_position",
    "fork",
    "parent_fork",
    "fork_position",
    "forked_at",
    "set_guid",
    "family_guid",
    "base_guid",
    "is_copy_only",
    "has_checksums",
    "is_encrypted",
    "certificate_thumbprint",
    "server",
    "tool_version",
    "size_bytes",
)


def _instance(copy: Copy) -> dict[str, Any]:
    server = copy.set.instance
    return {
        "code": server.code,
        "name": server.name,
        "group": server.group.name,
        "engine": server.engine,
        "engine_version": server.engine_version,
        "edition": server.edition,
        "region": server.region_id,
    }


def _file(copy: Copy, transfer: Transfer) -> dict[str, Any]:
    place = copy.set.set_files.filter(file=transfer.file_id).first()
    return {
        "key": transfer.key,
        "etag": transfer.etag,
        "version": transfer.version,
        "size": transfer.size,
        "digest": transfer.digest,
        "sha256": transfer.file.integrity.get("sha256", ""),
        "reference": transfer.reference,
        "verification": transfer.verification,
        "uploaded_at": _plain(transfer.uploaded_at),
        "verified_at": _plain(transfer.verified_at),
        "source_key": str(transfer.file),
        "source": _source(transfer.file),
        "position": place.position if place else 1,
        "family_sequence": place.family_sequence if place else 1,
        "parts": [[part.number, part.size, part.sha256] for part in transfer.parts.all()],
    }


def _source(file: BackupFile) -> dict[str, Any]:
    """Return where the file came from, so that it is known again there; its key with the bytes that are no text."""
    return {
        "id": file.pk,
        "store": str(file.store.uuid),
        "store_url": file.store.url,
        "store_role": file.store.role,
        "key": file.key,
        "etag": file.etag,
        "version": file.version,
        "modified_at": _plain(file.modified_at),
        "is_ours": file.is_ours,
        "is_taken": bool(file.integrity.get("parts")),
        "media_set_guid": file.media_set_guid,
        "first_seen_at": _plain(file.first_seen_at),
        "settled_at": _plain(file.settled_at),
    }


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
