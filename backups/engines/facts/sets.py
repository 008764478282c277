"""What a backup set says of itself, and how a file is looked at from a distance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from regions.refusals import Refusal

ReadAt = Callable[[int, int], bytes]
"""(offset, length) -> exactly `length` bytes; raises when the store cannot give them."""


class Kind(StrEnum):
    FULL = "full"
    DIFFERENTIAL = "differential"
    LOG = "log"


class Method(StrEnum):
    PHYSICAL = "physical"
    LOGICAL = "logical"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True)
class DatabaseFile:
    """One file of the database inside a set, as RESTORE FILELISTONLY would print it."""

    logical_name: str
    physical_path: str
    kind: str
    size_bytes: int
    file_id: int = 0


@dataclass(frozen=True)
class SetFacts:
    """One finished backup set as its own header tells it.

    Times are aware UTC. Positions are integers that order the engine's history (SQL Server: LSN as msdb prints it),
    None where the kind has none. GUIDs are lower-case with hyphens, "" when there is none. `offset` and `length` say
    where the set lies in its file; `size_bytes` is what the engine says it wrote over all stripes.

    Where the history that a log is of left another one: at `fork_position` of `parent_fork`, with everything that was
    committed there until `forked_at`; "" and None where it never did, or nobody knows.
    """

    database: str
    kind: Kind
    method: Method
    started_at: datetime
    finished_at: datetime
    first_position: int | None = None
    last_position: int | None = None
    checkpoint_position: int | None = None
    base_position: int | None = None
    fork: str = ""
    parent_fork: str = ""
    fork_position: int | None = None
    forked_at: datetime | None = None
    set_guid: str = ""
    family_guid: str = ""
    base_guid: str = ""
    media_set_guid: str = ""
    family_sequence: int = 1
    family_count: int = 1
    position: int = 1
    is_copy_only: bool = False
    has_checksums: bool = False
    compressed: bool = False
    begins_log_chain: bool = False
    encrypted: bool = False
    server: str = ""
    software_version: str = ""
    size_bytes: int = 0
    offset: int = 0
    length: int = 0
    database_files: tuple[DatabaseFile, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What reading a found file came to: its sets, or why it is refused; never both, never neither."""

    sets: tuple[SetFacts, ...] = ()
    refusal: Refusal | None = None

    def __post_init__(self) -> None:
        if bool(self.sets) == (self.refusal is not None):
            raise ValueError("an inspection has either sets or a refusal")
