"""Who can be protected (R-3): every requirement an instance fails, in words."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from backups.models import BackupMethod, BillingMethod, CopyPolicy, Edition, Family, Instance
from regions.refusals import Refusal


def reasons(instance: Instance) -> list[Refusal]:
    """Return every requirement the instance fails; an empty list means it qualifies."""
    failed = []
    if instance.released:
        failed.append(Refusal("ProductInstanceReleased", "The instance has been released.", "Choose another instance."))
    if instance.family == Family.SHARED:
        failed.append(
            Refusal(
                "CrossBackupNotSupport",
                "Shared instance types are not supported.",
                "Move it to a general-purpose or dedicated instance.",
            )
        )
    if instance.billing_method == BillingMethod.SERVERLESS:
        failed.append(
            Refusal(
                "CrossBackupNotSupport",
                "Serverless instances are not supported.",
                "Change the billing method to subscription or pay-as-you-go.",
            )
        )
    if instance.backup_method == BackupMethod.SNAPSHOT and instance.edition != Edition.CLUSTER:
        failed.append(
            Refusal(
                "OperationDenied.SwitchToCrossRegionBackup",
                "Its backup method is snapshot and the edition is not Cluster.",
                "Set the backup method to physical.",
            )
        )
    return failed


def qualifies(instance: Instance) -> bool:
    return not reasons(instance)


def qualifying(instances: QuerySet[Instance]) -> QuerySet[Instance]:
    """Return those that fail no requirement: the rules of `reasons` as a question to the database, for lists."""
    snapshot_elsewhere = Q(backup_method=BackupMethod.SNAPSHOT) & ~Q(edition=Edition.CLUSTER)
    refused = Q(family=Family.SHARED) | Q(billing_method=BillingMethod.SERVERLESS) | snapshot_elsewhere
    return instances.filter(~refused, released_at=None)


def refuse_method(instance: Instance, method: str) -> Refusal | None:
    """Return why the backup method may not become `method` now (R-7.1), None when it may."""
    if method != BackupMethod.SNAPSHOT or instance.edition == Edition.CLUSTER:
        return None
    if not CopyPolicy.objects.cross_region().enabled().filter(instance=instance).exists():
        return None
    return Refusal(
        "OperationDenied.SwitchToSnapshot",
        "The method cannot become snapshot while cross-region backup is on; only Cluster Edition copies snapshots.",
        "Disable cross-region backup first.",
        "backup_method",
    )
