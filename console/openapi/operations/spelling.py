"""How the vendor's programs spell what we know: times, states, engines, switches."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db.models import Func, TextField

from backups.engines import engine_of
from backups.models import BackupMethod, BillingMethod, Edition, Family, Kind

SWITCH = {True: "Enable", False: "Disable"}
DATA_TYPES = {Kind.FULL: "F", Kind.DIFFERENTIAL: "I"}
LONG_TYPES = {Kind.FULL: "FullBackup", Kind.DIFFERENTIAL: "IncrementalBackup"}
METHODS = {BackupMethod.PHYSICAL: "P", BackupMethod.LOGICAL: "L", BackupMethod.SNAPSHOT: "S"}
LONG_METHODS = {BackupMethod.PHYSICAL: "Physical", BackupMethod.LOGICAL: "Logical", BackupMethod.SNAPSHOT: "Snapshot"}
CATEGORIES = {Edition.BASIC: "Basic", Edition.HIGH_AVAILABILITY: "HighAvailability", Edition.CLUSTER: "cluster"}
PAYMENT = {BillingMethod.SUBSCRIPTION: "Prepaid", BillingMethod.PAY_AS_YOU_GO: "Postpaid"}
FAMILIES = {Family.GENERAL_PURPOSE: "x", Family.DEDICATED: "d", Family.SHARED: "s"}
GOOD, FAILED = 0, 1  # BackupSetStatus
WHOLE_INSTANCE, ONE_DATABASE = 0, 1  # BackupSetScale


def second(at: datetime | None) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if at else ""


class Second(Func):
    """`second` of a column, spelled by PostgreSQL: a page of rows has sixty of them."""

    template = """to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
    output_field = TextField()


class Epoch(Func):
    template = "floor(extract(epoch FROM %(expressions)s))::bigint"
    output_field = TextField()  # a number that comes as it is


# ---- of an instance, or of a row that says of it what is asked for here


def engine(of: Any) -> str:
    return engine_of(of.engine).capabilities.label.replace(" ", "")


def status(of: Any) -> str:
    return "Released" if of.released_at else "Running"


def payment(of: Any) -> str:
    return PAYMENT.get(of.billing_method, "Serverless")


def scale(of: Any) -> int:
    return ONE_DATABASE if engine_of(of.engine).capabilities.per_database else WHOLE_INSTANCE
