"""The places: all of them, and those that an instance's copies may go to."""

from __future__ import annotations

from backups import policies
from console.openapi.asking import Asked
from console.openapi.callers import Caller
from console.openapi.operations.table import Answer, operation
from regions.models import Region


@operation("DescribeRegions")
def describe_regions(caller: Caller, asked: Asked) -> Answer:
    return {"Regions": {"RDSRegion": [_region(region, caller.host) for region in Region.objects.shown()]}}


def _region(region: Region, host: str) -> dict[str, str]:
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
    source = caller.region(asked.text("RegionId"))
    found = [region.pk for region, refusal in policies.destinations_of(source) if refusal is None]
    return {"Regions": {"Region": found}}
