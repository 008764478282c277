"""Registering a landing server: where it listens, as whom, and one folder under its two names."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from backups.models import ResourceGroup
from backups.servers import landing_servers
from backups.servers.landing_servers import Wanted
from console.widgets.labels import RegionChoice
from regions.models import Region

TLS = [
    ("prefer", _("if the server offers it")),
    ("require", _("always")),
    ("verify-full", _("always, with its name checked")),
    ("disable", _("never")),
]


class GroupsForm(forms.Form):
    """Which resource groups may restore onto it."""

    groups = forms.ModelMultipleChoiceField(
        queryset=ResourceGroup.objects.all(),
        required=False,
        label=_("Who may restore onto it"),
        widget=forms.CheckboxSelectMultiple,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)


class LandingForm(GroupsForm):
    name = forms.CharField(max_length=landing_servers.LONGEST_NAME, label=_("Name"))
    region = RegionChoice(queryset=Region.objects.none(), label=_("Region"), empty_label=None)
    engine = forms.ChoiceField(label=_("Engine"))
    host = forms.CharField(max_length=255, label=_("Host"))
    port = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=65535,
        label=_("Port"),
        help_text=_("Left empty: the engine's usual one."),
    )
    username = forms.CharField(max_length=128, label=_("User"))
    password = forms.CharField(
        label=_("Password"),
        strip=False,
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password"}),
        help_text=_("Stored encrypted and never shown again."),
    )
    tls = forms.ChoiceField(choices=TLS, initial="prefer", label=_("Encrypted connection (TLS)"))
    share_called = forms.CharField(
        max_length=300,
        label=_("The share, as the server calls it"),
        help_text=_("Such as \\\\files\\farshore or /mnt/farshore. The server's service account reads it."),
    )
    share_folder = forms.CharField(
        max_length=500,
        label=_("The same share, as the region's workers see it"),
        help_text=_("A folder of this machine, such as /mnt/farshore; files of a restore lie in it while it runs."),
    )

    field_order = ("name", "region", "engine", "host", "port", "username", "password", "tls", "share_called")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["region"].queryset = Region.objects.shown()
        offering = landing_servers.offering().items()
        self.fields["engine"].choices = [(name, engine.capabilities.label) for name, engine in offering]

    def wanted(self) -> Wanted:
        said = self.cleaned_data
        return Wanted(
            name=said["name"],
            region=said["region"],
            engine=said["engine"],
            host=said["host"],
            port=said["port"],
            username=said["username"],
            password=said["password"],
            tls=said["tls"],
            called=said["share_called"],
            folder=said["share_folder"],
            groups=list(said["groups"]),
        )
