"""What the operations answer: the same rows, permissions and refusals as the pages, in the declared types."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from backups import policies
from backups.chains import windows
from backups.models import (
    BackupJob,
    BackupSet,
    Copy,
    CopyPolicy,
    CopyState,
    Download,
    DownloadLink,
    Event,
    Instance,
    Membership,
    ResourceGroup,
    Restore,
    Role,
    ServiceLinkedRole,
)
from backups.terms import agreements, service_role
from console.openapi.contract import CONTRACT, request_of
from console.openapi.keys import NewSecret
from console.openapi.operations import OPERATIONS
from regions.models import Store
from tests.backups import world as worlds
from tests.console.fleet import FAR, SOURCE, TARGET, Fleet
from tests.openapi.conftest import Ask, key_of
from tests.openapi.signing import acs3, said

pytestmark = pytest.mark.django_db

DESTINATION_FIRST = ("CheckCreateDdrDBInstance", "CreateDdrInstance")  # RegionId is where to


def wish_for(name: str, instance: Instance, copy: Copy) -> dict[str, Any]:
    """Return parameters with which the operation is about this instance."""
    destination = copy.destination_store.region_id
    usual = {
        "DBInstanceId": instance.code,
        "RegionId": destination if name in DESTINATION_FIRST else instance.region_id,
        "Region": instance.region_id,
        "StartTime": "2020-01-01T00:00Z",
        "EndTime": "2100-01-01T00:00:00Z",
        "CrossBackupId": copy.pk,
        "BackupSetId": copy.pk,
        "BackupId": copy.set_id,
        "Retention": 8,
        "RestoreType": "0" if name != "CreateDdrInstance" else "BackupSet",
        "Engine": "SQLServer",
        "EngineVersion": "2022",
        "ServiceLinkedRole": "AliyunServiceRoleForDBS",
    }
    wanted = {one for one, facts in request_of(name).items() if facts.get("required") or facts.get("conditional")}
    wanted |= {"Retention", "Region"} & set(request_of(name))
    wanted -= {"RestoreTime", "SourceRegion", "SourceDBInstanceName"}
    return {one: usual.get(one, "1") for one in wanted}


# ---- the contract


def test_every_operation_there_is_stands_in_the_contract() -> None:
    assert set(OPERATIONS) == set(CONTRACT)


def test_what_is_not_there_is_said_not_to_be(ask: Ask, fleet: Fleet) -> None:
    assert ask("DestroyDBInstance")["Code"] == "InvalidAction.NotFound"


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_what_is_mandatory_is_asked_for_by_its_name(ask: Ask, name: str) -> None:
    required = [one for one, facts in request_of(name).items() if facts.get("required")]
    if required:
        assert ask(name)["Code"] == f"Missing{required[0]}"


# ---- who may what: generated from the table, so that no operation is left out


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_each_operation_asks_for_the_right_role_and_tells_nothing_across_groups(
    client: Client, fleet: Fleet, name: str
) -> None:
    instance = fleet.protected("secret-ledger")
    copy = Copy.objects.filter(set__instance=instance).order_by("pk").last()
    wish, elsewhere = wish_for(name, instance, copy), ResourceGroup.objects.create(name="Elsewhere")
    stranger = User.objects.create_user("lin")
    Membership.objects.create(user=stranger, group=elsewhere, role=Role.OPERATOR)
    Membership.objects.create(user=fleet.user, group=elsewhere, role=Role.OPERATOR)
    callers = {
        "of another group": key_of(stranger),
        "of nobody's group": key_of(User.objects.create_user("nobody")),
        "narrowed to another group": key_of(fleet.user, groups=[elsewhere]),
        "narrowed to no group": key_of(fleet.user, groups=[]),
    }
    service_role.ensure(policies.By(fleet.user))  # the installation's, whichever group asks for it first
    before = _state()
    for who, key in callers.items():
        answer = said(acs3(key, name, wish).send(client))
        told = str({one: value for one, value in answer.items() if one not in ("RegionId", "Region")})
        assert "secret-ledger" not in told and instance.code not in told, (who, told)
    restores = name in DESTINATION_FIRST
    for key in (key_of(fleet.user, reach="viewer"), *_keys_of_others(fleet)):
        answer = said(acs3(key, name, wish).send(client))
        is_open = not OPERATIONS[name].changes and not restores
        assert ("Code" not in answer) if is_open else answer["Code"] == "Forbidden.RAM", answer
    assert _state() == before


def _keys_of_others(fleet: Fleet) -> Iterator[NewSecret]:
    """A key for every role but the operator's."""
    for role in set(Role.values) - {Role.OPERATOR}:
        user = User.objects.create_user(f"a {role}")
        Membership.objects.create(user=user, group=fleet.group, role=role)
        yield key_of(user, accepts_rules=True)


def _state() -> list[int]:
    return [
        BackupJob.objects.count(),
        Restore.objects.count(),
        DownloadLink.objects.count(),
        ServiceLinkedRole.objects.count(),
        *CopyPolicy.objects.values_list("retention_days", flat=True),
    ]


# ---- regions and instances


def test_regions_and_where_copies_may_go(ask: Ask, fleet: Fleet) -> None:
    assert "cn-beijing" in [one["RegionId"] for one in ask("DescribeRegions")["Regions"]["RDSRegion"]]
    assert ask("DescribeAvailableCrossRegion", {"RegionId": SOURCE})["Regions"]["Region"] == [TARGET, FAR]
    Store.objects.filter(region=TARGET).update(state="unreachable")
    assert ask("DescribeAvailableCrossRegion", {"RegionId": SOURCE})["Regions"]["Region"] == [FAR]
    assert ask("DescribeAvailableCrossRegion", {"RegionId": "mars"})["Code"] == "InvalidRegion.Format"


@pytest.mark.parametrize("said", ["0" * 5000, "0" * 20 + "9" * 30, "-", "１", "9" * 20])
def test_a_number_that_is_none_is_refused(ask: Ask, fleet: Fleet, said: str) -> None:
    assert ask("DescribeDBInstances", {"RegionId": SOURCE, "PageNumber": said})["Code"] == "InvalidParameters.Format"


def test_instances_are_listed_by_region_page_and_words(ask: Ask, fleet: Fleet) -> None:
    for n in range(3):
        fleet.instance(f"orders-{n}")
    fleet.instance("far", region_id=FAR)
    found = ask("DescribeDBInstances", {"RegionId": SOURCE, "PageSize": 2})
    assert (found["TotalRecordCount"], found["PageRecordCount"], found["PageNumber"]) == (3, 2, 1)
    last = ask("DescribeDBInstances", {"RegionId": SOURCE, "PageSize": 2, "PageNumber": 2})
    assert [one["DBInstanceDescription"] for one in last["Items"]["DBInstance"]] == ["orders-2"]
    assert ask("DescribeDBInstances", {"RegionId": SOURCE, "SearchKey": "s-1"})["TotalRecordCount"] == 1
    assert ask("DescribeDBInstances", {"RegionId": SOURCE, "Engine": "PostgreSQL"})["TotalRecordCount"] == 0
    beyond = ask("DescribeDBInstances", {"RegionId": SOURCE, "PageNumber": 9})
    assert beyond["Items"]["DBInstance"] == []
    assert ask("DescribeDBInstances", {"RegionId": SOURCE, "PageSize": 101})["Code"] == "InvalidParameters.Format"


def test_an_instance_is_looked_at(ask: Ask, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    [one] = ask("DescribeDBInstanceAttribute", {"DBInstanceId": instance.code})["Items"]["DBInstanceAttribute"]
    assert (one["DBInstanceId"], one["Engine"], one["DBInstanceStatus"]) == (instance.code, "SQLServer", "Running")
    assert ask("DescribeDBInstanceAttribute", {"DBInstanceId": "rm-nothing"})["Code"] == "InvalidDBInstance.NotFound"
    fleet.backup(instance, database="ledger")
    names = ask("DescribeDatabases", {"DBInstanceId": instance.code})["Databases"]["Database"]
    assert [name["DBName"] for name in names] == ["ledger"]


# ---- cross-region backup


def test_a_policy_is_enabled_changed_and_disabled(ask: Ask, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    where = {"RegionId": SOURCE, "DBInstanceId": instance.code}
    modify = "ModifyInstanceCrossBackupPolicy"
    assert ask(modify, where)["Code"] == "ParameterLeastAssociate"
    wish = where | {"BackupEnabled": 1, "CrossBackupRegion": TARGET}
    refused = ask(modify, wish)
    assert refused["Code"] == "AgreementNotAccepted" and "gives a standing acceptance" in refused["Message"]
    assert not policies.enabled_policy(instance)

    agreements.accept_standing(fleet.group, "mainland", "mainland", policies.By(fleet.user))
    assert ask(modify, wish | {"CrossBackupRegion": SOURCE})["Code"] == "InvalidRegion.Format"
    assert ask(modify, wish | {"CrossBackupRegion": "cn-beijing"})["Code"] == "InvalidDdrStorage.NotFound"
    assert ask(modify, wish | {"Retention": 6})["Code"] == "InvalidParameters.Format"
    assert ask(modify, wish | {"BackupEnabled": "Enable"})["Code"] == "InvalidParameters.Format"
    assert ask(modify, where | {"LogBackupEnabled": 1})["Code"] == "InvalidParameters.Format"

    done = ask(modify, wish | {"Retention": 14})
    assert (done["BackupEnabled"], done["Retention"], done["CrossBackupRegion"]) == ("Enable", 14, TARGET)
    again = ask("DescribeInstanceCrossBackupPolicy", where)
    assert (again["BackupEnabled"], again["LogBackupEnabled"], again["Retention"]) == ("Enable", "Disable", 14)
    assert ask(modify, where | {"Retention": 30})["BackupEnabled"] == "Enable"
    assert ask(modify, where | {"LogBackupEnabled": 1})["LogBackupEnabled"] == "Enable"
    listed = ask("DescribeCrossRegionBackupDBInstance", {"RegionId": SOURCE})
    assert (listed["TotalRecords"], listed["ItemsNumbers"]) == (1, 1)
    assert listed["Items"]["Item"][0]["Retention"] == 30
    ended = ask(modify, where | {"BackupEnabled": 0})
    assert (ended["BackupEnabled"], ended["LogBackupEnabled"], ended["Retention"]) == ("Disable", "Disable", 30)
    calls = Event.objects.filter(kind="api.called")
    assert calls.filter(instance=instance, data__code="").count() == 4


@pytest.mark.parametrize(
    "name",
    ["DescribeCrossRegionBackupDBInstance", "DescribeDBInstances", "DescribeCrossRegionBackups", "DescribeBackups"],
)
def test_a_list_costs_the_same_however_long_it_is(client: Client, fleet: Fleet, key: NewSecret, name: str) -> None:
    instance = fleet.protected("orders", copies=2)
    wish = {"RegionId": SOURCE} | ({"DBInstanceId": instance.code} if name.endswith("Backups") else {})

    def queries() -> int:
        call = acs3(key, name, wish)
        with CaptureQueriesContext(connection) as seen:
            said(call.send(client))
        return len(seen)

    queries()
    few = queries()
    for n in range(10):
        fleet.protected(f"more-{n}", copies=1)
        fleet.copy(fleet.backup(instance, age=timedelta(days=5 + n)), instance.policies.get())
    assert queries() == few <= 8


def test_the_newest_policy_speaks_for_an_instance(ask: Ask, fleet: Fleet) -> None:
    instance = fleet.protected("orders")
    CopyPolicy.objects.update(enabled=False, ended_at=fleet.now - timedelta(days=1), end_reason="destination_changed")
    fleet.policy(instance, FAR, days=9)
    listed = ask("DescribeCrossRegionBackupDBInstance", {"RegionId": SOURCE})["Items"]["Item"]
    alone = ask("DescribeInstanceCrossBackupPolicy", {"RegionId": SOURCE, "DBInstanceId": instance.code})
    for said_ in (*listed, alone):
        assert (said_["CrossBackupRegion"], said_["Retention"], said_["BackupEnabled"]) == (FAR, 9, "Enable")


def test_somebody_elses_acceptance_does_not_count(ask: Ask, fleet: Fleet) -> None:
    agreements.accept_standing(fleet.group, "mainland", "mainland", policies.By(fleet.root()))
    instance = fleet.instance("orders")
    wish = {"RegionId": SOURCE, "DBInstanceId": instance.code, "BackupEnabled": 1, "CrossBackupRegion": TARGET}
    assert ask("ModifyInstanceCrossBackupPolicy", wish)["Code"] == "AgreementNotAccepted"


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"family": "shared"}, "CrossBackupNotSupport"),
        ({"billing_method": "serverless"}, "CrossBackupNotSupport"),
        ({"backup_method": "snapshot"}, "OperationDenied.SwitchToCrossRegionBackup"),
    ],
)
def test_what_does_not_qualify_is_refused_as_on_the_page(ask: Ask, fleet: Fleet, facts: Any, code: str) -> None:
    agreements.accept_standing(fleet.group, "mainland", "mainland", policies.By(fleet.user))
    instance = fleet.instance("orders", **facts)
    wish = {"RegionId": SOURCE, "DBInstanceId": instance.code, "BackupEnabled": 1, "CrossBackupRegion": TARGET}
    assert ask("ModifyInstanceCrossBackupPolicy", wish)["Code"] == code


def test_an_instance_is_not_found_in_another_region(ask: Ask, fleet: Fleet) -> None:
    instance = fleet.protected("orders")
    for name in ("DescribeInstanceCrossBackupPolicy", "DescribeCrossRegionBackups"):
        answer = ask(name, {"RegionId": FAR, "DBInstanceId": instance.code})
        assert answer["Code"] == "InvalidDBInstance.NotFound"


# ---- copies


def test_copies_are_listed_newest_first(ask: Ask, fleet: Fleet) -> None:
    instance = fleet.protected("orders")
    policy = instance.policies.get()
    fleet.copy(fleet.backup(instance, age=timedelta(minutes=5)), policy, CopyState.COPYING)
    fleet.copy(fleet.backup(instance, age=timedelta(minutes=9)), policy, CopyState.FAILED)
    where = {"RegionId": SOURCE, "DBInstanceId": instance.code}
    found = ask("DescribeCrossRegionBackups", where)
    items = found["Items"]["Item"]
    assert (found["TotalRecordCount"], found["PageRecordCount"]) == (4, 4)
    assert [one["BackupSetStatus"] for one in items] == [1, 0, 0, 0]
    newest = items[1]
    copy = Copy.objects.get(pk=newest["CrossBackupId"])
    assert newest["RestoreRegions"] == {"RestoreRegion": [TARGET]} and newest["BackupType"] == "F"
    assert newest["CrossBackupSetFile"].startswith(f"{SOURCE}_{instance.code}_")
    assert f"_data_{copy.set.finished_at:%Y%m%d%H%M%S}_" in newest["CrossBackupSetFile"]
    assert items[0]["RestoreRegions"] == {"RestoreRegion": []}
    assert not any(one["CrossBackupDownloadLink"] for one in items)
    one = ask("DescribeCrossRegionBackups", where | {"CrossBackupId": copy.pk})
    assert [item["CrossBackupId"] for item in one["Items"]["Item"]] == [copy.pk]
    early = ask(
        "DescribeCrossRegionBackups", where | {"StartTime": "2020-01-01T00:00Z", "EndTime": "2020-01-02T00:00Z"}
    )
    assert early["TotalRecordCount"] == 0 and early["Items"]["Item"] == []
    for wrong, code in (
        ({"StartTime": "today"}, "InvalidStartTime.Format"),
        ({"EndTime": "2020-13-01T00:00Z"}, "InvalidEndTime.Format"),
        ({"PageSize": 31}, "InvalidParameters.Format"),
        ({"PageSize": "many"}, "InvalidParameters.Format"),
    ):
        assert ask("DescribeCrossRegionBackups", where | wrong)["Code"] == code


def test_level_2_copies_are_no_cross_region_copies(ask: Ask, fleet: Fleet) -> None:
    instance = fleet.protected("orders")
    assert (
        ask("DescribeCrossRegionBackups", {"RegionId": SOURCE, "DBInstanceId": instance.code})["TotalRecordCount"] == 3
    )
    CopyPolicy.objects.filter(instance=instance).update(
        kind="intra_region", destination=SOURCE, enabled=False, ended_at=fleet.now
    )
    assert (
        ask("DescribeCrossRegionBackups", {"RegionId": SOURCE, "DBInstanceId": instance.code})["TotalRecordCount"] == 0
    )


def test_logs_and_how_far_they_reach(ask: Ask, fleet: Fleet) -> None:
    instance = fleet.protected("orders", copies=1)
    policy = instance.policies.get()
    fleet.copy(fleet.backup(instance, kind="log", age=timedelta(hours=1)), policy)
    where = {"RegionId": SOURCE, "DBInstanceId": instance.code}
    span = {"StartTime": "2020-01-01T00:00Z", "EndTime": "2100-01-01T00:00:00Z"}
    found = ask("DescribeCrossRegionLogBackupFiles", where | span)
    assert found["TotalRecordCount"] == 1 and found["Items"]["Item"][0]["CrossLogBackupSize"] > 0
    copy = Copy.objects.exclude(set__kind="log").get()
    window = ask("DescribeAvailableRecoveryTime", {"CrossBackupId": copy.pk})
    assert window["RecoveryBeginTime"] == f"{copy.set.finished_at:%Y-%m-%dT%H:%M:%SZ}"
    assert window["RecoveryEndTime"] >= window["RecoveryBeginTime"]
    assert ask("DescribeAvailableRecoveryTime", {"CrossBackupId": 4711})["Code"] == "InvalidBackupSetID.NotFound"
    metas = ask("DescribeCrossBackupMetaList", {"BackupSetId": copy.pk})
    assert [one["Database"] for one in metas["Items"]["Meta"]] == ["orders"]
    assert metas["TotalPageCount"] == 1
    assert ask("DescribeCrossBackupMetaList", {"BackupSetId": "x"})["Code"] == "InvalidBackupSetID.NotFound"


def test_a_link_is_there_for_who_accepted_the_rules_and_may_download(client: Client, world: worlds.World) -> None:
    instance = world.instance()
    world.enable(instance)
    copy = world.arrived(instance)
    where = {"RegionId": SOURCE, "DBInstanceId": instance.code}

    def link(key: NewSecret) -> str:
        [one] = said(acs3(key, "DescribeCrossRegionBackups", where).send(client))["Items"]["Item"]
        return one["CrossBackupDownloadLink"]

    assert link(key_of(world.user)) == ""
    assert link(key_of(world.user, accepts_rules=True, reach="viewer")) == ""
    viewer = User.objects.create_user("ana")
    Membership.objects.create(user=viewer, group=world.group, role=Role.VIEWER)
    assert link(key_of(viewer, accepts_rules=True)) == ""
    assert not Download.objects.exists()

    key = key_of(world.user, accepts_rules=True)
    address = link(key)
    assert address.startswith("http://rds.example.org/d/")
    assert link(key) == address and DownloadLink.objects.count() == 1
    fetched = client.get(address.removeprefix("http://rds.example.org"))
    assert fetched.status_code == 200
    BackupSet.objects.update(method="snapshot")
    assert link(key) == "", "R-7.2"
    BackupSet.objects.update(method="physical")
    assert b"".join(fetched.streaming_content) == (world.folder / SOURCE / copy.set.files.get().key).read_bytes()
    assert Event.objects.filter(kind="download.asked").count() == 1


# ---- default backups


def test_default_backups_and_their_policy(ask: Ask, fleet: Fleet) -> None:
    instance = fleet.protected("orders")
    found = ask("DescribeBackups", {"DBInstanceId": instance.code})
    assert (found["TotalRecordCount"], found["PageNumber"], found["PageRecordCount"]) == ("3", "1", "3")
    newest = found["Items"]["Backup"][0]
    assert (newest["BackupStatus"], newest["BackupType"], newest["IsAvail"]) == ("Success", "FullBackup", 1)
    one = ask("DescribeBackups", {"DBInstanceId": instance.code, "BackupId": newest["BackupId"]})
    assert one["TotalRecordCount"] == "1"
    policy = ask("DescribeBackupPolicy", {"DBInstanceId": instance.code})
    assert policy["PreferredBackupPeriod"].startswith("Monday,") and policy["BackupRetentionPeriod"] == 7
    assert ask("DescribeDetachedBackups", {"Region": SOURCE})["TotalRecordCount"] == "0"
    Instance.objects.filter(pk=instance.pk).update(released_at=fleet.now)
    assert ask("DescribeDetachedBackups", {"Region": SOURCE})["TotalRecordCount"] == "3"


def test_a_backup_is_taken_where_farshore_takes_them(ask: Ask, fleet: Fleet) -> None:
    found = fleet.instance("orders")
    assert ask("CreateBackup", {"DBInstanceId": found.code})["Code"] == "IncorrectDBInstanceType"
    taken = fleet.instance("shop", engine="postgresql", engine_version="16.4", arrival="taken", host="10.0.0.8")
    job = ask("CreateBackup", {"DBInstanceId": taken.code, "BackupMethod": "Physical"})["BackupJobId"]
    assert ask("CreateBackup", {"DBInstanceId": taken.code})["BackupJobId"] == job
    [one] = ask("DescribeBackupTasks", {"DBInstanceId": taken.code})["Items"]["BackupJob"]
    assert (one["BackupJobId"], one["BackupStatus"]) == (job, "NoStart")
    [task] = ask("DescribeTasks", {"DBInstanceId": taken.code})["Items"]["TaskProgressInfo"]
    assert task["TaskId"] == f"backup-{job}"
    assert ask("CreateBackup", {"DBInstanceId": taken.code, "BackupMethod": "Snapshot"})["Code"] == (
        "InvalidParameters.Format"
    )


# ---- restores


@pytest.fixture
def shop(fleet: Fleet) -> Instance:
    """An instance of an engine that restores anywhere, with copies."""
    made = fleet.protected("shop", engine="postgresql", engine_version="")
    made.sets.update(database="", tool_version="")
    for store in windows.stores_with_copies(made):
        windows.rebuild(made, store)
    return made


def by_set(instance: Instance, **more: Any) -> dict[str, Any]:
    copy = Copy.objects.filter(set__instance=instance).order_by("-set__finished_at").first()
    usual = {
        "RegionId": TARGET,
        "BackupSetId": copy.pk,
        "RestoreType": "BackupSet",
        "Engine": "PostgreSQL",
        "EngineVersion": "16.0",
        "DBInstanceNetType": "Intranet",
        "PayType": "Postpaid",
        "SecurityIPList": "127.0.0.1",
        "DBInstanceClass": "any",
        "DBInstanceStorage": 20,
    }
    return {name: value for name, value in (usual | more).items() if value is not None}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"RestoreType": "2"}, "InvalidRestoreType.Format"),
        ({"BackupSetId": None}, "NoBaksetName"),
        ({"BackupSetId": "x"}, "InvalidBackupSetID.NotFound"),
        ({"RegionId": FAR}, "DisasterRestoreRegionNotMatched"),
        ({"RegionId": "mars"}, "InvalidRegion.Format"),
        ({"Engine": "MySQL"}, "IncorrectDBInstanceEngine"),
        ({"RestoreType": "BackupTime"}, "NoBackupSetRegion"),
        ({"RestoreType": "BackupTime", "SourceRegion": SOURCE}, "NoSourceInstanceName"),
        ({"DBInstanceDescription": "shop"}, "InvalidDBInstanceName.Duplicate"),
    ],
)
def test_a_restore_is_refused_with_its_code(ask: Ask, shop: Instance, change: Any, code: str) -> None:
    assert ask("CreateDdrInstance", by_set(shop, **change))["Code"] == code
    assert not Restore.objects.exists()


def test_a_restore_is_checked_and_asked_for_once_per_token(ask: Ask, shop: Instance, fleet: Fleet) -> None:
    Copy.objects.filter(set__instance=shop).update(total_bytes=1)
    shop.sets.update(size_bytes=1)
    assert ask("CheckCreateDdrDBInstance", by_set(shop, RestoreType="0"))["IsValid"] == "true"
    first = ask("CreateDdrInstance", by_set(shop, ClientToken="t1"))
    assert first["DBInstanceId"].startswith("rs-"), first
    again = ask("CreateDdrInstance", by_set(shop, ClientToken="t1"))
    assert again["DBInstanceId"] == first["DBInstanceId"] and again["RequestId"] != first["RequestId"]
    assert Restore.objects.count() == 1
    other = ask("CreateDdrInstance", by_set(shop, ClientToken="t1", DBInstanceDescription="elsewhere"))
    assert other["Code"] == "IdempotentParameterMismatch"
    assert ask("CreateDdrInstance", by_set(shop, ClientToken="t2"))["DBInstanceId"] != first["DBInstanceId"]
    code = first["DBInstanceId"]
    [coming] = ask("DescribeDBInstanceAttribute", {"DBInstanceId": code})["Items"]["DBInstanceAttribute"]
    assert (coming["DBInstanceStatus"], coming["RegionId"]) == ("Creating", TARGET)
    tasks = ask("DescribeTasks", {"DBInstanceId": shop.code})["Items"]["TaskProgressInfo"]
    assert {task["TaskAction"] for task in tasks} == {"CreateDdrInstance"}


def test_a_refused_restore_may_be_tried_again_with_its_token(ask: Ask, shop: Instance) -> None:
    wish = by_set(shop, ClientToken="t1", RegionId=FAR)
    assert ask("CreateDdrInstance", wish)["Code"] == "DisasterRestoreRegionNotMatched"
    shop.sets.update(size_bytes=1)
    assert "DBInstanceId" in ask("CreateDdrInstance", by_set(shop, ClientToken="t1"))


def test_a_restore_to_a_moment(ask: Ask, shop: Instance) -> None:
    shop.sets.update(size_bytes=1)
    newest = shop.sets.order_by("-finished_at").first()
    wish = by_set(shop, BackupSetId=None, RestoreType="BackupTime", SourceRegion=SOURCE, SourceDBInstanceName=shop.code)
    assert ask("CreateDdrInstance", wish)["Code"] == "MissingRestoreTime"
    wish["RestoreTime"] = "2001-01-01T00:00:00Z"
    assert "Code" in ask("CreateDdrInstance", wish)
    assert ask("CreateDdrInstance", wish | {"SourceRegion": FAR})["Code"] == "InvalidDBInstance.NotFound"
    shop.sets.filter(pk=newest.pk).update(finished_at=newest.finished_at.replace(microsecond=700_000))
    copy = Copy.objects.get(set=newest)
    told = ask("DescribeAvailableRecoveryTime", {"CrossBackupId": copy.pk})["RecoveryBeginTime"]
    found = ask("CreateDdrInstance", wish | {"RestoreTime": told})
    assert Restore.objects.get().code == found.get("DBInstanceId"), found


def test_a_single_table_is_refused_with_the_way_round(ask: Ask, shop: Instance) -> None:
    wish = {"DBInstanceId": shop.code, "RestoreType": "0", "TableMeta": "[]"}
    answer = ask("RestoreDdrTable", wish)
    assert answer["Code"] == "IncorrectDBInstanceEngine" and "CreateDdrInstance" in answer["Recommend"]


def test_the_service_linked_role(ask: Ask, fleet: Fleet) -> None:
    wish = {"RegionId": SOURCE, "ServiceLinkedRole": "AliyunServiceRoleForDBS"}
    assert ask("CheckServiceLinkedRole", wish)["HasServiceLinkedRole"] == "false"
    assert "Code" not in ask("CreateServiceLinkedRole", wish)
    assert "Code" not in ask("CreateServiceLinkedRole", wish)
    assert ask("CheckServiceLinkedRole", wish)["HasServiceLinkedRole"] == "true"
    assert ask("CheckServiceLinkedRole", wish | {"ServiceLinkedRole": "x"})["Code"] == "InvalidParameters.Format"
