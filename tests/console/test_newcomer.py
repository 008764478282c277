"""What somebody reads who sees the console for the first time: each sentence is true of what it stands beside."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from backups import events
from backups.chains import windows
from backups.default_backups import discovery
from backups.drilling.trial import counted
from backups.engines import engine_of
from backups.models import Copy, CopyPolicy, DrillQuery, Instance, Kind, Membership, Restore, Role
from billing.forecast import Amount
from console.budgets.money import said
from console.webhooks import posting
from console.widgets.words import expected
from regions.refusals import Refusal
from tests.console.crossed_logs import copied
from tests.console.fleet import DAY, SOURCE, TARGET, Fleet

HOUR = timedelta(hours=1)
DIALOG = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "dialog-body"}


def words(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def page_of(instance: Instance) -> str:
    return reverse("instances:page", args=[instance.code])


# ---- no copy


COMING = "No copy yet. The next default backup that finishes is copied by itself."


def test_without_a_copy_the_page_says_why_and_what_leads_on(desk: Client, fleet: Fleet) -> None:
    bare, enabled, off, gone = (fleet.instance(name) for name in ("bare", "enabled", "off", "gone"))
    fleet.policy(enabled)
    fleet.policy(off, enabled=False)
    Instance.objects.filter(pk=gone.pk).update(released_at=fleet.now)
    CopyPolicy.objects.update(enabled_at=fleet.now)
    assert "No copy yet. The next full backup that finishes is copied by itself." in words(desk.get(page_of(enabled)))
    shown = words(desk.get(page_of(bare)))
    assert "this instance is not set up" in shown and 'href="/backups/pending/">Pending Instances' in shown
    shown = words(desk.get(page_of(off)))
    assert "copying of this instance is disabled" in shown
    assert "No copy is left of this released instance" in words(desk.get(page_of(gone)))
    for instance in (bare, off, gone):
        assert COMING not in words(desk.get(page_of(instance))), instance.name


def test_nothing_is_kept_until_a_day_that_is_not_there(desk: Client, fleet: Fleet) -> None:
    bare, off = fleet.instance("bare"), fleet.instance("off")
    fleet.policy(off, enabled=False)
    Instance.objects.filter(pk=bare.pk).update(released_at=fleet.now)
    shown = words(desk.get("/instances/")) + words(desk.get(page_of(bare))) + words(desk.get(page_of(off)))
    assert "no copy of it is left" in shown
    assert "kept until —" not in shown and "expires —" not in shown


# ---- a retention that was shortened


@pytest.mark.parametrize("expires", [True, False])
def test_files_are_said_to_have_expired_only_where_some_have(desk: Client, fleet: Fleet, expires: bool) -> None:
    instance = fleet.protected("orders", days=7)
    facts = {"former_retention_days": 30, "shortened_at": fleet.now - HOUR}
    instance.policies.update(**facts)
    if expires:
        Copy.objects.filter(set__instance=instance).update(
            state="expired", expired_at=fleet.now - HOUR, purge_at=fleet.now + DAY
        )
    shown = words(desk.get(page_of(instance)))
    assert "The retention was shortened from 30 to 7 days" in shown and ">Undo<" in shown
    assert ("Files that expired by it" in shown) is expires
    assert ("No file has expired by it." in shown) is not expires


# ---- two measures


def test_how_long_a_backup_waits_is_not_called_what_the_restorable_moment_is(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("late", engine="postgresql")
    fleet.copy(fleet.backup(instance, age=20 * HOUR), fleet.policy(instance), state="planned")
    shown = words(desk.get("/"))
    assert "Oldest not copied yet</p>" in shown and ">20 h</b>" in shown
    assert "Furthest behind" not in shown


# ---- questions to drills


ENGINES = ("postgresql", "mariadb", "sqlserver")
NEVER = ("DROP TABLE x", "SELECT 1; DROP TABLE x", "7" * 7000, "SELECT 1 INTO y", "", "-- SELECT 1", "COMMIT")
READ = ("select 1;", "WITH a AS (SELECT ';' AS x) SELECT x FROM a", "(SELECT 1) -- ; delete from", "SELECT 1 /* ; */")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_question_that_no_server_could_answer_is_refused_when_it_is_entered(
    desk: Client, fleet: Fleet, engine: str
) -> None:
    shop = fleet.instance("shop", engine=engine)
    where = reverse("drills:add_query", args=[shop.code])
    for sql in NEVER:
        shown = words(desk.post(where, {"database": "shop", "sql": sql, "expected": "1"}, **DIALOG))
        assert 'aria-invalid="true"' in shown, sql[:40]
    assert not DrillQuery.objects.exists()
    for sql in READ:
        assert desk.post(where, {"database": "shop", "sql": sql, "expected": "1"}, **DIALOG).status_code == 204, sql
    assert DrillQuery.objects.count() == len(READ)


@pytest.mark.parametrize(
    ("engine", "sql"),
    [
        ("postgresql", r"SELECT E'it\'s; here' AS said, $x$ into; $x$"),
        ("postgresql", 'SELECT "into" FROM orders'),
        ("postgresql", "SELECT update FROM orders"),
        ("mariadb", r"SELECT 'it\'s; here', `into`, INSERT('a', 1, 1, 'b') # ; delete from"),
        ("mariadb", "SHOW TABLES"),
    ],
)
def test_each_dialect_quotes_in_its_own_way(engine: str, sql: str) -> None:
    assert engine_of(engine).why_not_ask(sql) is None


def test_the_same_question_is_asked_once(desk: Client, fleet: Fleet) -> None:
    shop = fleet.instance("shop", engine="postgresql")
    where = reverse("drills:add_query", args=[shop.code])
    said = {"database": "shop", "sql": "SELECT max(id)\nFROM orders", "expected": "7"}
    assert desk.post(where, said, **DIALOG).status_code == 204
    again = words(desk.post(where, said | {"sql": "SELECT max(id) FROM orders ", "expected": "8"}, **DIALOG))
    assert "ask this already, and 7 is expected" in again
    assert desk.post(where, said | {"database": "other"}, **DIALOG).status_code == 204
    assert DrillQuery.objects.count() == 2


# ---- figures and words


def test_a_month_without_a_bill_says_so(desk: Client, fleet: Fleet) -> None:
    fleet.user.memberships.update(role="billing")
    answer = desk.get("/bills/?month=1999-01")
    assert answer.status_code == 404
    assert "No bill of that month." in words(answer) and 'href="/bills/"' in words(answer)


@pytest.mark.parametrize(
    ("rows", "tables", "sentence"),
    [(4345, 1, "4,345 rows in 1 table"), (1, 2, "1 row in 2 tables"), (0, 0, "0 rows in 0 tables")],
)
def test_what_a_drill_counted_is_said_in_the_right_number(rows: int, tables: int, sentence: str) -> None:
    assert counted(rows, tables) == sentence


def test_a_drill_on_a_landing_server_speaks_of_a_database(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders")
    stages = {"download": 1.5, "full": 2.0, "differential": 1.0, "log": 0.5, "recover": 0.1, "recovery": 5.1}
    drill = fleet.drill(instance, seconds=stages, isolation="landing")
    drill.evidence["removed"] = True
    drill.save(update_fields=["evidence"])
    shown = words(desk.get(reverse("drills:page", args=[drill.pk])))
    for stage in ("Bringing the files to the share", "Restoring the full backup", "Bringing the database online"):
        assert f"<dt>{stage}</dt>" in shown, stage
    assert "the database and its files on the share were gone" in shown and "its folder" not in shown
    for raw in ("<dt>download</dt>", "<dt>full</dt>", "<dt>log</dt>", "<dt>recover</dt>"):
        assert raw not in shown, raw


def test_a_proof_is_told_once_however_often_its_instance_is_named(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("loyalty")
    fleet.drill(instance)
    for _ in range(3):
        events.record("instance.released", "loyalty was released.", instance=instance)
    for page in ("/activity/", "/"):
        shown = words(desk.get(page))
        told = shown[shown.index("loyalty was released.") :]
        assert told.count("Last proven restore") == 1, page
    overview = words(desk.get("/"))
    assert 'loyalty was released. <a class="quiet"' in overview
    assert "loyalty was released. <a" in overview and ">Show it<" in overview


def test_a_backup_that_is_kept_offers_nothing_but_to_close(desk: Client, fleet: Fleet) -> None:
    found = fleet.backup(fleet.instance("orders"))
    dialog = words(desk.get(reverse("backup_sets:delete", args=[found.pk]), **DIALOG))
    assert "It cannot be deleted now." in dialog
    assert "data-close>Close</button>" in dialog and ">Cancel<" not in dialog and 'type="submit"' not in dialog


def test_large_amounts_are_told_with_separators(desk: Client, fleet: Fleet) -> None:
    told = said(Amount(known=Decimal("9999999999.99")))
    assert "$9,999,999,999.99" in told


def test_less_than_a_second_is_not_said_to_be_none() -> None:
    assert expected(0.3) == "under a second"
    assert expected(61) == "about 1 min"


def test_an_address_that_is_not_encrypted_is_refused_for_that(settings: Any) -> None:
    settings.FARSHORE_ALLOW_LOOPBACK = True
    with pytest.raises(Refusal, match="https://"):
        posting.checked("http://no-such-host.invalid/")
    assert posting.checked("http://127.0.0.1:9/") == "http://127.0.0.1:9/"


def test_the_admin_speaks_of_drill_queries(admin_client: Client) -> None:
    shown = words(admin_client.get("/admin/"))
    assert "Drill queries" in shown and "Drill querys" not in shown


# ---- where backups come from


@pytest.mark.parametrize("prefix", ["../../etc/", "/abs/", "a//b/", "a/./b/", "a/../b/", "a\x07b/", "//", "x/.."])
def test_a_prefix_that_no_store_has_is_refused_wherever_it_is_written(fleet: Fleet, prefix: str) -> None:
    refusal = discovery.check_prefixes(Instance(name="new", region_id=SOURCE, prefixes=["sql/new/", prefix]))
    assert refusal.field == "prefixes" and repr(prefix) in refusal.sentence
    for usual in ("sql/new/", "sql/new", "..hidden/a..b/", "a/b/c"):
        assert discovery.check_prefixes(Instance(name="new", region_id=SOURCE, prefixes=[usual])) is None, usual


@pytest.fixture
def form(fleet: Fleet, tmp_path: Path) -> dict[str, Any]:
    """Of an instance whose source store is a folder with one backup in it."""
    (tmp_path / "sql" / "there").mkdir(parents=True)
    (tmp_path / "sql" / "there" / "a.bak").write_bytes(b"x")
    fleet.stores[SOURCE].url = f"file://{tmp_path}"
    fleet.stores[SOURCE].save()
    facts = {"name": "new", "group": fleet.group.pk, "region": SOURCE, "engine": "sqlserver", "arrival": "found"}
    usual = {"edition": "basic", "family": "dedicated", "billing_method": "subscription"}
    more = {"backup_method": "physical", "timetable_days": list(range(7)), "default_retention_days": 7, "tls": "prefer"}
    return {**facts, **usual, **more, "log_every_minutes": 0, "prefixes": "sql/there/"}


def test_adding_an_instance_warns_of_a_prefix_with_nothing_under_it(desk: Client, form: dict[str, Any]) -> None:
    assert "leads nowhere in a store" in words(desk.post("/instances/add/", form | {"prefixes": "../../etc/"}))
    assert not Instance.objects.exists()
    asked = words(desk.post(reverse("instances:test"), form | {"prefixes": "sql/there/\nsql/misspelt/"}))
    assert "Nothing lies under sql/misspelt/" in asked and "under sql/there/" not in asked
    added = words(desk.post("/instances/add/", form | {"prefixes": "sql/there/\nsql/misspelt/"}, follow=True))
    assert "new was added. Nothing lies under sql/misspelt/" in added
    assert Instance.objects.get().prefixes == ["sql/there/", "sql/misspelt/"], "a warning, no refusal"


def test_the_page_says_where_backups_come_from_and_how_the_server_is_reached(
    desk: Client, fleet: Fleet, admin_client: Client
) -> None:
    reached = {"host": "db.example.org", "port": 54321, "username": "copier", "sealed_password": b"sealed-secret"}
    instance = fleet.instance("orders", prefixes=["sql/orders/"], **reached)
    shown = words(desk.get(page_of(instance)))
    for said_there in ("sql/orders/", "db.example.org", ">54321<", "copier", "Whoever runs the installation"):
        assert said_there in shown, said_there
    assert "sealed-secret" not in shown
    change = reverse("admin:backups_instance_change", args=[instance.pk])
    assert change not in shown and change in words(admin_client.get(page_of(instance)))


# ---- one moment, one second


def test_a_moment_is_shown_by_one_second_everywhere_and_asked_for_by_it(desk: Client, fleet: Fleet) -> None:
    """What begins within a second is told by it, is had by it, and is restored as of when it really was."""
    instance = fleet.instance("shop", engine="postgresql")
    fleet.policy(instance, logs_enabled=True)
    begin = fleet.now.replace(microsecond=0) - 3 * HOUR + timedelta(milliseconds=600)
    end = begin + HOUR
    copied(fleet, instance, Kind.FULL, 1000, 1010, begin, begin)
    copied(fleet, instance, Kind.LOG, 995, 1020, begin, end)
    windows.rebuild(instance, fleet.stores[TARGET])
    told, later = (f"{at:%Y-%m-%d %H:%M:%S}" for at in (begin, begin + timedelta(seconds=1)))
    wizard = words(desk.get("/backups/restores/new/", {"instance": instance.code}))
    for shown in (wizard, words(desk.get(page_of(instance)))):
        assert told in shown and later not in shown
    asked = {"instance": instance.code, "by": "moment", "until": f"{begin:%Y-%m-%dT%H:%M:%S}", "name": "back"}
    early = asked | {"until": f"{begin - timedelta(seconds=1):%Y-%m-%dT%H:%M:%S}"}
    place = {"place": fleet.stores[TARGET].pk}
    assert f"The first moment that can be restored is {told} UTC" in words(
        desk.post("/backups/restores/new/", early | place)
    )
    assert not Restore.objects.exists()
    desk.post("/backups/restores/new/", asked | place)
    assert Restore.objects.get().until == begin, "not the second before the backup was whole"


# ---- no role yet


def test_who_has_no_role_reads_why_every_list_is_empty_and_whom_to_ask(
    client: Client, desk: Client, fleet: Fleet
) -> None:
    fleet.protected("orders")
    pages = ["overview:page", "instances:list", "pending_instances:list", "activity:list", "restores:list"]
    for name in pages:
        assert "no role in any resource group" not in words(desk.get(reverse(name)))
    colleague = User.objects.create_user("new")
    client.force_login(colleague)
    for name in pages:
        shown = words(client.get(reverse(name)))
        assert "You (new) have no role in any resource group yet" in shown, name
        assert "Ask who runs this installation to give you one." in shown, name
    shown = words(client.get(reverse("overview:page")))
    assert "Begin here" not in shown  # to attach a store and add an instance is not theirs
    Membership.objects.create(user=colleague, group=fleet.group, role=Role.VIEWER)
    shown = words(client.get(reverse("instances:list")))
    assert "no role in any resource group" not in shown and "orders" in shown
