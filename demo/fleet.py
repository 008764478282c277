"""The demonstration fleet, brought in through the doors everybody uses; safe to repeat (design.md §6).

`prepare` runs before the console opens. What needs the fleet at work (the PostgreSQL server, the copies of back-dated
backups) is `manage.py demo`'s (demo.running).
"""

from __future__ import annotations

from pathlib import Path

from django.contrib.auth import get_user_model

from backups import fleet, policies
from backups.events import By
from backups.models import Instance, ResourceGroup
from backups.terms import agreements
from demo import cast, history
from demo.cast import Actor
from regions.models import Region, Store
from regions.refusals import Refusal

HERE = "127.0.0.1"


def prepare(data: Path) -> None:
    """Attach the demo's regions, add its instances, enable those that are; what is there already is left alone."""
    by = administrator()
    for region_id in cast.REGIONS:
        attach(region_id, folder_of(data, region_id), by)
    for actor in (cast.POSTGRESQL, cast.TREASURY, cast.VAULT, *cast.ACTORS):
        accept(actor, by)
    for actor in cast.ACTORS:
        bring_in(actor, data, by)


def administrator() -> By:
    """Return who acts in the demo's name: the first administrator, at this machine."""
    people = get_user_model().objects.filter(is_superuser=True, is_active=True)
    user = people.order_by("pk").first()
    if user is None:
        raise Refusal("NoAdministrator", "There is no administrator.", "Run `manage.py createsuperuser`.")
    return By(user, HERE)


def folder_of(data: Path, region_id: str) -> Path:
    return data / "demo" / region_id


def attach(region_id: str, folder: Path, by: By) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    region, url = Region.objects.get(pk=region_id), folder.resolve().as_uri()
    known = Store.objects.attached().filter(region=region, role=Store.Role.PRIMARY).first()
    if known is None:
        fleet.attach(region, url, {}, {}, by)
    elif known.url.rstrip("/") != url:
        raise Refusal(
            "NotTheDemos",
            f"{region.name} has a store of its own, {known.url}; the demo does not write there.",
            "Start the demo with another folder in FARSHORE_DATA.",
        )


def accept(actor: Actor, by: By) -> None:
    """Give the standing acceptance that the actor's route needs, once (R-13.2)."""
    if not actor.to:
        return
    group = ResourceGroup.objects.get_or_create(name=actor.group)[0]
    source, target = Region.objects.get(pk=actor.region).group, Region.objects.get(pk=actor.to).group
    given = agreements.in_force().filter(
        user=by.user, resource_group=group, source_group=source, destination_group=target
    )
    if not given.exists():
        agreements.accept_standing(group, source, target, by)


def bring_in(actor: Actor, data: Path, by: By) -> None:
    if actor.past:
        history.write(actor, folder_of(data, actor.region) / actor.prefix)
    instance = instance_of(actor) or add(actor, by)
    if actor.to and not actor.past:
        enable(instance, actor, by)


def instance_of(actor: Actor) -> Instance | None:
    return Instance.objects.filter(code=actor.code).first()


def add(actor: Actor, by: By, password: str = "", **more: object) -> Instance:
    group = ResourceGroup.objects.get_or_create(name=actor.group)[0]
    instance = Instance(
        code=actor.code,
        name=actor.name,
        region_id=actor.region,
        group=group,
        engine=actor.engine,
        **{**actor.columns, **more},
    )
    return fleet.add(instance, password, by)


def enable(instance: Instance, actor: Actor, by: By) -> None:
    """Enable cross-region backup the first time; what a person made of it since stays as it is."""
    if not instance.policies.exists():
        wanted = policies.Settings(True, actor.days, actor.to, actor.logs)
        policies.apply(instance, wanted, by, standing_of=by)
