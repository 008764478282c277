from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from backups.drilling import drills
from backups.models import Drill
from console.widgets.labels import choices_of

DATABASE_LONGEST = 200


class NowForm(forms.Form):
    pick = forms.ChoiceField(choices=choices_of(Drill.Pick), initial=Drill.Pick.NEWEST, label=_("What is restored"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)


class TimetableForm(forms.Form):
    days = forms.IntegerField(
        min_value=0,
        max_value=drills.MOST_DAYS,
        label=_("Days between two drills"),
        help_text=_("Whole days, 0 to 365. 0: never by the timetable."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)


class QueryForm(forms.Form):
    database = forms.CharField(max_length=DATABASE_LONGEST, label=_("Database"))
    sql = forms.CharField(
        max_length=10_000,
        label=_("SQL"),
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
        help_text=_("One statement that reads. It runs in the restored server, for five minutes at most."),
    )
    expected = forms.CharField(
        max_length=10_000,
        label=_("Expected"),
        help_text=_("The first value of the first row, as text. NULL and “no row” are written as these words."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)
