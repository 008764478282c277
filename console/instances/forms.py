"""Adding an instance: what it is, how its default backups arrive, how it is reached."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import AbstractBaseUser
from django.utils.text import format_lazy
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from backups import access, default_backups
from backups.engines import ENGINES, engine_of
from backups.models import (
    Arrival,
    BackupJob,
    BackupMethod,
    BillingMethod,
    Edition,
    Family,
    Instance,
    Kind,
    Role,
)
from backups.models.instance import LOG_MINUTES
from console.widgets.labels import RegionChoice, choices_of, translated
from regions.models import Region

DAYS = [
    (0, _("Monday")),
    (1, _("Tuesday")),
    (2, _("Wednesday")),
    (3, _("Thursday")),
    (4, _("Friday")),
    (5, _("Saturday")),
    (6, _("Sunday")),
]
TLS = [
    ("prefer", _("if the server offers it")),
    ("require", _("always")),
    ("verify-full", _("always, with its name checked")),
    ("disable", _("never")),
]
CHOSEN = {
    "edition": Edition,
    "family": Family,
    "billing_method": BillingMethod,
    "backup_method": BackupMethod,
    "arrival": Arrival,
}


def engines() -> list[tuple[str, str]]:
    return [(name, engine.capabilities.label) for name, engine in ENGINES.items()]


class InstanceForm(forms.ModelForm):
    engine = forms.ChoiceField(choices=engines, label=_("Engine"))
    prefixes = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        label=_("Where its backup files lie in the source store"),
        help_text=_("One prefix per line, such as sql/orders/. Only for default backups that are found."),
    )
    timetable_days = forms.TypedMultipleChoiceField(
        choices=DAYS,
        coerce=int,
        initial=list(range(7)),
        label=_("Days of its default backup"),
        widget=forms.CheckboxSelectMultiple,
    )
    timetable_time = forms.TimeField(
        required=False,
        label=_("Time (UTC)"),
        widget=forms.TimeInput(attrs={"type": "time"}),
        help_text=_("Left empty: at no set hour."),
    )
    full_every_days = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=31,
        initial=1,
        label=_("Days from one full backup to the next"),
        help_text=_(
            "1: every backup is a full one. More: what has changed is backed up between them (PostgreSQL 17 and newer,"
            " SQL Server)."
        ),
    )
    log_every_minutes = forms.TypedChoiceField(
        required=False,
        coerce=int,
        empty_value=0,
        choices=[
            (0, _("Never")),
            *((minutes, format_lazy(_("Every {n} minutes"), n=minutes)) for minutes in LOG_MINUTES),
        ],
        label=_("Log backups that Farshore takes"),
        help_text=_("SQL Server only: the logs of PostgreSQL and MariaDB are received as they are made."),
    )
    tls = forms.ChoiceField(choices=TLS, initial="prefer", label=_("Encrypted connection (TLS)"))
    password = forms.CharField(
        required=False,
        label=_("Password"),
        strip=False,
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password"}),
        help_text=_("Stored encrypted and never shown again."),
    )

    class Meta:
        model = Instance
        field_classes = {"region": RegionChoice}
        fields = [
            "name",
            "group",
            "region",
            "engine",
            "engine_version",
            "edition",
            "family",
            "billing_method",
            "backup_method",
            "arrival",
            "prefixes",
            "timetable_days",
            "timetable_time",
            "default_retention_days",
            "full_every_days",
            "log_every_minutes",
            "share_called",
            "share_folder",
            "host",
            "port",
            "secondary_host",
            "secondary_port",
            "username",
            "dbname",
            "tls",
        ]
        labels = {
            "name": _("Name"),
            "group": _("Resource group"),
            "region": _("Region"),
            "engine_version": _("Version"),
            "edition": _("Edition"),
            "family": _("Instance family"),
            "billing_method": _("Billing method"),
            "backup_method": _("Backup method"),
            "arrival": _("Default backups are"),
            "default_retention_days": _("Default backups are kept (days)"),
            "share_called": _("Share, as the server calls it"),
            "share_folder": _("The same share, as Farshore's worker sees it"),
            "host": _("Host"),
            "port": _("Port"),
            "secondary_host": _("Secondary: host"),
            "secondary_port": _("Secondary: port"),
            "username": _("User"),
            "dbname": _("Database to connect to"),
        }
        help_texts = {
            "region": _("Regions with a store attached; default backups lie in that store."),
            "default_retention_days": _("7 to 730. Only those that Farshore takes are ever deleted by it."),
            "share_called": _(
                "SQL Server only, such as \\\\files\\sql or /var/backups: the server writes its backups there, Farshore"
                " fetches them."
            ),
            "share_folder": _("The absolute path of the folder on the machine of this region's worker, mounted there."),
            "secondary_host": _("Optional. Backups can be taken from it, with the same user and password."),
            "secondary_port": _("Left empty: the same port."),
        }

    def __init__(self, user: AbstractBaseUser, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["group"].queryset = access.groups_for(user, Role.OPERATOR)
        self.fields["region"].queryset = Region.objects.shown().with_store().distinct()
        self.fields["name"].widget.attrs["autofocus"] = True
        for name in ("group", "region"):
            self.fields[name].empty_label = None
        for name, kind in CHOSEN.items():
            self.fields[name].choices = choices_of(kind)

    def clean_prefixes(self) -> list[str]:
        lines = (line.strip() for line in self.cleaned_data["prefixes"].splitlines())
        return [line for line in lines if line]

    def clean_full_every_days(self) -> int:
        return self.cleaned_data["full_every_days"] or 1

    def clean(self) -> dict[str, Any]:
        said = super().clean()
        if said.get("engine") and said.get("arrival"):
            self._check_arrival(said)
            self._check_share(said)
            self._check_logs(said)
            self._check_incrementals(said)
        return said

    def _check_incrementals(self, said: dict[str, Any]) -> None:
        able = engine_of(said["engine"]).capabilities
        on_its_own = able.takes_differentials and said["arrival"] == Arrival.TAKEN
        takes = on_its_own or able.takes_incrementals_of(said.get("engine_version", ""))
        if said.get("full_every_days", 1) > 1 and not takes:
            words = gettext("Farshore takes no incremental backups of this; leave it at 1.")
            self.add_error("full_every_days", words)

    def _check_share(self, said: dict[str, Any]) -> None:
        """A share has two names. Where there may be none, since newer servers write into an S3 store by themselves, the
        server says whether it can."""
        able = engine_of(said["engine"]).capabilities
        named = [said.get(name) for name in ("share_called", "share_folder")]
        if able.writes_to_a_share:
            is_taken = said["arrival"] == Arrival.TAKEN
            if any(named) or (is_taken and not able.writes_to_buckets_since):
                self._require_share(said)
        elif any(named):
            words = gettext("Backups of %(engine)s come over the connection: leave the share empty.")
            self.add_error("share_called", words % {"engine": able.label})

    def _require_share(self, said: dict[str, Any]) -> None:
        words = gettext("Say where the server writes its backups, and under which path that is seen here.")
        for name in ("share_called", "share_folder"):
            if not said.get(name) and name not in self.errors:
                self.add_error(name, words)
        if not said.get("host") and "host" not in self.errors:
            self.add_error("host", gettext("Say how to reach the server: its host name or address."))

    def _check_logs(self, said: dict[str, Any]) -> None:
        takes = engine_of(said["engine"]).capabilities.takes_logs and said["arrival"] == Arrival.TAKEN
        if said.get("log_every_minutes") and not takes:
            self.add_error("log_every_minutes", gettext("Farshore takes no log backups of this; choose Never."))

    def _check_arrival(self, said: dict[str, Any]) -> None:
        able = engine_of(said["engine"]).capabilities
        if said["arrival"] == Arrival.FOUND:
            if not able.discovers_files:
                words = gettext("Backup files of %(engine)s are not discovered; let Farshore take them.")
                self.add_error("arrival", words % {"engine": able.label})
            elif not said.get("prefixes"):
                self.add_error("prefixes", gettext("Say where its files lie, one prefix per line."))
            return
        if not able.takes_backups:
            words = gettext("Farshore does not take backups of %(engine)s; it finds the files its jobs write.")
            self.add_error("arrival", words % {"engine": able.label})
        elif not said.get("host"):
            self.add_error("host", gettext("Say how to reach the server: its host name or address."))


class BackupForm(forms.Form):
    """What "Back up now" takes, and of which server: asked only where there is a choice."""

    database = forms.ChoiceField(required=False, label=_("Database"))
    kind = forms.ChoiceField(required=False, widget=forms.RadioSelect, initial=Kind.FULL, label=_("Type"))
    on = forms.ChoiceField(
        required=False,
        widget=forms.RadioSelect,
        initial=BackupJob.On.PRIMARY,
        choices=[(BackupJob.On.PRIMARY, _("The primary")), (BackupJob.On.SECONDARY, _("The secondary"))],
        label=pgettext_lazy("where it comes from", "From"),
    )

    def __init__(self, instance: Instance, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)
        able = engine_of(instance.engine).capabilities
        labels = {
            Kind.FULL: _("Full"),
            Kind.DIFFERENTIAL: translated(able.differential_label),
            Kind.LOG: _("Log"),
        }
        kinds = default_backups.kinds_of(instance)
        self.fields["kind"].choices = [(kind, labels[kind]) for kind in kinds]
        names = instance.databases.to_back_up().order_by("name").values_list("name", flat=True)
        self.fields["database"].choices = [("", _("All databases")), *((name, name) for name in names)]
        if able.whole_server:
            del self.fields["database"]
        if len(kinds) == 1:
            del self.fields["kind"]
        if not instance.secondary_host:
            del self.fields["on"]

    def wanted(self) -> dict[str, str]:
        return {name: value for name, value in self.cleaned_data.items() if value}
