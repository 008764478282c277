"""Alerts and events in Chinese: shown in the language of the page, written and sent in English (decision 88)."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from itertools import product
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import translation

from backups import alerts, events, seals
from backups.keeping.retention import KEPT_PAST
from backups.models import AgreementText, Alert, Drill, Event, Kind, PolicyKind
from console.widgets import words
from console.widgets.notes import in_few_words
from console.widgets.told import is_listed, told
from regions.models import Store
from tests.console.fleet import Fleet

ROOT = Path(settings.BASE_DIR)
WRITERS = [path for app in ("backups", "billing", "console", "regions") for path in (ROOT / app).rglob("*.py")]
MOMENTS = {"%Y-%m-%d %H:%M": "2026-01-02 03:04", "%Y-%m-%d %H:%M:%S": "2026-01-02 03:04:05", "%B %Y": "January 2026"}
SET = "sales full 2026-11-27 20:10:00"


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    with translation.override("en"):
        yield


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (
            f"The copy of {SET} to China (Shanghai) failed: The disk is full.",
            "sales 2026-11-27 20:10:00 的全量备份到华东2（上海）的复制失败：The disk is full.",
        ),
        (
            f"The backup {SET} will not reach its destination: The file vanished from its source.",
            "sales 2026-11-27 20:10:00 的全量备份不会到达备份地域：源存储中的文件已消失。",
        ),
        (
            "orders is suspended: no new backups are copied. Shared instance types are not supported.",
            "orders 已暂停：不再复制新的备份。不支持共享型实例。",
        ),
        (
            "80 % of the budget of the whole fleet for November 2026 is spent: its 10.00 USD a month.",
            "全部实例 2026年11月 的预算已用 80 %：每月 10.00 USD。",
        ),
        ("The copy of 7 is kept: last good copy.", "7的副本继续保留：最后一个可用副本。"),
        ("Somebody's own plug-in said this.", "Somebody's own plug-in said this."),
        ("Full was released.", "已释放 Full。"),
        ("100%(n)s was released.", "已释放 100%(n)s。"),
        ("a\nb was released.", "已释放 a\N{REPLACEMENT CHARACTER}b。"),
        ("", ""),
    ],
)
def test_a_sentence_is_said_in_the_language_of_the_page(written: str, shown: str) -> None:
    with translation.override("zh-hans"):
        assert told(written) == shown
    assert told(written) == written.replace("\n", "\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize(
    "written",
    [
        "The logs of " + ", a from 2026-01-01 00:00:00 to 2026-01-01 00:00:00 UTC are missing in " * 27,
        "The copy of " + " to x failed: " * 140,
        "The copy of " + " to x" * 390,
        "Carrying it again failed: " * 76,
        "x: " * 600_000,
    ],
)
def test_no_name_makes_a_page_wait(written: str) -> None:
    """Patterns that tried a name's every end would not come to an end of these in a lifetime."""
    with translation.override("zh-hans"):
        assert told(written)


@pytest.mark.django_db
def test_alerts_and_events_are_shown_in_chinese_and_kept_in_english(client: Client, fleet: Fleet) -> None:
    orders = fleet.protected("orders", copies=1)
    what = "orders has waited more than 24 hours for a full backup; nothing of it can be restored elsewhere."
    remedy = "Take a full backup of it now."
    alerts.open_alert("waiting_for_full", f"instance:{orders.pk}", what, remedy=remedy, instance=orders)
    event = events.record("instance.released", "orders was released.", instance=orders)
    seals.seal_events()
    client.force_login(fleet.root())
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "zh-hans"
    for name in ("overview:page", "activity:alerts", "instances:list"):
        page = client.get(reverse(name)).content.decode()
        assert "orders 等待全量备份已超过 24 小时；在其他地域无法恢复它的任何内容。" in page
        assert "请立即对其执行全量备份。" in page and what not in page
    for name in ("overview:page", "activity:list"):
        assert "已释放 orders。" in client.get(reverse(name)).content.decode()
    exported = b"".join(client.get(reverse("activity:export")).streaming_content).decode()
    assert "orders was released." in exported and "已释放" not in exported
    with translation.override("zh-hans"), pytest.raises(SystemExit):  # for something is wrong
        call_command("status", "--json", stdout=(said := StringIO()))
    assert what in [one["sentence"] for one in json.loads(said.getvalue())["alerts"]]
    assert Event.objects.get(pk=event.pk).sentence == "orders was released."
    assert Alert.objects.get().sentence == what and list(seals.breaches()) == []


# ---- nothing is written that is not listed

MADE_OF_WORDS = {  # their words come from elsewhere; the whole of each is looked at below
    "7 backup is no longer suspended.",
    "7 backup was suspended. 7",
    "7 7 was 7 in the admin.",
    "7 7 was 7 in the admin: 7.",
    "7 was asked for: 7.",
    "7 was changed: 7.",
    "7 was made: 7.",
    "7 was removed.",
    "A restore of 7 as of 2026-01-02 03:04:05 UTC 7 in 7 was asked for.",
    "Agreement 7 was published.",
    "Look at its backup job; 7",
    "The copy of 7 is kept: 7.",
    "The drill of 7 (7) 7: 7",
    "The gap in the logs 7 is healed.",
    "The logs 7 are missing in 7.",
    "The logs 7 are missing in 7: no moment between can be restored.",
    "The logs 7 are missing in 7: no moment between can be restored. 7",
    "The store of 7 is 7: 7",
}


def test_what_is_written_is_listed() -> None:
    """A sentence that somebody rewords, or writes anew, is found here and not on a Chinese page."""
    written = {text for path in WRITERS if "migrations" not in path.parts for text in _written(path)}
    assert len(written) > 150
    assert {text for text in written if not is_listed(text)} == MADE_OF_WORDS


def _whole() -> Iterator[str]:
    limits = "from 2026-01-02 03:04:05 to 2026-01-02 04:04:05 UTC"
    for whose in ("of orders", "of orders, sales"):
        yield f"The gap in the logs {whose} {limits} is healed."
        yield f"The logs {whose} {limits} are missing in China (Shanghai)."
        yield f"The logs {whose} {limits} are missing in China (Shanghai): no moment between can be restored."
    for kind in PolicyKind.labels:
        yield f"{kind} backup is no longer suspended."
        yield f"{kind} backup was suspended. Shared instance types are not supported."
    for why in KEPT_PAST.values():
        yield f"The copy of {SET} is kept: {why}."
    for state in (Store.State.UNREACHABLE, Store.State.REFUSED):
        yield f"The store of China (Shanghai) is {state.label.lower()}: no route."
    for state in (Drill.State.PASSED, Drill.State.FAILED, Drill.State.SKIPPED):
        yield f"The drill of orders (the newest moment) {state}: it was so."
    for where in ("into new", "into new on landing", "onto orders itself", "beside the databases of new, as sales2,"):
        yield f"A restore of orders as of 2026-01-02 03:04:05 UTC {where} in China (Shanghai) was asked for."
    for what in ("A full backup", "A log backup of sales", "A backup (differential)", "A full backup of the secondary"):
        yield f"{what} was asked for: timetable."
    for what in ("was made: 10 USD a month", "was changed: 10 USD a month", "was removed"):
        yield f"The budget of the whole fleet {what}."
    for what in ("added", "changed", "deleted"):
        yield f"Price 7 was {what} in the admin."
    yield "Price 7 was changed in the admin: amount."
    yield f"Agreement {AgreementText(version=2, language='en')} was published."
    yield "ada had accepted the agreement, version 7, for orders on 2026-01-02T03:04:05+00:00."
    yield "Look at its backup job; nothing has been found in its store."
    yield "Look at its backup job; the last attempt said: no."


def test_what_is_made_of_words_is_listed_whole() -> None:
    told_whole = list(_whole())
    assert [text for text in told_whole if not is_listed(text)] == []
    with translation.override("zh-hans"):
        assert [text for text in told_whole if told(text) == text] == []


@pytest.mark.parametrize("word", [Kind.FULL, Kind.LOG, "differential", "incremental"])
def test_a_set_is_called_as_it_is_written(word: str) -> None:
    assert is_listed(f"sales {word} 2026-01-02 03:04:05")


def _written(path: Path) -> Iterator[str]:
    module = ast.parse(path.read_text())
    constants = _assigned(module.body)
    for function in (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)):
        names = constants | _assigned(ast.walk(function))
        for said in (text for node in ast.walk(function) for text in _sentences(node)):
            yield from (text for text in _texts(said, names) if any(letter.isalpha() for letter in text))


def _assigned(nodes: Sequence[ast.AST] | Iterator[ast.AST]) -> dict[str, list[ast.expr]]:
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    return found


def _sentences(node: ast.AST) -> list[ast.expr]:
    """Return what a node says in an alert or an event: the arguments of their verbs, the words of `alerts.keep`."""
    if isinstance(node, ast.Dict):
        said = {
            key.value: value for key, value in zip(node.keys, node.values, strict=True) if isinstance(key, ast.Constant)
        }
        return [said[name] for name in ("sentence", "remedy") if name in said and "sentence" in said]
    if not isinstance(node, ast.Call):
        return []
    verb = ast.unparse(node.func)
    if verb.endswith("open_alert"):
        return [*node.args[2:3], *(word.value for word in node.keywords if word.arg == "remedy")]
    return node.args[1:2] if verb.endswith(("events.record", "_record")) else []


def _texts(said: ast.AST, names: Mapping[str, list[ast.expr]]) -> list[str]:
    """Return what an expression may say, with a 7 for each fact in it."""
    if isinstance(said, ast.Constant) and isinstance(said.value, str):
        return [said.value]
    if isinstance(said, ast.FormattedValue):
        form = ast.unparse(said.format_spec)[2:-1] if said.format_spec else ""
        return [MOMENTS[form]] if form in MOMENTS else _texts(said.value, names)
    if isinstance(said, ast.JoinedStr):
        return ["".join(parts) for parts in product(*(_texts(part, names) for part in said.values))]
    if isinstance(said, ast.BinOp) and isinstance(said.op, ast.Add):
        return [one + other for one, other in product(_texts(said.left, names), _texts(said.right, names))]
    if isinstance(said, ast.IfExp):
        return [*_texts(said.body, names), *_texts(said.orelse, names)]
    if isinstance(said, ast.Call) and ast.unparse(said.func).endswith("speakable"):
        return _texts(said.args[0], names)
    if isinstance(said, ast.Name):
        known = [
            value
            for value in names.get(said.id, [])
            if said.id not in {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
        ]
        return [text for value in known for text in _texts(value, names)] or ["7"]
    return ["7"]


# ---- what is parted


@pytest.mark.django_db
def test_lists_and_heads_are_parted_as_chinese_parts_them(desk: Client, fleet: Fleet) -> None:
    few = [fleet.protected(name, copies=1) for name in ("orders", "ledger")]
    spoken = {"headers": {"accept-language": "zh-hans"}, "HTTP_HX_REQUEST": "true"}
    opened = desk.get(reverse("backup_settings:dialog"), {"pick": [one.pk for one in few]}, **spoken)
    head = opened.content.decode().split("<header>")[1].split("</header>")[0]
    assert "2 个实例，" in head
    with translation.override("zh-hans"):
        assert in_few_words(["orders", "ledger"]) == "orders、ledger"
        assert words.listed(f"i{n}" for n in range(3)) == "i0、i1、i2"
    with translation.override("en"):
        assert in_few_words(["orders", "ledger"]) == "orders, ledger"
