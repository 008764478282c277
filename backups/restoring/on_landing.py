"""What speaks against a restore on a landing server, as far as its last look tells; the worker asks it itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from django.db.models import Sum

from backups.engines import engine_of, is_older
from backups.models import Instance, LandingServer, Restore, RestoreSource
from backups.restoring.choosing import Choice
from backups.servers import landing_servers
from regions.models import Region
from regions.refusals import Refusal

LONGEST_NAME = 100
OTHER = "Choose another landing server."


def needs_landing(instance: Instance) -> bool:
    """Whether what is restored of this instance's engine is a database on a landing server, and nothing else."""
    engine = engine_of(instance.engine)
    return engine.restore is None and engine.restore_database is not None


def why_none(instance: Instance) -> str:
    """Return why a landing server has to be chosen for this instance's engine, "" where none is needed."""
    if not needs_landing(instance):
        return ""
    label = engine_of(instance.engine).capabilities.label
    return f"Farshore does not restore {label} by itself: it takes a landing server, and none was chosen."


def usual_server(servers: Iterable[LandingServer]) -> LandingServer | None:
    """Return the one that is taken where nobody chose: the first that works, else the first."""
    return min(servers, key=lambda one: bool(one.error), default=None)


def server_for(instance: Instance, region: Region, named: str = "") -> LandingServer:
    """Return the landing server of a region: the one of that ID or name, else the usual one; raises Refusal."""
    there = list(landing_servers.usable_for(instance).filter(region=region).order_by("name", "pk"))
    if not there:
        label = engine_of(instance.engine).capabilities.label
        said = f"{region} has no landing server that the resource group of {instance.name} may use."
        said = f"Farshore does not restore {label} by itself: {said}"
        remedy = "Have one registered and granted, on the page Landing servers."
        raise Refusal("RestoreNotOffered", said, remedy, "landing")
    chosen = next((one for one in there if named and named in (one.code, one.name)), None)
    return chosen or usual_server(there)


def why_not(choice: Choice, landing: LandingServer, instance: Instance) -> Iterator[Refusal]:
    """Yield everything that speaks against bringing this choice there, whatever the database is to be called."""
    yield from _against_its_use(landing, instance)
    if landing.region_id != choice.region.pk:
        said = f"{landing.name} does not lie in {choice.region}, where what is read lies."
        yield Refusal("LandingElsewhere", said, OTHER, "landing")
    if landing.error:
        yield Refusal(
            "LandingDown",
            f"Nothing can be restored on {landing.name} as it was last looked at: {landing.error}",
            landing.remedy or OTHER,
            "landing",
        )
    version = choice.anchor.tool_version
    if is_older(landing.version, version):
        said = f"The backup was made by version {version}; {landing.name} is {landing.version}."
        yield Refusal("NewerVersion", said, "Choose a landing server that is as new.", "landing")
    yield from _against_sealed(choice, landing, instance)
    needed, free = bytes_needed(choice), bytes_free(landing)
    if free is not None and needed > free:
        said = f"The restore needs {needed:,} bytes on {landing.name}, and {max(free, 0):,} are free."
        yield Refusal("NoSpace", said, "Make room there, or remove a restored database.", "landing")


def _against_its_use(landing: LandingServer, instance: Instance) -> Iterator[Refusal]:
    engine = engine_of(instance.engine)
    if landing.retired_at or landing.engine != instance.engine or engine.restore_database is None:
        yield Refusal("LandingOther", f"{landing.name} restores no {engine.capabilities.label}.", OTHER, "landing")
    if not landing.groups.filter(pk=instance.group_id).exists():
        said = f"{instance.group} may not restore onto {landing.name}."
        yield Refusal("LandingNotGranted", said, "Ask who runs the installation to grant it.", "landing")


def _against_sealed(choice: Choice, landing: LandingServer, instance: Instance) -> Iterator[Refusal]:
    """An encrypted set is opened by its own certificate only (R-3.5)."""
    sealed = {
        _plain(found.certificate_thumbprint or instance.certificate_thumbprint)
        for found in choice.sets
        if found.is_encrypted or found.certificate_thumbprint
    }
    for thumbprint in sorted(sealed - set(landing.certificates)):
        which = f"certificate {thumbprint}" if thumbprint else "a certificate, and nobody knows which"
        yield Refusal(
            "CertificateMissing",
            f"The backup is encrypted with {which}; {landing.name} does not have it.",
            "Create the certificate there from its backup, grant VIEW DEFINITION on it, and look at the server again.",
            "landing",
        )


def _plain(thumbprint: str) -> str:
    return thumbprint.lower().removeprefix("0x")


# ---- room


def bytes_needed(choice: Choice) -> int:
    """Return what the database will surely take there: as much as was backed up of it."""
    return max(found.size_bytes for found in choice.data)


def bytes_free(landing: LandingServer) -> int | None:
    """Return the room that is left when all restores on their way there have arrived; None where nobody knows."""
    if landing.bytes_free is None:
        return None
    coming = RestoreSource.objects.filter(restore__landing=landing, restore__state__in=Restore.ACTIVE)
    promised = coming.filter(set__kind="full").aggregate(total=Sum("set__size_bytes"))["total"] or 0
    return landing.bytes_free - promised


# ---- names


def why_no_name(name: str, field: str) -> list[Refusal]:
    """Return why no database may be called this, wherever it is."""
    if name.strip() and len(name) <= LONGEST_NAME and name.isprintable():
        return []
    sentence = f"The name has 1 to {LONGEST_NAME} characters, all of them visible."
    return [Refusal("InvalidName", sentence, "Choose another name.", field)]


def why_not_name(landing: LandingServer, name: str) -> list[Refusal]:
    """Return why no new database may be called this there."""
    if refusals := why_no_name(name, "name"):
        return refusals
    coming = Restore.objects.filter(landing=landing, state__in=Restore.HELD, landed_as__iexact=name)
    if name.casefold() in {one.casefold() for one in landing.databases} or coming.exists():
        said = f"{landing.name} has a database {name} already, or gets one."
        return [Refusal("NameTaken", said, "Choose another name.", "name")]
    return []


def free_name(landing: LandingServer, database: str, taken: Collection[str] = ()) -> str:
    """Return a name that no database there has yet, nor one of those `taken`, casefolded: Sales-restored-2, …"""
    base, number = f"{database[: LONGEST_NAME - 20]}-restored", 1
    name = base
    while name.casefold() in taken or why_not_name(landing, name):
        number += 1
        name = f"{base}-{number}"
    return name
