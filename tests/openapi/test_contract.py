"""An answer leaves in the declared names, types and nesting, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from console.openapi.contract import CONTRACT, EMPTY, ContractBroken, fit

WHOLE = {"RegionId": "cn-hangzhou", "Items": {"Item": [{"CrossBackupId": 7}]}, "PageNumber": 1}


def test_what_is_not_said_is_there_and_empty() -> None:
    found = fit("DescribeCrossRegionBackups", WHOLE)
    [item] = found["Items"]["Item"]
    assert (item["CrossBackupId"], item["CrossBackupSetFile"], item["RestoreRegions"]) == (7, "", {"RestoreRegion": []})
    assert found["TotalRecordCount"] == 0 and set(found) == set(CONTRACT["DescribeCrossRegionBackups"]["resp"])


def test_two_answers_share_nothing() -> None:
    first, second = fit("DescribeCrossRegionBackups", {}), fit("DescribeCrossRegionBackups", {})
    first["Items"]["Item"].append("mine")
    assert second["Items"]["Item"] == []


@pytest.mark.parametrize(
    "broken",
    [
        {"Regionid": "cn-hangzhou"},
        {"PageNumber": "1"},
        {"PageNumber": True},
        {"RegionId": 7},
        {"Items": []},
        {"Items": {"Item": {}}},
        {"Items": {"Item": [[]]}},
        {"Items": {"Items": []}},
        {"Items": {"Item": [{"CrossBackupId": "7"}]}},
        {"Items": {"Item": [{"RestoreRegions": ["cn-shanghai"]}]}},
        {"Items": {"Item": [{"RestoreRegions": {"RestoreRegion": [7]}}]}},
    ],
)
def test_a_wrong_name_type_or_nesting_is_refused(broken: Any) -> None:
    with pytest.raises(ContractBroken):
        fit("DescribeCrossRegionBackups", WHOLE | broken)


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_every_declared_field_is_there_in_its_type(name: str) -> None:
    assert _odd(CONTRACT[name]["resp"], fit(name, {})) == []


def _odd(fields: Any, said: Any) -> list[str]:
    odd = [name for name in fields if name not in said]
    for name, declared in fields.items():
        if declared["type"] == "object":
            odd += _odd(declared["fields"], said[name])
        elif said[name] != EMPTY.get(declared["type"], []):
            odd.append(name)
    return odd
