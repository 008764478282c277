"""What programs may ask for: a table from the operation's name to the function that answers it.

Each finds its rows through the caller (`callers.Caller`), asks the same verbs of `backups` as the pages, and returns
what differs from nothing; `contract.fit` adds the rest. An operation that is not in the table is not there.
"""

from console.openapi.operations import backups, copies, default_policies, instances, policies, regions, restores, roles
from console.openapi.operations.table import OPERATIONS, Operation

__all__ = [
    "OPERATIONS",
    "Operation",
    "backups",
    "copies",
    "default_policies",
    "instances",
    "policies",
    "regions",
    "restores",
    "roles",
]
