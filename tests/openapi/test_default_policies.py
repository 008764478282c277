"""ModifyBackupPolicy and DeleteBackup: the verbs of the pages, in the vendor's words."""

from __future__ import annotations

from datetime import time, timedelta
from typing import Any

import pytest
from django.test import Client

from backups.default_backups import retiring
from backups.models import Arrival, BackupSet, CopyPolicy, Event, Instance
from regions import clock
from tests.backups.world import World
from tests.console.fleet import Fleet
from tests.openapi.conftest import Ask, key_of
from tests.openapi.signing import acs3, said

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def sql(fleet: Fleet) -> Instance:
    return fleet.instance("orders", arrival=Arrival.TAKEN, host="10.0.0.8", edition="cluster")


def modify(ask: Ask, instance: Instance, **given: Any) -> dict[str, Any]:
    return ask("ModifyBackupPolicy", {"DBInstanceId": instance.code, **given})


def test_a_policy_of_default_backups_is_set_and_read_back(ask: Ask, fleet: Fleet, sql: Instance) -> None:
    answer = modify(
        ask,
        sql,
        PreferredBackupPeriod="Monday,Thursday",
        PreferredBackupTime="04:30Z-05:30Z",
        BackupRetentionPeriod="30",
        EnableIncrementDataBackup="true",
        BackupLog="Enable",
        LogBackupFrequency="LogInterval5",
        BackupMethod="Snapshot",
        BackupPolicyMode="DataBackupPolicy",
    )
    assert (answer["DBInstanceID"], answer["EnableBackupLog"], answer["EnableIncrementDataBackup"]) == (
        sql.code,
        "1",
        True,
    )
    read = ask("DescribeBackupPolicy", {"DBInstanceId": sql.code})
    assert (read["PreferredBackupPeriod"], read["PreferredBackupTime"]) == ("Monday,Thursday", "04:30Z-05:30Z")
    assert (read["BackupRetentionPeriod"], read["LogBackupFrequency"]) == (30, "LogInterval5")
    assert (read["BackupMethod"], read["EnableIncrementDataBackup"]) == ("Snapshot", True)
    sql.refresh_from_db()
    assert (sql.timetable_days, sql.timetable_time, sql.full_every_days) == ([0, 3], time(4, 30), 7)
    assert Event.objects.filter(kind="instance.default_backups", actor=fleet.user).exists()


def test_only_what_is_given_is_changed(ask: Ask, sql: Instance) -> None:
    modify(ask, sql, BackupLog="Enable")
    sql.refresh_from_db()
    assert (sql.log_every_minutes, sql.timetable_days, sql.default_retention_days) == (30, list(range(7)), 7)
    modify(ask, sql, EnableBackupLog="0")
    sql.refresh_from_db()
    assert sql.log_every_minutes == 0


REFUSED = [
    ({}, "ParameterLeastAssociate"),
    ({"CompressType": "1"}, "ParameterLeastAssociate"),
    ({"PreferredBackupPeriod": "Mon"}, "InvalidParameters.Format"),
    ({"PreferredBackupTime": "25:00Z-26:00Z"}, "InvalidParameters.Format"),
    ({"BackupRetentionPeriod": "6"}, "InvalidParameters.Format"),
    ({"BackupRetentionPeriod": "9" * 18}, "InvalidParameters.Format"),
    ({"BackupRetentionPeriod": "30", "LogBackupRetentionPeriod": "7"}, "InvalidParameters.Format"),
    ({"LogBackupFrequency": "LogInterval7"}, "InvalidParameters.Format"),
    ({"BackupMethod": "Logical"}, "InvalidParameters.Format"),
    ({"BackupPolicyMode": "Other", "BackupLog": "Enable"}, "InvalidParameters.Format"),
]


@pytest.mark.parametrize(("given", "code"), REFUSED)
def test_what_cannot_be_set_changes_nothing(ask: Ask, sql: Instance, given: dict[str, str], code: str) -> None:
    assert modify(ask, sql, **given)["Code"] == code
    assert not Event.objects.filter(kind="instance.default_backups").exists()


def test_the_vendors_code_says_that_the_method_stays_while_cross_region_backup_is_on(ask: Ask, fleet: Fleet) -> None:
    """R-7.1."""
    on = fleet.protected("ledger")
    assert modify(ask, on, BackupMethod="Snapshot")["Code"] == "OperationDenied.SwitchToSnapshot"
    CopyPolicy.objects.update(enabled=False, ended_at=fleet.now, end_reason="disabled")
    assert "Code" not in modify(ask, on, BackupMethod="Snapshot")


def test_logs_that_are_received_have_another_switch(ask: Ask, fleet: Fleet) -> None:
    shop = fleet.instance("shop", engine="postgresql", engine_version="18", arrival=Arrival.TAKEN, host="10.0.0.8")
    refused = modify(ask, shop, BackupLog="Enable")
    assert refused["Code"] == "IncorrectDBInstanceEngine"
    assert "ModifyInstanceCrossBackupPolicy" in refused["Recommend"]
    assert "Code" not in modify(ask, shop, BackupLog="Disabled", BackupRetentionPeriod="9"), "as it is already"


# ---- deleting


def test_a_backup_is_deleted_before_its_date(client: Client, world: World) -> None:
    at = clock.now()
    sql = world.instance("orders", arrival=Arrival.TAKEN, default_retention_days=60)
    sets = [
        world.finished(sql, at - ago * DAY, origin="taken", weighed_at=at, database="Sales") for ago in (30, 20, 3, 1)
    ]
    for one in sets:
        one.files.update(is_ours=True)
    key = key_of(world.user)

    def ask(action: str, wish: dict[str, Any]) -> dict[str, Any]:
        return said(acs3(key, action, wish).send(client))

    wish = {"DBInstanceId": sql.code, "BackupId": f"{sets[0].pk},{sets[1].pk}"}
    assert ask("DeleteBackup", wish | {"BackupId": str(sets[2].pk)})["Code"] == "BackupTooYoung"
    assert ask("DeleteBackup", wish | {"BackupId": "0"})["Code"] == "InvalidBackupSetID.NotFound"
    assert ask("DeleteBackup", wish | {"BackupId": "x,y"})["Code"] == "InvalidBackupSetID.NotFound"
    assert "Code" not in ask("DeleteBackup", wish)
    assert "Code" not in ask("DeleteBackup", wish), "asked for twice is asked for once"
    retiring.retire_due()
    left = ask("DescribeBackups", {"DBInstanceId": sql.code})["Items"]["Backup"]
    assert {one["BackupId"] for one in left} == {str(one.pk) for one in sets[2:]}


def test_what_another_job_wrote_is_not_deleted(ask: Ask, fleet: Fleet) -> None:
    found = fleet.backup(fleet.instance("orders"), age=20 * DAY)
    refused = ask("DeleteBackup", {"DBInstanceId": found.instance.code, "BackupId": found.pk})
    assert refused["Code"] == "BackupNotOurs"
    assert not BackupSet.objects.filter(deletion_asked_at__isnull=False).exists()
