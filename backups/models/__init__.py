"""The nouns of the journey, one per file; design.md §3 says what each is. Models import nothing but models."""

from backups.models.agreement import Acceptance, AcceptedInstance, AgreementText
from backups.models.backup_job import BackupJob
from backups.models.backup_set import BackupFile, BackupSet, Kind, SetFile, SetStatus
from backups.models.certificate import RegisteredCertificate
from backups.models.copy import (
    ENDED,
    PENDING,
    RESTORABLE,
    CancelReason,
    CopiedFile,
    Copy,
    CopyState,
    Hold,
    Pin,
    StorageSpan,
    Transfer,
    TransferPart,
)
from backups.models.copy_policy import CopyPolicy, Coverage, PolicyKind
from backups.models.download import Download, DownloadLink, DownloadUse
from backups.models.drill import Drill, DrillQuery
from backups.models.groups import Membership, ResourceGroup, Role
from backups.models.instance import Arrival, BackupMethod, BillingMethod, Edition, Family, Instance
from backups.models.landing_server import LandingServer
from backups.models.logs import LogGap, LogStream, RestorableInterval
from backups.models.record import Alert, Event, Seal, ServiceLinkedRole
from backups.models.recovery import Recovery
from backups.models.restore import Restore, RestoreSource
from backups.models.self_backup import SelfBackup
from backups.models.server_database import ServerDatabase
from backups.models.server_history import RememberedSet, ServerLook
from backups.models.server_script import ServerScript
from backups.models.source_outage import SourceOutage
from backups.models.state_object import StateObject
from backups.models.storage_snapshot import StorageSnapshot

__all__ = [
    "ENDED",
    "PENDING",
    "RESTORABLE",
    "Acceptance",
    "AcceptedInstance",
    "AgreementText",
    "Alert",
    "Arrival",
    "BackupFile",
    "BackupJob",
    "BackupMethod",
    "BackupSet",
    "BillingMethod",
    "CancelReason",
    "CopiedFile",
    "Copy",
    "CopyPolicy",
    "CopyState",
    "Coverage",
    "Download",
    "DownloadLink",
    "DownloadUse",
    "Drill",
    "DrillQuery",
    "Edition",
    "Event",
    "Family",
    "Hold",
    "Instance",
    "Kind",
    "LandingServer",
    "LogGap",
    "LogStream",
    "Membership",
    "Pin",
    "PolicyKind",
    "Recovery",
    "RegisteredCertificate",
    "RememberedSet",
    "ResourceGroup",
    "RestorableInterval",
    "Restore",
    "RestoreSource",
    "Role",
    "Seal",
    "SelfBackup",
    "ServerDatabase",
    "ServerLook",
    "ServerScript",
    "ServiceLinkedRole",
    "SetFile",
    "SetStatus",
    "SourceOutage",
    "StateObject",
    "StorageSnapshot",
    "StorageSpan",
    "Transfer",
    "TransferPart",
]
