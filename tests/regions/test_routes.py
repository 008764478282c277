from __future__ import annotations

from types import SimpleNamespace

import pytest

from regions.catalog import CATALOG, OUTSIDE
from regions.models import Region
from regions.routes import crosses_border, why_not
from regions.shipping import load

PLACES = [Region(id=entry.id, name=entry.name, scope=entry.scope, country=entry.country) for entry in CATALOG]


def place(region_id: str) -> Region:
    return next(found for found in PLACES if found.id == region_id)


def test_512_of_the_650_pairs_of_regions_are_allowed() -> None:
    pairs = [(a, b) for a in PLACES for b in PLACES if a.id != b.id]
    assert len(pairs) == 650
    assert sum(why_not(a, b) is None for a, b in pairs) == 512


@pytest.mark.parametrize(
    ("source", "destination", "words"),
    [
        ("cn-beijing", "cn-beijing", "cannot back up to itself"),
        ("cn-hangzhou-finance", "cn-hangzhou", "must stay in Finance Cloud"),
        ("eu-central-1", "cn-shenzhen-finance-1", "takes backups of Finance Cloud regions only"),
    ],
)
def test_a_route_that_is_not_allowed_says_why_and_what_to_do(source: str, destination: str, words: str) -> None:
    refused = why_not(place(source), place(destination))
    assert refused is not None
    assert (refused.code, refused.field) == ("InvalidDestination", "destination")
    assert words in refused.sentence and refused.remedy


@pytest.mark.parametrize(
    ("source", "destination", "crosses"),
    [
        ("cn-beijing", "cn-shanghai", False),
        ("cn-beijing", "cn-hongkong", True),
        ("cn-hongkong", "ap-southeast-1", True),
        ("us-west-1", "us-east-1", False),
        ("eu-central-1", "eu-west-1", True),
        ("cn-hangzhou-finance", "cn-shanghai-finance-1", False),
    ],
)
def test_a_border_lies_between_groups(source: str, destination: str, crosses: bool) -> None:
    assert crosses_border(place(source), place(destination)) is crosses


def test_routes_ask_nothing_else_of_a_place() -> None:
    here, there = (SimpleNamespace(id=i, name=i, scope=OUTSIDE, group="FR") for i in "ab")
    assert why_not(here, there) is None and not crosses_border(here, there)


@pytest.mark.django_db
def test_loading_again_keeps_what_a_team_has_hidden() -> None:
    Region.objects.filter(pk="cn-heyuan").update(hidden=True, name="old name")
    load()
    heyuan = Region.objects.get(pk="cn-heyuan")
    assert (heyuan.hidden, heyuan.name, Region.objects.count()) == (True, "China (Heyuan)", 26)
