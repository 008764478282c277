"""The compliance agreement: current text, acceptances, and what they are in force for (R-13, I12)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max, Q, QuerySet

from backups import events
from backups.events import By
from backups.models import Acceptance, AcceptedInstance, AgreementText, Instance, ResourceGroup
from regions import clock, routes
from regions.models import Region
from regions.refusals import Refusal


def current_version() -> int:
    return AgreementText.objects.aggregate(newest=Max("version"))["newest"] or 0


def current_text(language: str = "en") -> AgreementText:
    """Return the current version in the language asked for, in English where it is not translated."""
    found = AgreementText.objects.filter(version=current_version(), language__in=[language, "en"])
    return max(found, key=lambda text: text.language == language)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def text_read(sha256: str, language: str) -> AgreementText:
    """Return the current text that a person was shown, by its hash, else that of the language; raises Refusal."""
    current = AgreementText.objects.filter(version=current_version())
    if not sha256:
        return current_text(language)
    if found := current.filter(sha256=sha256).first():
        return found
    sentence = "The agreement has changed since it was shown."
    raise Refusal("AgreementChanged", sentence, "Read it as it is now, and tick the box again.", "agreed")


def publish(text: str, by: By, language: str = "en", version: int | None = None) -> AgreementText:
    """Add a new version (or a translation of the current one); it is asked for at the next enabling (R-13.3)."""
    if not text.strip():
        raise Refusal("AgreementEmpty", "The agreement has no text.", "Enter the text.", "text")
    try:
        with transaction.atomic():
            row = AgreementText.objects.create(
                version=version or current_version() + 1,
                language=language,
                text=text,
                sha256=digest(text),
                published_at=clock.now(),
            )
            said = {"version": row.version, "sha256": row.sha256}
            events.record("agreement.published", f"Agreement {row} was published.", by=by, **said)
    except IntegrityError as error:
        raise Refusal(
            "AgreementExists", "Somebody published this version first.", "Look at it, then publish again."
        ) from error
    return row


def accept(
    instances: Iterable[Instance], destination: Region, by: By, *, route_version: int = 1, language: str = "en"
) -> Acceptance:
    """Record that `by.user` accepts the current text for these instances of one source region and this destination."""
    instances = list(instances)
    source = instances[0].region
    row = _acceptance(source.group, destination.group, by, language, source=source, destination=destination)
    AcceptedInstance.objects.bulk_create(
        AcceptedInstance(acceptance=row, instance=instance, route_version=route_version) for instance in instances
    )
    for instance in instances:
        events.record(
            "agreement.accepted",
            f"{by.name} accepted the agreement, version {row.text_version}, for {instance.name} to {destination.name}.",
            by=by,
            instance=instance,
            acceptance=row.pk,
            sha256=row.text_sha256,
        )
    return row


def accept_standing(
    group: ResourceGroup, source_group: str, destination_group: str, by: By, language: str = "en"
) -> Acceptance:
    """Record a standing acceptance: every instance of the group, this pair of region groups (R-13.2).

    `language`: in which the text was read.
    """
    row = _acceptance(source_group, destination_group, by, language, resource_group=group)
    events.record(
        "agreement.accepted",
        f"{by.name} accepted the agreement, version {row.text_version}, for all of {group}:"
        f" {source_group} to {destination_group}.",
        by=by,
        group=group,
        acceptance=row.pk,
        sha256=row.text_sha256,
    )
    return row


def _acceptance(
    source_group: str,
    destination_group: str,
    by: By,
    language: str,
    *,
    source: Region | None = None,
    destination: Region | None = None,
    resource_group: ResourceGroup | None = None,
) -> Acceptance:
    text = current_text(language)
    crosses = (
        routes.crosses_border(source, destination) if source and destination else source_group != destination_group
    )
    return Acceptance.objects.create(
        user=by.user,
        at=clock.now(),
        address=by.address,
        text=text,
        text_version=text.version,
        text_sha256=text.sha256,
        language=text.language,
        source_region=source,
        destination_region=destination,
        source_group=source_group,
        destination_group=destination_group,
        crosses_border=crosses,
        resource_group=resource_group,
    )


def in_force() -> QuerySet[Acceptance]:
    return Acceptance.objects.filter(text_version=current_version())


def standing_for(instance: Instance, destination: Region, user: Any = None) -> Acceptance | None:
    """Return a standing acceptance in force for this instance and pair of groups, of one user when named."""
    found = in_force().filter(
        resource_group=instance.group_id,
        source_group=instance.region.group,
        destination_group=destination.group,
    )
    if user is not None:
        found = found.filter(user=user)
    return found.order_by("-pk").first()


def who_has_not_accepted(users: QuerySet) -> QuerySet:
    """Return those of `users` who once accepted a text but not the current version."""
    version = current_version()
    ever = Acceptance.objects.values("user")
    current = Acceptance.objects.filter(text_version=version).values("user")
    return users.filter(Q(pk__in=ever) & ~Q(pk__in=current))


def missing() -> Refusal:
    return Refusal(
        "AgreementNotAccepted",
        "The cross-border compliance agreement has not been accepted.",
        "Read it and tick the box.",
        "agreed",
    )
