"""The settings of R-12, in its order, for one instance or for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _

from backups.engines import engine_of
from backups.models import Arrival, Instance
from backups.policies import (
    Settings,
    destinations_of,
    latest_policies,
    settings_under,
    versions_of,
    why_no_logs,
)
from backups.terms import agreements
from console.widgets.addresses import row_number
from console.widgets.days import WholeDays
from console.widgets.labels import translated
from regions.catalog import FINANCE
from regions.models import Region
from regions.refusals import Refusal

ENABLE, DISABLED = "enable", "disabled"


class DestinationSelect(forms.Select):
    """Greys what cannot be chosen, and says why in the option itself."""

    refused: dict[str, str] = {}

    def create_option(self, name: str, value: Any, label: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option = super().create_option(name, value, label, *args, **kwargs)
        if reason := self.refused.get(str(value)):
            option["attrs"]["disabled"] = True
            option["label"] = f"{label} – {reason}"
        return option


def _in_short(refusal: Refusal, region: Region) -> str:
    """Return the reason in as few words as an option of a list has room for."""
    if refusal.code == "InvalidDdrStorage.NotFound":
        return gettext("no reachable store")
    if region.scope == FINANCE:
        return gettext("for Finance Cloud only")
    return gettext("outside Finance Cloud")


class LogSelect(forms.RadioSelect):
    """Greys Enable where no instance gives logs; the reason stands beside it."""

    is_refused = False

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option = super().create_option(name, value, *args, **kwargs)
        option["attrs"]["disabled"] = self.is_refused and value == ENABLE
        return option


def why_no_logs_said(instance: Instance) -> str:
    """Return why no logs of an instance can be copied, in the language of the page; "" where they can (R-12.4)."""
    if why_no_logs(instance) is None:
        return ""
    able = engine_of(instance.engine).capabilities
    label = able.label
    if instance.arrival == Arrival.TAKEN and able.takes_logs:
        return gettext("%(name)s has no timetable for log backups; say how often, where it is described.") % {
            "name": instance.name
        }
    if instance.arrival == Arrival.TAKEN:
        return gettext("Farshore cannot receive the logs of %(engine)s yet.") % {"engine": label}
    return gettext("Farshore cannot find log backups of %(engine)s yet.") % {"engine": label}


class SettingsForm(forms.Form):
    """`versions` carries which instances are meant and what each one's settings were when the dialog opened (I14)."""

    enabled = forms.ChoiceField(
        label=_("Cross-region Backup Status"),
        choices=[(ENABLE, _("Enable")), (DISABLED, _("Disabled"))],
        widget=forms.RadioSelect,
    )
    destination = forms.ChoiceField(
        label=_("Backup Region"),
        required=False,
        widget=DestinationSelect,
        help_text=_("Backup files are copied here. It must differ from the source region."),
        error_messages={"invalid_choice": _("Choose a region from the list.")},
    )
    retention_days = WholeDays(
        label=_("Cross-region Retention Period"),
        help_text=_("7 to 1825 days. Kept in full even after an instance is released."),
    )
    logs_enabled = forms.ChoiceField(
        label=_("Cross-region Log Backup Status"),
        required=False,
        widget=LogSelect,
        choices=[(ENABLE, _("Enable")), (DISABLED, _("Disabled"))],
        help_text=_("Only while the status is Enable. Log files go to the backup region, ahead of data."),
    )
    agreed = forms.BooleanField(label=_("I have read and accept the agreement."), required=False)
    versions = forms.CharField(widget=forms.HiddenInput, required=False)

    def __init__(self, instances: Sequence[Instance], data: Any = None, *, comes_to_enable: bool = False) -> None:
        self.instances = list(instances)
        self.latest = latest_policies(self.instances)
        self.own = {one.pk: settings_under(self.latest.get(one.pk)) for one in self.instances}
        self.has_conflict, self.language = False, get_language() or "en"
        self.left_out = row_number((data or {}).get("left_out", "")) or 0  # how many were ticked beyond what OK takes
        super().__init__(data, initial=self._common(), label_suffix="")
        self.open = self._differing()
        self._offer_destinations()
        self._offer_to_keep()
        self._offer_logs()
        self.fields["enabled"].widget.attrs["autofocus"] = True
        if comes_to_enable:
            self.initial["enabled"] = ENABLE
        if self.is_all_released:
            self._leave_only_the_retention()

    # ---- what the instances have in common; what they have not is left open, so that OK changes it knowingly

    def _common(self) -> dict[str, Any]:
        states = {settings.enabled for settings in self.own.values()}
        is_fresh = all(settings.expected == "" for settings in self.own.values())
        logs = _only({settings.logs_enabled for settings in self.own.values()})
        status = ENABLE if is_fresh or states == {True} else DISABLED if states == {False} else ""
        return {
            "enabled": status,
            "destination": _only({settings.destination for settings in self.own.values()}) or "",
            "retention_days": _only({settings.retention_days for settings in self.own.values()}),
            "logs_enabled": "" if logs is None else ENABLE if logs else DISABLED,
        }

    def _differing(self) -> set[str]:
        """Name the settings that are not the same for all: each may keep its own."""
        names = ("enabled", "destination", "retention_days", "logs_enabled")
        return {name for name in names if len({getattr(own, name) for own in self.own.values()}) > 1}

    def _offer_to_keep(self) -> None:
        words = gettext("Keep each one's own")
        if "enabled" in self.open:
            self.fields["enabled"].required = False
            self.fields["enabled"].choices = [*self.fields["enabled"].choices, ("", words)]
        if "logs_enabled" in self.open:
            self.fields["logs_enabled"].choices = [*self.fields["logs_enabled"].choices, ("", words)]
        if "retention_days" in self.open:
            self.fields["retention_days"].required = False
            self.fields["retention_days"].widget.attrs["placeholder"] = words

    @property
    def is_all_released(self) -> bool:
        return bool(self.instances) and all(instance.released for instance in self.instances)

    def _leave_only_the_retention(self) -> None:
        """Of a released instance only the retention can change (R-14.2)."""
        for name in ("enabled", "destination", "logs_enabled"):
            self.fields[name].disabled = True
        self.fields["enabled"].widget.attrs.pop("autofocus", None)
        self.fields["retention_days"].widget.attrs["autofocus"] = True

    def _offer_destinations(self) -> None:
        """Offer every region; one that none of the instances may use is greyed with the reason (R-10.2)."""
        found: dict[Region, list[Refusal | None]] = {}
        for source in {instance.region_id: instance.region for instance in self.instances}.values():
            for region, refusal in destinations_of(source):
                found.setdefault(region, []).append(refusal)
        used = {settings.destination for settings in self.own.values()}
        refused = {
            region: refusals[0]
            for region, refusals in found.items()
            if all(refusals) and refusals[0] and region.pk not in used
        }
        usable = [(region.pk, translated(region.name)) for region in found if region not in refused]
        others = [(region.pk, translated(region.name)) for region in refused]
        keep = gettext("Keep each one's own") if "destination" in self.open else gettext("Choose a region")
        groups = [(gettext("Can be chosen"), usable), (gettext("Cannot be chosen"), others)]
        field = self.fields["destination"]
        field.choices = [("", keep), *((name, regions) for name, regions in groups if regions)]
        field.widget.refused = {region.pk: _in_short(refusal, region) for region, refusal in refused.items()}

    def _offer_logs(self) -> None:
        """Grey Enable, with the reason beside it, where it could be chosen for none of the instances."""
        said = [why_no_logs_said(instance) for instance in self.instances]
        if said and all(said):
            self.fields["logs_enabled"].widget.is_refused = True
            self.fields["logs_enabled"].help_text = said[0]

    # ---- which instances, and what they were

    @staticmethod
    def versions_now(instances: Sequence[Instance]) -> str:
        return ",".join(f"{pk}:{version}" for pk, version in versions_of(instances).items())

    def clean(self) -> dict[str, Any]:
        """Enabling needs a region (R-12.2): said beside it, together with whatever else is wrong."""
        said = super().clean()
        enables = any(self._lacks_region(instance) for instance in self.instances)
        if enables and "destination" not in self.errors:
            self.add_error("destination", gettext("Choose the backup region."))
        if self._asks_for_logs_alone():
            self.add_error("logs_enabled", gettext("Log backup can be on only while the status is Enable."))
        if said.get("agreed"):
            self._read_agreement()
        return said

    def _read_agreement(self) -> None:
        """What is accepted is the very text that the dialog showed (R-13.2)."""
        try:
            self.language = agreements.text_read(self.data.get("text_read", ""), self.language).language
        except Refusal as refusal:
            self.add_error("agreed", str(refusal))

    def _asks_for_logs_alone(self) -> bool:
        """Say whether logs would be turned on without data; where they are on, they are turned off with it (R-8.1)."""
        has_logs = any(own.logs_enabled for own in self.own.values())
        return self._said("enabled") == DISABLED and self._said("logs_enabled") == ENABLE and not has_logs

    def _lacks_region(self, instance: Instance) -> bool:
        """Say whether the instance would be enabled without a region to copy to."""
        return not instance.released and self._enables(instance) and not self._destination_of(instance)

    def versions_to_carry(self) -> str:
        """Return the versions the dialog opened with; after a conflict was told, those of now."""
        carried = "" if self.has_conflict else self.data.get("versions", "")
        return carried or self.versions_now(self.instances)

    def expected(self) -> dict[int, str]:
        return versions_in(self.data.get("versions", ""))

    def _enables(self, instance: Instance) -> bool:
        status = self._said("enabled")
        return self.own[instance.pk].enabled if not status and "enabled" in self.open else status == ENABLE

    def _destination_of(self, instance: Instance) -> str:
        own = self.own[instance.pk].destination if "destination" in self.open else ""
        return self._said("destination") or own

    def _days_of(self, instance: Instance) -> int | None:
        kept = self.own[instance.pk].retention_days if "retention_days" in self.open else None
        is_wrong = self.is_bound and "retention_days" in self.errors
        return None if is_wrong else self._said("retention_days") or kept

    def _copies_logs_of(self, instance: Instance) -> bool:
        said = self._said("logs_enabled")
        return said == ENABLE if said else self.own[instance.pk].logs_enabled

    def _said(self, name: str) -> Any:
        return (self.cleaned_data if self.is_bound else self.initial).get(name)

    def wanted(self, instance: Instance) -> Settings:
        """Return what the form says for one of its instances; call it when the form is valid."""
        return Settings(
            enabled=self._enables(instance),
            retention_days=self._days_of(instance),
            destination=self._destination_of(instance),
            logs_enabled=self._copies_logs_of(instance),
            agreed=self._said("agreed"),
            language=self.language,
        )

    def changes(self) -> list[tuple[Instance, Settings]]:
        return [(instance, self.wanted(instance)) for instance in self.instances]

    def changes_so_far(self) -> list[tuple[Instance, Settings]]:
        """Return what the form says now for each instance, nothing while its retention cannot be read."""
        if self.is_bound:
            self.is_valid()
        changes = self.changes()
        return [] if any(wanted.retention_days is None for _, wanted in changes) else changes

    def refuse(self, refusals: Sequence[Refusal]) -> None:
        """Put each refusal beside its field."""
        for refusal in refusals:
            self.has_conflict |= refusal.code == "Conflict"
            name = refusal.field if refusal.field in self.fields else None
            if str(refusal) not in self.errors.get(name or NON_FIELD_ERRORS, []):
                self.add_error(name, str(refusal))


def _only(values: set[Any]) -> Any:
    """Return the one value there is, None when there are several."""
    return next(iter(values)) if len(values) == 1 else None


def versions_in(text: str) -> dict[int, str]:
    """Return which instances a form is about: pk → the version of its settings."""
    pairs = (part.partition(":") for part in text.split(",") if ":" in part)
    return {number: version for pk, _colon, version in pairs if (number := row_number(pk)) is not None}
