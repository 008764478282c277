"""What lists of instances share: their filter, their sorts, and which instances a selection means."""

from __future__ import annotations

from django import forms
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext_lazy as _

from backups import access
from backups.engines import ENGINES
from backups.models import BackupSet, Copy, CopyPolicy, Instance, Role
from backups.terms import eligibility
from console.widgets.addresses import row_numbers
from console.widgets.listing import MOST_MATCHING, Filter
from console.widgets.shell import chosen_region

ORDERS = {"name": ("name", "pk"), "data_bytes": ("data_bytes", "pk"), "engine": ("engine", "engine_version", "pk")}
PENDING, BACKUP, RECOVERY = "pending", "backup", "recovery"


def engine_choices() -> list[tuple[str, str]]:
    return [("", _("All engines")), *((name, engine.capabilities.label) for name, engine in ENGINES.items())]


class InstanceFilter(Filter):
    q = forms.CharField(required=False, max_length=200, label=_("Search by ID or name"))
    engine = forms.ChoiceField(choices=engine_choices, required=False, label=_("Engine"))

    def narrow(self, rows: QuerySet) -> QuerySet:
        if words := self.wanted("q").strip():
            rows = rows.filter(Q(name__icontains=words) | Q(code__icontains=words))
        if engine := self.wanted("engine"):
            rows = rows.filter(engine=engine)
        return rows


def instances_here(request: HttpRequest) -> QuerySet[Instance]:
    """Return the instances this person may see in the region chosen in the top bar."""
    region = chosen_region(request)
    seen = access.instances_for(request.user)
    return seen.filter(region=region) if region else seen


def pending(instances: QuerySet[Instance]) -> QuerySet[Instance]:
    """Return those that could be protected and are not (R-3.4)."""
    enabled = CopyPolicy.objects.cross_region().enabled().filter(instance=OuterRef("pk"))
    return eligibility.qualifying(instances).exclude(Exists(enabled))


def absent(instances: QuerySet[Instance]) -> QuerySet[Instance]:
    """Return the living ones that Pending Instances leaves out because they fail a requirement."""
    return instances.living().exclude(pk__in=eligibility.qualifying(instances).values("pk"))


def backed_up(instances: QuerySet[Instance]) -> QuerySet[Instance]:
    """Return those with cross-region backup on, and those disabled or released whose files are still there (R-12.5)."""
    policies = CopyPolicy.objects.cross_region().filter(instance=OuterRef("pk"))
    files = Copy.objects.live().filter(set__instance=OuterRef("pk"), policy__kind="cross_region")
    return instances.filter(Exists(policies.enabled()) & Q(released_at=None) | Exists(files))


def recoverable(instances: QuerySet[Instance]) -> QuerySet[Instance]:
    """Return those that can come back or should: the living, and the released whose copies are still there (R-2.4)."""
    copies = Copy.objects.restorable().cross_region().filter(set__instance=OuterRef("pk"))
    return instances.filter(Q(released_at=None) | Exists(copies))


def with_last_backup(instances: QuerySet[Instance]) -> QuerySet[Instance]:
    newest = BackupSet.objects.data().filter(instance=OuterRef("pk")).order_by("-finished_at").values("finished_at")
    return instances.annotate(last_backup_at=Subquery(newest[:1]))


def mark_operated(request: HttpRequest, instances: list[Instance]) -> list[Instance]:
    """Give each instance `may_operate`: whether this person may do more than look at it."""
    groups = set(access.groups_for(request.user, Role.OPERATOR).values_list("pk", flat=True))
    for instance in instances:
        instance.may_operate = instance.group_id in groups
    return instances


LISTS = {PENDING: pending, BACKUP: backed_up, RECOVERY: recoverable}


def chosen(request: HttpRequest, asked: QueryDict) -> list[Instance]:
    """Return the ticked instances, or with `matching` all that the list's filter finds now; of those one may see.

    No more than MOST_MATCHING: `left_out` says how many are beyond.
    """
    return list(_ticked(request, asked).order_by("name", "pk")[:MOST_MATCHING])


def left_out(request: HttpRequest, asked: QueryDict) -> int:
    """Count what `chosen` leaves out because it is too many at once."""
    return max(0, _ticked(request, asked).count() - MOST_MATCHING)


def _ticked(request: HttpRequest, asked: QueryDict) -> QuerySet[Instance]:
    if "matching" not in asked:
        ticked = asked.getlist("pick")
        return access.instances_for(request.user).filter(pk__in=row_numbers(ticked, len(ticked)))
    listed = LISTS.get(asked.get("list", ""), pending)
    return InstanceFilter(QueryDict(asked["matching"])).narrow(listed(instances_here(request)))
