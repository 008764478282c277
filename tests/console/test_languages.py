"""The console in Chinese: a catalogue without a hole, a choice that stays, and nothing that breaks by it."""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from django.conf import settings
from django.db.models import TextChoices
from django.test import Client
from django.urls import reverse
from django.utils import translation

from backups.engines.sqlserver.checksums import Level
from backups.events import By
from backups.keeping import holds
from backups.models import (
    Arrival,
    BackupFile,
    BackupJob,
    BackupMethod,
    BillingMethod,
    CancelReason,
    Copy,
    Edition,
    Family,
    Kind,
    LogGap,
    LogStream,
    Restore,
    SetStatus,
    Transfer,
)
from billing.models import ItemCode
from console.budgets.tables import BudgetTable
from console.stores.landing_tables import LandingTable
from console.widgets import labels, words
from regions.catalog import CATALOG
from regions.models import Region
from tests.console.fleet import Fleet

FOLDER = Path(settings.LOCALE_PATHS[0]) / "zh_Hans" / "LC_MESSAGES"
FIELD = re.compile(r'(?:(msgctxt|msgid|msgid_plural|msgstr)(?:\[\d\])? )?(".*")')
PLACEHOLDER = re.compile(r"%%|%\(\w+\)[a-z]|%[a-z]")
TAG = re.compile(r"</?\w+>")
SHOWN = [
    *(Arrival, BackupFile.State, BackupJob.State, BackupJob.Reason, BackupMethod, BillingMethod, CancelReason),
    *(Copy.Origin, Edition, Family, ItemCode, Kind, LogGap.Healing, LogStream.State, Region.Scope),
    *(Restore.Origin, Restore.State, SetStatus, Transfer.State),
]


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    """A request leaves its language behind in the thread; the next test must not find it."""
    with translation.override("en"):
        yield


@dataclass(frozen=True)
class Entry:
    """One message of the .po file."""

    msgid: str
    msgid_plural: str
    msgstr: str
    msgctxt: str
    comments: str


def entries() -> list[Entry]:
    """Read the .po file, its head left out."""
    blocks = (FOLDER / "django.po").read_text().strip().split("\n\n")
    return [_entry(block) for block in blocks[1:]]


def _entry(block: str) -> Entry:
    said = dict.fromkeys(("msgid", "msgid_plural", "msgstr", "msgctxt"), "")
    lines = block.splitlines()
    name = ""
    for line in lines:
        if found := FIELD.fullmatch(line):
            name = found[1] or name
            said[name] += ast.literal_eval(found[2])
    return Entry(**said, comments="\n".join(line for line in lines if line.startswith("#")))


def test_everything_that_was_found_is_translated() -> None:
    found = entries()
    assert len(found) > 500
    assert [entry.msgid for entry in found if not entry.msgstr.strip()] == []
    assert [entry.msgid for entry in found if "fuzzy" in entry.comments] == []


def test_placeholders_and_tags_survive_translation() -> None:
    def parts(text: str) -> list[str]:
        return sorted(PLACEHOLDER.findall(text) + TAG.findall(text))

    assert [entry.msgid for entry in entries() if parts(entry.msgid) != parts(entry.msgstr)] == []


def test_what_is_compiled_is_what_is_written() -> None:
    with (FOLDER / "django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    found = entries()
    for entry in found:
        assert _compiled(compiled, entry) == entry.msgstr
    assert len([key for key in compiled._catalog if key]) == len(found)


def _compiled(catalogue: gettext.GNUTranslations, entry: Entry) -> str:
    if entry.msgid_plural:
        return catalogue.ngettext(entry.msgid, entry.msgid_plural, 2)
    return catalogue.pgettext(entry.msgctxt, entry.msgid) if entry.msgctxt else catalogue.gettext(entry.msgid)


@pytest.mark.parametrize("kind", SHOWN, ids=lambda kind: kind.__qualname__)
def test_every_label_of_a_model_has_its_word(kind: type[TextChoices]) -> None:
    known = {entry.msgid for entry in entries()}
    assert set(kind.labels) <= known


def test_every_region_and_every_proof_has_its_word() -> None:
    known = {entry.msgid for entry in entries()}
    assert {entry.name for entry in CATALOG} <= known
    assert {level.value for level in Level} <= known


def test_a_label_nobody_translated_stays_as_it_is() -> None:
    with translation.override("zh-hans"):
        assert labels.translated("China (Hangzhou)") == "华东1（杭州）"
        assert labels.translated("Our own cellar") == "Our own cellar"
        assert labels.translated("") == ""
        assert words.lasting(11_700) == "3 小时 15 分钟"


@pytest.mark.django_db
def test_a_language_once_chosen_stays(desk: Client, fleet: Fleet) -> None:
    fleet.everything()
    here = reverse("backup_instances:list")
    assert '<html lang="en"' in desk.get(here).content.decode()
    answer = desk.post(reverse("set_language"), {"language": "zh-hans"}, HTTP_REFERER=f"http://testserver{here}?q=or")
    assert (answer.status_code, answer.url) == (302, f"http://testserver{here}?q=or")
    assert desk.cookies[settings.LANGUAGE_COOKIE_NAME]["max-age"] == 365 * 86_400
    shown = desk.get(here).content.decode()
    assert '<html lang="zh-hans"' in shown
    for word in ("备份实例", "待备份实例", "跨地域备份", "备份地域", "华东2（上海）"):
        assert word in shown
    assert "跨境合规承诺" in desk.get(reverse("agreement:page")).content.decode()
    desk.post(reverse("set_language"), {"language": "en"})
    assert "Pending Instances" in desk.get(here).content.decode()


@pytest.mark.django_db
def test_the_language_can_be_chosen_before_signing_in(client: Client) -> None:
    door = reverse("account_login")
    assert "简体中文" in client.get(door).content.decode()
    answer = client.post(reverse("set_language"), {"language": "zh-hans"}, HTTP_REFERER=f"http://testserver{door}")
    assert (answer.status_code, answer.url) == (302, f"http://testserver{door}")
    shown = client.get(door).content.decode()
    assert "数据库实例的跨地域备份" in shown
    assert ">English</button>" in shown


@pytest.mark.django_db
def test_a_chinese_browser_is_answered_in_chinese(client: Client) -> None:
    shown = client.get(reverse("account_login"), HTTP_ACCEPT_LANGUAGE="zh-CN,zh;q=0.9,en;q=0.8").content.decode()
    assert '<html lang="zh-hans"' in shown


HALF_WIDTH = re.compile(r"[\u4e00-\u9fff”）][,;:!?]|[,;:!?] ?[\u4e00-\u9fff“（]")
MEANT_SO = {"是,否"}  # what the filter yesno reads


def test_chinese_is_punctuated_as_chinese_is() -> None:
    assert HALF_WIDTH.search("尚未登记,请登记") and not HALF_WIDTH.search("尚未登记，请登记")
    wrong = [said for entry in entries() if HALF_WIDTH.search(said := entry.msgstr) and said not in MEANT_SO]
    assert wrong == []


@pytest.mark.django_db
@pytest.mark.parametrize("language", ["tlh", "zh-hant", "../../etc", "x" * 1000, "%00", ""])
def test_an_unknown_language_is_harmless(desk: Client, language: str) -> None:
    desk.post(reverse("set_language"), {"language": language})
    desk.cookies[settings.LANGUAGE_COOKIE_NAME] = language
    answer = desk.get(reverse("overview:page"))
    assert answer.status_code == 200
    assert '<html lang="' in answer.content.decode()


@pytest.mark.django_db
def test_the_choice_leads_to_no_other_site(client: Client) -> None:
    answer = client.post(reverse("set_language"), {"language": "en", "next": "https://example.com/"})
    assert answer.url == "/"


@pytest.mark.django_db
def test_every_page_is_shown_in_chinese(desk: Client, fleet: Fleet) -> None:
    """Every lazy word, plural and placeholder is filled in somewhere on these."""
    fleet.everything()
    desk.cookies[settings.LANGUAGE_COOKIE_NAME] = "zh-hans"
    for name in (
        *("overview:page", "instances:list", "instances:add", "stores:list", "pending_instances:list"),
        *("backup_sets:list", "agreement:page", "agreement:standing", "activity:list", "activity:alerts"),
        *("restores:list", "restores:new", "restores:recovery"),
    ):
        answer = desk.get(reverse(name))
        assert answer.status_code == 200
        assert "%(" not in answer.content.decode()


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_amounts_and_counts_are_grouped_by_thousands(language: str) -> None:
    """Django's own Chinese formats group nothing."""
    with translation.override(language):
        assert (words.dollars(Decimal("-1234567.5")), words.count(1_234_567)) == ("$-1,234,567.50", "1,234,567")


@pytest.mark.django_db
def test_one_english_word_is_two_where_chinese_has_two(client: Client, fleet: Fleet) -> None:
    """A hold is lifted and an instance is let go; a share is a folder, or a part of the whole."""
    copy = Copy.objects.filter(set__instance=fleet.protected("orders", copies=1)).get()
    client.force_login(fleet.root())
    holds.place(copy, "HR-1", By(fleet.user, "127.0.0.1"))
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "zh-hans"
    page = client.get(reverse("backup_sets:page", args=[copy.set_id])).content.decode()
    assert ">解除</a>" in page and ">释放</a>" not in page
    assert "释放" in client.get(reverse("instances:page", args=[copy.set.instance.code])).content.decode()
    with translation.override("zh-hans"):
        assert str(LandingTable.base_columns["share_called"].verbose_name) == "共享目录"
        assert str(BudgetTable.base_columns["share"].verbose_name) == "占比"
