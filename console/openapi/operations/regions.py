"""The places: all of them, and those that an instance's copies may go to."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from backups import policies
from console.openapi import faults
from console.openapi.asking import Asked
from console.openapi.callers import Caller
from console.openapi.operations.table import Answer, operation
from regions.built_once import Given, built_once
from regions.models import Region


@built_once
def _names(**_: Given) -> QuerySet[Any]:
    return Region.objects.shown().values("pk", "name")


@built_once
def _shown(**_: Given) -> QuerySet[Region]:
    return Region.objects.shown()


@built_once
def _healthy(**_: Given) -> QuerySet[Any]:
    return policies.healthy_stores().values("region")


@operation("DescribeRegions")
def describe_regions(caller: Caller, asked: Asked) -> Answer:
    return {"Regions": {"RDSRegion": [_region(region, caller.host) for region in _names()]}}


def _region(region: Any, host: str) -> dict[str, str]:
    """A region has one zone here; its endpoint is ours."""
    return {
        "RegionId": region.pk,
        "LocalName": region.name,
        "RegionEndpoint": host,
        "ZoneId": region.pk,
        "ZoneName": region.name,
    }


@operation("DescribeAvailableCrossRegion")
def describe_available_cross_region(caller: Caller, asked: Asked) -> Answer:
    """The regions that are allowed from there and have a healthy store (R-10.2)."""
    shown, healthy = _shown(), {store.region for store in _healthy()}
    source = next((region for region in shown if region.pk == asked.text("RegionId")), None)
    if source is None:
        raise faults.no_such_region("RegionId")
    found = [region.pk for region, refusal in policies.destinations_among(source, shown, healthy) if refusal is None]
    return {"Regions": {"Region": found}}
