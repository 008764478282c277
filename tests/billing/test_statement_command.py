"""`manage.py statement` and the ledger's part of `manage.py audit`."""

from __future__ import annotations

import csv
import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from backups.keeping import retention
from backups.models import Copy, StorageSpan
from billing import audit
from billing.models import ItemCode
from regions import clock
from tests.backups.world import TARGET, World, make
from tests.billing.facts import GB, backup_of, copy_of, instance_in, policy_of, reprice

pytestmark = pytest.mark.django_db


def said(*words: str) -> str:
    out = StringIO()
    call_command("statement", *words, stdout=out)
    return out.getvalue()


@pytest.fixture
def copied() -> Copy:
    instance = instance_in(name="=cmd|' /C calc'!A0")
    return copy_of(backup_of(instance, size=100 * GB), policy_of(instance), days=1)


def test_a_month_without_lines_is_a_heading_and_its_sum() -> None:
    *rows, last = said().splitlines()
    assert last.startswith(f"{clock.now():%Y-%m} (open, so far): 0.00 USD")
    assert rows[0].split() == ["item_code", "instance", "source", "destination", "quantity", "unit", "price", "amount"]


def test_a_month_before_the_first_bill_is_not_said_to_be_open(copied: Copy) -> None:
    assert said("1999-01").splitlines()[-1].startswith("1999-01 (before the first bill): 0.00 USD")


def test_what_is_no_month_is_refused_with_how_one_is_written() -> None:
    with pytest.raises(CommandError, match="2026-13 is no month. Write YYYY-MM, such as 2026-10."):
        said("2026-13")


def test_json_and_csv_say_the_same_and_no_cell_is_a_formula(copied: Copy) -> None:
    at = copied.completed_at.replace(year=2025)
    Copy.objects.update(completed_at=at, expires_at=at + retention.DAY)
    StorageSpan.objects.update(began_at=at)
    told = json.loads(said("2025-03", "--json"))
    rows = list(csv.DictReader(StringIO(said("2025-03", "--csv"))))
    assert [(line["item_code"], line["amount"]) for line in told["lines"]] == [
        ("DdrOssStorageSize", "0.48"),
        ("NetworkOutDuplicationSize", "19.00"),
    ]
    assert (told["amount"], told["state"], told["lines_without_price"]) == ("19.48", "open", 0)
    assert [(row["item_code"], row["amount"]) for row in rows] == [
        (line["item_code"], line["amount"]) for line in told["lines"]
    ]
    assert {row["name"] for row in rows} == {"'=cmd|' /C calc'!A0"}
    assert "19.00" in said("2025-03") and "19.48 USD" in said("2025-03")


def test_a_line_without_a_price_says_so(copied: Copy) -> None:
    at = copied.completed_at.replace(year=2025)
    Copy.objects.update(completed_at=at, expires_at=at + retention.DAY)
    StorageSpan.objects.update(began_at=at)
    reprice(ItemCode.TRAFFIC, source="cn-beijing", destination="ap-southeast-1")
    assert "no price" in said("2025-03")
    assert "1 lines without a price" in said("2025-03")
    assert json.loads(said("2025-03", "--json"))["lines"][1]["amount"] is None


@pytest.mark.parametrize("month", ["2027-13", "March", "9999-01"])
def test_what_is_no_month_or_has_not_begun_is_refused(month: str) -> None:
    with pytest.raises(CommandError):
        said(month)


# ---- the audit, over what the real code wrote


@pytest.fixture
def world(tmp_path: object) -> World:
    return make(tmp_path)


@pytest.fixture
def arrived(world: World) -> Copy:
    instance = world.instance()
    world.enable(instance, TARGET)
    return world.arrived(instance)


def test_what_the_copier_wrote_is_what_is_charged(arrived: Copy) -> None:
    assert list(audit.breaches()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("bytes", "is not what was recorded"),
        ("gone", "nothing was charged"),
    ],
)
def test_a_span_that_is_not_what_was_recorded_is_found(arrived: Copy, change: str, words: str) -> None:
    spans = StorageSpan.objects.filter(copy=arrived)
    if change == "bytes":
        spans.update(bytes=1)
    else:
        spans.delete()
    assert any(words in sentence for sentence in audit.spans_against_events())


def test_bytes_that_are_charged_twice_are_found(arrived: Copy) -> None:
    Copy.objects.update(stored_bytes=2 * arrived.stored_bytes)
    assert [name for name, _ in audit.breaches()] == ["I11 bytes"]
