"""How the programming interface says no: the vendor's codes and statuses (openapi/README.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from regions.refusals import Refusal


@dataclass
class Fault(Exception):
    """A call that is answered with an error. `remedy` goes to the envelope's `Recommend`."""

    code: str
    status: int
    message: str
    remedy: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.code, self.status, self.message)


# What Farshore refuses with → what the vendor's programs know. Everything else keeps its own code and is a 400.
WIRE_CODES: dict[str, tuple[str, int]] = {
    "AgreementNotAccepted": ("AgreementNotAccepted", 403),
    "BackupGone": ("NoAvailableDisasterRestoreBakset", 400),
    "BackupNotTaken": ("IncorrectDBInstanceType", 403),
    "BaseMissing": ("NoAvailableDisasterRestoreBakset", 400),
    "CertificateMissing": ("CrossRegionUnsupportTDE", 400),
    "Conflict": ("IncorrectDBInstanceState", 403),
    "CopyNotCompleted": ("NoAvailableDisasterRestoreBakset", 400),
    "CrossBackupNotSupport": ("CrossBackupNotSupport", 403),
    "IncrementalNotTaken": ("IncorrectDBInstanceType", 403),
    "InvalidDdrStorage.NotFound": ("InvalidDdrStorage.NotFound", 403),
    "InvalidDestination": ("InvalidRegion.Format", 400),
    "LogAlone": ("InvalidBackupSetID.NotFound", 404),
    "LogBackupNotSupport": ("CrossBackupNotSupport", 403),
    "NameTaken": ("InvalidDBInstanceName.Duplicate", 400),
    "NoSpace": ("PreCheckInvalid", 400),
    "NothingToRestore": ("NoAvailableDisasterRestoreBakset", 400),
    "RestoreNotOffered": ("IncorrectDBInstanceEngine", 403),
    "SnapshotWithoutFiles": ("PreCheckInvalid", 400),
    "StoreMissing": ("InvalidDdrStorage.NotFound", 403),
    "VersionMissing": ("IncorrectEngineVersion", 403),
}


# What a person is told to do in a dialog, and a program cannot.
REMEDIES = {
    "AgreementNotAccepted": "The key's owner gives a standing acceptance for these regions on the agreement's page"
    " (/backups/agreement/), then this call is made again.",
}


def of_refusal(refusal: Refusal) -> Fault:
    refusal = replace(refusal, remedy=REMEDIES.get(refusal.code, refusal.remedy))
    code, status = WIRE_CODES.get(refusal.code, (refusal.code, 400))
    return Fault(code, status, str(refusal), refusal.remedy)


def of_refusals(refusals: Sequence[Refusal]) -> Fault:
    """The first one says the code; the message holds them all."""
    first = of_refusal(refusals[0])
    message = " ".join(of_refusal(one).message for one in refusals)
    return Fault(first.code, first.status, message, first.remedy)


def missing(parameter: str) -> Fault:
    return Fault(f"Missing{parameter}", 400, f"{parameter} is mandatory for this action.")


def bad_format(parameter: str, expected: str) -> Fault:
    return Fault("InvalidParameters.Format", 400, f"{parameter} is not well formatted: {expected}.")


def forbidden(why: str = "") -> Fault:
    sentence = "User not authorized to operate on the specified resource."
    return Fault("Forbidden.RAM", 403, f"{sentence} {why}".strip())


def no_such_action() -> Fault:
    return Fault("InvalidAction.NotFound", 404, "Specified api is not found, please check your url and method.")


def no_such_instance() -> Fault:
    return Fault("InvalidDBInstance.NotFound", 404, "The specified instance does not exist or you may not see it.")


def no_such_set() -> Fault:
    return Fault("InvalidBackupSetID.NotFound", 404, "The specified backup set does not exist or you may not see it.")


def no_such_region(parameter: str = "RegionId") -> Fault:
    return Fault("InvalidRegion.Format", 400, f"{parameter} names no region.")


def too_large(most: int) -> Fault:
    return Fault("RequestEntityTooLarge", 413, f"The body of a call has at most {most} bytes.")


def wrong_method() -> Fault:
    return Fault("UnsupportedHTTPMethod", 405, "This API is called by GET or POST.", headers={"Allow": "GET, POST"})


def unreadable(why: str) -> Fault:
    return Fault("InvalidParameters.Format", 400, why)
