"""Restoring onto an instance that is there: what speaks against it, all at once (R-2.3, I20).

The original takes a default backup only, and only where Farshore runs its server: then the new server is built beside
it and takes its place, while the old one's data is kept aside (`replacing`). Another instance takes a copy only, in the
region where that lies, beside the databases it has.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.db.models import Q, QuerySet

from backups.engines import engine_of, is_older
from backups.models import BackupMethod, Instance, Restore
from backups.restoring.choosing import Choice, Wanted
from backups.restoring.on_landing import LONGEST_NAME, why_no_name
from regions.models import Region
from regions.refusals import Refusal

AS_NEW = "Restore into a new instance, and move what you need from there."
State = Restore.State


def server_of(instance: Instance) -> Restore | None:
    """Return the restore whose server this instance is, None where Farshore does not run its server."""
    return Restore.objects.filter(result=instance, state=State.READY).select_related("instance").first()


def aside_of(instance: Instance) -> Restore | None:
    """Return the restore whose server was this instance before, and whose data is still kept aside."""
    return Restore.objects.filter(result=instance, state=State.ASIDE).first()


def why_not_original(instance: Instance) -> list[Refusal]:
    """Return why no default backup can be restored onto the instance it was taken of, whatever is typed in."""
    return list(_against_the_server(instance) or _against_the_moment(instance))


def why_not(wanted: Wanted, choice: Choice, typed: str | None) -> list[Refusal]:
    """Return everything that speaks against it; `typed` None: nothing was typed in yet."""
    source, target = wanted.instance, wanted.onto
    if wanted.is_beside:
        refusals = list(_against_beside(source, target, choice))
        if called := called_beside(wanted, choice):  # a whole server's has no name
            refusals += why_not_called_beside(target, called)
    else:
        refusals = [*_against_a_copy(target, choice), *why_not_original(target)]
    if typed is not None and typed != target.name:
        said = f"What was typed in is not the name of {target.name}."
        refusals.append(Refusal("NameNotTyped", said, "Type it exactly as it is written.", "typed"))
    return refusals


# ---- the original


def _against_a_copy(target: Instance, choice: Choice) -> Iterator[Refusal]:
    if choice.origin == Restore.Origin.COPY:
        yield _refusal(
            "CopyOntoOriginal", f"A copy is not restored onto {target.name}, which it was made of; a default backup is."
        )


def _against_the_server(instance: Instance) -> list[Refusal]:
    engine = engine_of(instance.engine)
    if instance.released:
        return [_refusal("ProductInstanceReleased", f"{instance.name} has been released.")]
    if engine.take_over is None:
        return [_refusal("RestoreNotOffered", f"Farshore does not replace {engine.capabilities.label} servers itself.")]
    if server_of(instance) is None:
        return [
            Refusal(
                "OriginalNotOurs",
                f"Farshore does not run the server of {instance.name}: it reaches it by the network only, and can"
                " neither stop it nor lay files under it.",
                "Restore into a new instance and let your programs use that one, or download the set and restore it"
                f" there with {engine.capabilities.label}'s own tools.",
                "onto",
            )
        ]
    return []


def _against_the_moment(instance: Instance) -> Iterator[Refusal]:
    if instance.replacements.filter(state__in=Restore.PENDING).exists():
        yield Refusal(
            "OntoUnderWay", f"A restore onto {instance.name} is under way.", "Wait for it, or cancel it.", "onto"
        )
    if aside_of(instance):
        yield Refusal(
            "OntoUnconfirmed",
            f"Nobody has confirmed the last restore onto {instance.name}; what it replaced is still kept aside.",
            "Keep the new one, or put the old one back.",
            "onto",
        )


# ---- beside what another instance has


def targets_beside(instance: Instance, region: Region) -> QuerySet[Instance]:
    """Return the instances of a region that copies of this one can go beside; none where that is switched off."""
    engine = engine_of(instance.engine)
    is_possible = settings.RESTORE_ONTO_EXISTING and engine.restore_database and region.pk != instance.region_id
    if not is_possible or engine.capabilities.whole_server:
        return Instance.objects.none()
    there = Instance.objects.living().filter(engine=instance.engine, region=region)
    return there.exclude(Q(host="") | Q(share_called="") | Q(share_folder="")).order_by("name", "pk")


def free_name_beside(target: Instance, database: str) -> str:
    """Return its own name where no database there has it, else Sales-restored, Sales-restored-2, …"""
    name, number = database, 1
    while why_not_called_beside(target, name):
        name = f"{database[: LONGEST_NAME - 20]}-restored" + (f"-{number}" if number > 1 else "")
        number += 1
    return name


def _against_beside(source: Instance, target: Instance, choice: Choice) -> Iterator[Refusal]:
    if target.region_id == source.region_id:
        yield _refusal(
            "OntoSourceRegion", f"{target.name} lies in the source region; a restore never reaches an instance there."
        )
    elif choice.origin == Restore.Origin.DEFAULT:
        yield _refusal("DefaultElsewhere", "A default backup is restored onto the instance it was taken of, or as new.")
    elif target.region_id != choice.region.pk:
        yield _refusal("OntoOtherRegion", f"{target.name} does not lie in {choice.region}, where the copy is.")
    if not settings.RESTORE_ONTO_EXISTING:
        yield Refusal(
            "OntoExistingOff",
            f"Restoring onto an existing instance, such as {target.name}, is switched off.",
            f"{AS_NEW} RESTORE_ONTO_EXISTING=yes switches it on.",
            "onto",
        )
    yield from _against_their_engines(source, target, choice)


def _against_their_engines(source: Instance, target: Instance, choice: Choice) -> Iterator[Refusal]:
    engine = engine_of(source.engine)
    label = engine.capabilities.label
    if target.released or target.engine != source.engine:
        yield _refusal("OntoOtherEngine", f"{target.name} is no {label} server that runs.")
    if any(found.method != BackupMethod.PHYSICAL for found in choice.data):
        yield _refusal("OntoNotPhysical", "Only physical sets are restored onto an instance that is there.")
    if engine.capabilities.whole_server:
        yield _refusal(
            "WholeServer",
            f"A backup of {label} is the whole server; its databases cannot be put beside those of another one.",
        )
    elif engine.restore_database is None:
        yield _refusal("RestoreNotOffered", f"Farshore does not restore {label} itself yet.")
    else:
        yield from _against_their_server(target, choice)


def _against_their_server(target: Instance, choice: Choice) -> Iterator[Refusal]:
    if not (target.host and target.share_called and target.share_folder):
        yield Refusal(
            "OntoNoShare",
            f"{target.name} has no share that its server and this region's workers both see.",
            "Enter the server's address and the share in the instance's settings.",
            "onto",
        )
    version = choice.anchor.tool_version
    if is_older(target.engine_version, version):
        yield _refusal("NewerVersion", f"The backup was made by version {version}; {target.name} is older.")


def called_beside(wanted: Wanted, choice: Choice) -> str:
    return wanted.called or choice.database


def why_not_called_beside(target: Instance, called: str) -> list[Refusal]:
    """Return why no new database there may be called this: none is ever restored over one (I20)."""
    if refusals := why_no_name(called, "called"):
        return refusals
    there = target.databases.present().filter(name__iexact=called)
    coming = Restore.objects.filter(onto=target, state__in=Restore.HELD, landed_as__iexact=called)
    if not there.exists() and not coming.exists():
        return []
    said = f"{target.name} has a database {called} already, or gets one."
    return [Refusal("NameTaken", said, "Restore it under another name.", "called")]


def _refusal(code: str, sentence: str) -> Refusal:
    return Refusal(code, sentence, AS_NEW, "onto")
