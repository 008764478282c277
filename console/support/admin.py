"""The admin's registrations, a module per room; Django finds this one by its name."""

from console.support import (
    billing,
    copies,
    downloads,
    drills,
    history,
    instances,
    logs,
    people,
    places,
    policies,
    recovery,
    restores,
    servers,
    sets,
)

__all__ = [
    "billing",
    "copies",
    "downloads",
    "drills",
    "history",
    "instances",
    "logs",
    "people",
    "places",
    "policies",
    "recovery",
    "restores",
    "servers",
    "sets",
]
