"""A query that is built once finds what the same query finds when it is built for every call."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.db.models import F, Q, QuerySet
from django.test.utils import CaptureQueriesContext

from regions.built_once import BuiltOnce, Count, Given, among, built_once
from regions.models import Region, Store

pytestmark = pytest.mark.django_db


@pytest.fixture
def listed() -> BuiltOnce:
    @built_once
    def rows(**given: Given) -> QuerySet[Any]:
        found = Region.objects.shown()
        if "words" in given:
            found = found.filter(Q(name__icontains=given["words"]) | Q(id__icontains=given["words"]))
        if "ids" in given:
            found = found.filter(among("id", "ids"))
        return found.exclude(name="100 % of %s").values("pk", place=F("name"), total=Count(found.values("pk")))

    return rows


@pytest.mark.parametrize("words", ["beijing", "CN-", "%", "_", "'", "\\", "%s", '"; DROP TABLE x; --', ""])
def test_words_are_values_whatever_they_are(listed: BuiltOnce, words: str) -> None:
    Region.objects.filter(pk="cn-beijing").update(name="100 %s_'\\")
    wanted = Region.objects.shown().filter(Q(name__icontains=words) | Q(id__icontains=words))
    assert [row.pk for row in listed(words=words)] == [region.pk for region in wanted]


def test_it_is_built_once_for_each_set_of_names(listed: BuiltOnce) -> None:
    for ids in ([], ["cn-beijing"], ["cn-beijing", "cn-shanghai", "nowhere"]):
        assert {row.pk for row in listed(ids=ids)} == set(ids) - {"nowhere"}
    assert listed(ids=["cn-beijing"], words="shanghai") == []
    assert len(listed.kept) == 2


def test_a_page_tells_how_many_there_are(listed: BuiltOnce) -> None:
    names = [region.name for region in Region.objects.shown()]
    for start in range(0, len(names), 5):
        rows, total = listed.page(slice(start, start + 5))
        assert ([row.place for row in rows], total) == (names[start : start + 5], len(names))
    assert listed.page(slice(500, 505)) == ([], len(names))
    assert listed.page(slice(0, 5), words="nowhere") == listed.page(slice(5, 10), words="nowhere") == ([], 0)
    with CaptureQueriesContext(connection) as seen:
        listed.page(slice(0, 5))
    assert len(seen) == 1


def test_models_come_with_what_was_selected_beside_them() -> None:
    @built_once
    def stores(**given: Given) -> QuerySet[Store]:
        return Store.objects.filter(region=given["region"]).select_related("region")

    assert stores.first(region="cn-beijing") is None
    options = {"path": "a"}
    kept = Store.objects.create(region_id="cn-beijing", url="file:///a", options=options, attached_at="2026-01-01T00Z")
    with CaptureQueriesContext(connection) as seen:
        found = stores.first(region="cn-beijing")
        assert found.region.name == "China (Beijing)"
    assert (found, found.options, found.uuid) == (kept, options, kept.uuid)
    assert len(seen) == 1 and not found._state.adding
