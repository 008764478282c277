"""What a restore is asked for with: from where, what to bring back, under which name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

NEWEST, MOMENT, SET = "newest", "moment", "set"
WAYS = [(NEWEST, _("The newest moment")), (MOMENT, _("A moment")), (SET, _("A backup set, as it was taken"))]
NEW, ORIGINAL, BESIDE = "new", "original", "beside"
TARGETS = [
    (NEW, _("A new instance")),
    (ORIGINAL, _("The original instance")),
    (BESIDE, _("Beside the databases of an instance")),
]
IN_A_FIELD = "%Y-%m-%dT%H:%M:%S"


def moment_in(text: str) -> datetime | None:
    """Return the whole second (UTC) that an address or a field names, None when it names none."""
    text = text.strip()[:40]
    if "T" in text:
        text = text.replace(" ", "+")  # what an address makes of a plus that nobody escaped
    try:
        found = datetime.fromisoformat(text)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found.replace(microsecond=0)


def in_a_field(moment: datetime) -> str:
    """Return a moment as a field for date and time holds it, with its seconds."""
    return moment.astimezone(UTC).strftime(IN_A_FIELD)


class UtcMoment(forms.Field):
    """A date and a time to the second, in UTC whatever the browser's own zone is."""

    widget = forms.DateTimeInput(format=IN_A_FIELD, attrs={"type": "datetime-local", "step": 1})
    default_error_messages = {
        "required": _("Enter a date and a time in UTC, to the second."),
        "invalid": _("Enter a date and a time in UTC, to the second."),
    }

    def to_python(self, value: Any) -> datetime | None:
        if not value:
            return None
        found = moment_in(str(value))
        if found is None:
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid")
        return found


class RestoreForm(forms.Form):
    """Bound from the beginning: what nobody has said yet is filled in with what is usual."""

    place = forms.ChoiceField(label=_("Restore from"))
    database = forms.ChoiceField(label=_("Database"), required=False)
    by = forms.ChoiceField(label=_("What to bring back"), choices=WAYS)
    until = UtcMoment(label=_("Moment (UTC)"), required=False)
    set = forms.TypedChoiceField(label=_("Backup set"), coerce=int, empty_value=None, required=False)
    name = forms.CharField(
        max_length=100,
        label=_("Name of the new instance"),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        required=False,
    )
    target = forms.ChoiceField(label=_("As what"), choices=TARGETS)
    typed = forms.CharField(
        max_length=100,
        label=_("Name of the original instance, typed in"),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        required=False,
        strip=False,
    )
    landing = forms.ChoiceField(label=_("Landing server"), required=False)
    beside = forms.ChoiceField(label=_("Instance"), required=False)
    called = forms.CharField(
        max_length=100,
        label=_("Name of the new database"),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        required=False,
    )
    token = forms.CharField(widget=forms.HiddenInput, required=False, max_length=36)

    def __init__(
        self,
        data: dict[str, Any],
        *,
        places: Sequence[tuple[str, str]],
        databases: Sequence[str],
        sets: Sequence[int],
        refused: dict[str, str],
        limits: dict[str, str],
        landings: Sequence[tuple[str, str]] = (),
        besides: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(data, label_suffix="")
        self.refused = refused
        self.fields["place"].choices = places
        self.fields["until"].widget.attrs |= limits
        self.fields["database"].choices = [(name, name or gettext("the whole server")) for name in databases]
        self.fields["landing"].choices = landings
        self.fields["beside"].choices = besides
        if landings:
            self.fields["name"].label = gettext("Name of the new database")
        if besides:
            self.fields["typed"].label = gettext("Name of that instance, typed in")
        self.fields["set"].choices = [(pk, str(pk)) for pk in sets]

    def clean_by(self) -> str:
        by = self.cleaned_data["by"]
        if why := self.refused.get(by):
            raise forms.ValidationError(why, code="refused")
        return by

    def clean_name(self) -> str:
        name = self.cleaned_data["name"]
        if not name and self.data["target"] == NEW:
            is_landed = bool(self.fields["landing"].choices)
            said = gettext("Give the new database a name.") if is_landed else gettext("Give the new instance a name.")
            raise forms.ValidationError(said, code="required")
        return name

    def clean_beside(self) -> str:
        chosen = self.cleaned_data["beside"]
        if not chosen and self.data["target"] == BESIDE:
            raise forms.ValidationError(gettext("Choose an instance."), code="required")
        return chosen

    def clean_called(self) -> str:
        called = self.cleaned_data["called"]
        if not called and self.data["target"] == BESIDE:
            raise forms.ValidationError(gettext("Give the new database a name."), code="required")
        return called

    def clean(self) -> dict[str, Any]:
        said = super().clean()
        by = said.get("by")
        if by == MOMENT and said.get("until") is None and "until" not in self.errors:
            self.add_error("until", gettext("Enter a date and a time in UTC, to the second."))
        if by == SET and said.get("set") is None and "set" not in self.errors:
            self.add_error("set", gettext("Choose a backup set."))
        return said


class ReasonForm(forms.Form):
    """Why a restored server is given up."""

    reason = forms.CharField(
        label=_("What became of its machine"),
        max_length=300,
        widget=forms.Textarea(attrs={"rows": 3}),
        error_messages={"required": _("Say in a few words what became of it.")},
    )
