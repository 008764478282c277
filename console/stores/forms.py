"""Attaching a store: a folder or a bucket; keys are separate fields, never part of the address."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from console.widgets.labels import RegionChoice
from regions.models import Region, Store

OPTIONS, CREDENTIALS = ("endpoint", "region", "addressing", "verify"), ("access_key_id", "secret_access_key")


class StoreForm(forms.Form):
    place = RegionChoice(queryset=None, label=_("Region"), empty_label=None)
    role = forms.ChoiceField(
        required=False,
        widget=forms.RadioSelect,
        choices=[
            (Store.Role.PRIMARY, _("The region's store")),
            (Store.Role.SECOND, _("Its second store")),
        ],
        initial=Store.Role.PRIMARY,
        label=_("Used as"),
        help_text=_(
            "The region's store is the source of its own instances and the destination of others; a second one is for"
            " level-2 backup."
        ),
    )
    url = forms.CharField(
        max_length=1000,
        label=_("Address"),
        help_text=_("A folder (file:///srv/backups/beijing) or a bucket (s3://bucket/prefix)."),
    )
    endpoint = forms.CharField(
        required=False, max_length=500, label=_("Endpoint"), help_text=_("https://… of an S3 service other than AWS.")
    )
    region = forms.CharField(required=False, max_length=100, label=_("The service's own name of the region"))
    addressing = forms.ChoiceField(
        required=False,
        label=_("Addressing"),
        choices=[("", _("usual")), ("path", _("path: host/bucket")), ("virtual", _("virtual: bucket.host"))],
    )
    verify = forms.CharField(
        required=False,
        max_length=500,
        label=_("Authority certificate"),
        help_text=_("Path of a CA file on this machine."),
    )
    access_key_id = forms.CharField(
        required=False, max_length=500, label=_("Access key"), widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    secret_access_key = forms.CharField(
        required=False,
        max_length=500,
        label=_("Secret key"),
        strip=False,
        help_text=_("Stored encrypted, never shown."),
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)
        full = Region.objects.filter(stores__in=Store.objects.attached().filter(role=Store.Role.SECOND))
        self.fields["place"].queryset = Region.objects.shown().exclude(pk__in=full.values("pk"))
        self.fields["place"].widget.attrs["autofocus"] = True

    def clean_role(self) -> str:
        return self.cleaned_data["role"] or Store.Role.PRIMARY

    def options(self) -> dict[str, str]:
        return {name: self.cleaned_data[name] for name in OPTIONS if self.cleaned_data[name]}

    def credentials(self) -> dict[str, str]:
        return {name: self.cleaned_data[name] for name in CREDENTIALS if self.cleaned_data[name]}


class CertificateForm(forms.Form):
    """A certificate that databases are restored with, at hand in the store's region."""

    thumbprint = forms.CharField(
        max_length=200,
        label=_("Thumbprint"),
        help_text=_(
            "What SELECT name, thumbprint FROM master.sys.certificates says on the source: 40 hexadecimal digits."
        ),
    )
    note = forms.CharField(
        required=False,
        max_length=200,
        label=_("Note"),
        help_text=_("Where it is kept, with its private key: the server it is installed on, the safe."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)


class QuotaForm(forms.Form):
    """How much a store may hold, in GB; empty where nobody knows."""

    quota = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=2**31,
        label=_("Quota in GB"),
        help_text=_("What the store may hold; leave it empty where that is not known."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)

    @property
    def bytes(self) -> int | None:
        said = self.cleaned_data["quota"]
        return None if said is None else said * settings.GB
