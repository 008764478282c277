"""English words that come out of models and data, said in the language of the page: listed, so that they are found.

What a team has named itself, a region of its own say, is shown as it was named.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import TextChoices
from django.utils.translation import gettext, gettext_lazy
from django.utils.translation import gettext_noop as _

from backups.engines import engine_of
from backups.models import BackupSet, Kind
from regions.models import Region, Store

KINDS = [_("Full"), _("Differential"), _("Incremental"), _("Log")]
SET_STATUS = [_("Succeeded"), _("Stripe missing"), _("Damaged")]
FILE_STATES = [
    _("Seen once"),
    _("At the source"),
    _("Refused"),
    _("Replaced"),
    _("Gone"),
    _("Deleted by Farshore"),
    _("Known from its copy"),
]
RECOVERIES = [_("Rebuilt from manifests"), _("Restored from a dump")]
SELF_BACKUP_STATES = [_("Being taken"), _("Kept"), _("Failed"), _("Deleted")]
METHODS = [_("Physical"), _("Logical"), _("Snapshot")]
EDITIONS = [_("Basic"), _("High-availability"), _("Cluster")]
FAMILIES = [_("General-purpose"), _("Dedicated"), _("Shared")]
BILLING = [_("Subscription"), _("Pay-as-you-go"), _("Serverless")]
ITEM_CODES = [_("Cross-region storage"), _("Cross-region network traffic"), _("Download over the Internet")]
ARRIVALS = [_("Taken by Farshore"), _("Found in the source store")]
JOB_STATES = [_("Queued"), _("Running"), _("Succeeded"), _("Failed"), _("Cancelled")]
JOB_REASONS = [
    _("Timetable"),
    _("Asked for by a person"),
    _("No valid backup in the last 24 hours"),
    _("A gap in the logs"),
]
JOB_SERVERS = [_("The primary"), _("The secondary")]
ORIGINS = [
    _("After its default backup"),
    _("The 24-hour check"),
    _("A differential needs it"),
    _("Asked for by a person"),
]
STREAM_STATES = [_("Waiting to receive"), _("Receiving"), _("Ending"), _("Ended")]
HEALINGS = [_("The missing file is copied"), _("A backup is taken"), _("A person has to act")]
RESTORE_STATES = [
    _("Waiting for a second person"),
    *(_("Queued"), _("Running"), _("Ready"), _("Set aside"), _("Failed"), _("Cancelled"), _("Removed")),
]
RESTORE_ORIGINS = [_("From copies in the backup region"), _("From default backups in the source region")]
CANCEL_REASONS = [
    _("Cross-region backup was disabled"),
    _("The destination was changed"),
    _("The file vanished from its source"),
    _("It expired before it arrived"),
    _("Cancelled by a person"),
]
TRANSFER_STATES = [
    _("Journaled"),
    _("Uploading"),
    _("Uploaded"),
    _("Verified"),
    _("Abandoned"),
    _("Cleaned up"),
    _("Being deleted"),
    _("Deleted"),
    _("Damaged"),
]
PROOFS = [_("backup checksum"), _("page checksum"), _("structure"), _("not inspectable"), _("damaged")]
REFERENCES = [
    _("agrees with the hashes taken while it was written"),
    _("agrees with the source store's own digest"),
    _("agrees with the checksums inside the file"),
    _("agrees with a second, independent read of the source"),
    _("carried = stored; the source gives nothing to compare with"),
]
DRILL_STATES = [_("Queued"), _("Running"), _("Passed"), _("Failed"), _("Skipped")]
DRILL_PICKS = [
    _("The newest moment"),
    _("The oldest moment"),
    _("A random moment"),
    _("A damaged clone that must fail"),
]
SCOPES = [_("Chinese mainland"), _("Hong Kong"), _("Outside China"), _("Finance Cloud")]
REGIONS = [
    _("China (Beijing)"),
    _("China (Shanghai)"),
    _("China (Hangzhou)"),
    _("China (Shenzhen)"),
    _("China (Qingdao)"),
    _("China (Guangzhou)"),
    _("China (Ulanqab)"),
    _("China (Heyuan)"),
    _("China (Chengdu)"),
    _("China (Hohhot)"),
    _("China (Zhangjiakou)"),
    _("China (Hong Kong)"),
    _("US (Silicon Valley)"),
    _("US (Virginia)"),
    _("Singapore"),
    _("Japan (Tokyo)"),
    _("Germany (Frankfurt)"),
    _("Malaysia (Kuala Lumpur)"),
    _("Indonesia (Jakarta)"),
    _("Philippines (Manila)"),
    _("UK (London)"),
    _("South Korea (Seoul)"),
    _("Thailand (Bangkok)"),
    _("China East 1 Finance"),
    _("China East 2 Finance"),
    _("China South 1 Finance"),
]
SIGN_IN = [_("Username or email")]  # of the sign-in page, which is not ours to extract


def place_of(store: Store) -> str:
    """Return the region a store lies in, and that it is the second one there where it is (R-18.2)."""
    name = translated(store.region.name)
    return gettext("%(region)s, level-2") % {"region": name} if store.role == Store.Role.SECOND else name


def translated(label: object) -> str:
    """Return a label in the language of the page; as it is when nobody has translated it."""
    text = str(label or "")
    return gettext(text) if text else ""  # the translation of nothing is the catalogue's own head


def kind_of(found: BackupSet) -> str:
    """Return what a set is in its engine's own word."""
    if found.kind == Kind.DIFFERENTIAL:
        return translated(engine_of(found.instance.engine).capabilities.differential_label)
    return translated(found.get_kind_display())


def choices_of(kind: type[TextChoices]) -> list[tuple[str, Any]]:
    return [(value, gettext_lazy(label)) for value, label in kind.choices]


class RegionChoice(forms.ModelChoiceField):
    """Offers regions by the names they have in the language of the page."""

    def label_from_instance(self, region: Region) -> str:
        return translated(region.name)
