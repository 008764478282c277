"""The secondary of an instance: proof that it is one of this very instance before anything is taken of it (R-9.1)."""

from __future__ import annotations

from backups.engines.facts import ServerFacts
from backups.models import Instance
from backups.servers import standings
from regions.refusals import Refusal


def require_one(instance: Instance) -> None:
    """Raise Refusal when no secondary is known; then the primary serves, if whoever asks wants that (R-9.2)."""
    if not instance.secondary_host:
        raise Refusal(
            "NoSecondary",
            f"No secondary of {instance.name} is known.",
            "Enter its address, or back up the primary.",
            "on",
        )


def require_own(secondary: ServerFacts, identity: str) -> None:
    """Raise Refusal unless this is a secondary of the server with this identity ("": it has none to compare).

    A server may be in several groups (its identity names them all): one that they have in common is enough.
    """
    if not secondary.is_secondary:
        raise Refusal(
            "NotASecondary",
            "The server given as the secondary is none: it follows no primary.",
            "Correct its address, or back up the primary.",
            "secondary_host",
        )
    if secondary.identity and identity and not groups_of(secondary.identity) & groups_of(identity):
        raise Refusal(
            "OtherServer",
            f"The server given as the secondary follows another primary ({secondary.identity}, not {identity}).",
            "Correct its address.",
            "secondary_host",
        )


def groups_of(identity: str) -> set[str]:
    return set(identity.split(","))


def last_identity(instance: Instance) -> str:
    """Return the identity that is known without asking the primary, which may be down; "" when there is none.

    Where the server names its databases, it is that of their groups, of the last look; else the newest backup names it.
    """
    if standings.are_told(instance):
        groups = instance.databases.exclude(availability_group="").values_list("availability_group", flat=True)
        return ",".join(sorted(set(groups)))
    taken = instance.sets.filter(origin="taken").exclude(server="").order_by("-finished_at", "-pk")
    return taken.values_list("server", flat=True).first() or ""
