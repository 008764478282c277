"""Whether something can be restored, in a few words: asked by every page that offers it."""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet
from django.utils.translation import gettext

from backups.chains import certificates, windows
from backups.engines import engine_of
from backups.models import BackupSet, Copy, CopyState, Instance, Kind
from backups.servers import landing_servers
from console.widgets.set_lists import is_there


def why_engine_not_restored(instance: Instance) -> str:
    """Return why Farshore restores nothing of this engine, "" when it does."""
    engine = engine_of(instance.engine)
    if engine.restore is not None or (engine.restore_database is not None and _has_where(instance)):
        return ""
    return gettext("Farshore does not restore %(engine)s yet") % {"engine": engine.capabilities.label}


def _has_where(instance: Instance) -> bool:
    """Whether there may be a server for its databases: an instance of the copies' region where that is allowed."""
    return settings.RESTORE_ONTO_EXISTING or _lands(instance)


def _lands(instance: Instance) -> bool:
    """Whether a landing server was granted to its group; asked once for each instance that a page holds."""
    known = getattr(instance, "lands", None)
    if known is None:
        known = instance.lands = landing_servers.usable_for(instance).exists()
    return known


def with_landing(instances: QuerySet[Instance]) -> QuerySet[Instance]:
    """Bring along for each what `why_engine_not_restored` would ask for."""
    return instances.annotate(lands=Exists(landing_servers.usable_by(OuterRef("group"), OuterRef("engine"))))


def why_set_not_restored(found: BackupSet, copies: Iterable[Copy]) -> str:
    """Return why a set is not offered for a restore, "" when its copy or the set at its source is (R-2.3, R-7.3)."""
    if why := why_engine_not_restored(found.instance):
        return why
    if found.kind == Kind.LOG:
        return gettext("a log is restored with the backup it follows")
    completed = [copy for copy in copies if copy.state == CopyState.COMPLETED]
    if any(windows.is_restorable(copy) for copy in completed):
        return ""
    if completed or certificates.missing_for(found, found.instance.region_id):
        return gettext("its certificate is not at the destination")
    if is_there(found) and found.status == "succeeded":
        return ""
    return gettext("it has no completed copy, and its files are not at the source any more")
