"""Prices: added and ended, never edited (R-4.5). Plans: bought. Closed months and downloads: to be read."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from billing import plans
from billing.models import UNITS, Budget, ClosedStatement, DownloadCharge, NetworkPlan, PlanUse, Price, StatementLine
from console.support.nouns import Facts, FactsInline, Noun, shown_fields
from console.widgets.acting import acting
from regions import clock
from regions.models import Region


class PriceForm(forms.ModelForm):
    """A price and the places it holds for; they must be places we know."""

    def clean_source(self) -> str:
        return self._known(self.cleaned_data["source"])

    def clean_destination(self) -> str:
        return self._known(self.cleaned_data["destination"])

    def _known(self, region_id: str) -> str:
        if region_id and not Region.objects.filter(pk=region_id).exists():
            raise forms.ValidationError("There is no such region. Add it first, or leave this empty.")
        return region_id

    def clean_valid_until(self) -> Any:
        end = self.cleaned_data["valid_until"]
        if self.instance.pk and end and end <= clock.now():
            raise forms.ValidationError("What has been charged stays as it was. Enter a time that lies ahead.")
        return end

    def clean(self) -> dict[str, Any]:
        if not self.instance.pk and "item_code" in self.cleaned_data:
            self.instance.unit = UNITS[self.cleaned_data["item_code"]]
        return super().clean()


@admin.register(Price)
class Prices(Noun):
    form = PriceForm
    list_display = ["item_code", "source", "source_scope", "destination", "amount", "unit", "valid_from", "valid_until"]
    list_filter = ["item_code", "source_scope", "valid_from", ("valid_until", admin.EmptyFieldListFilter)]
    search_fields = ["item_code", "source", "destination"]

    def get_readonly_fields(self, request: HttpRequest, obj: Price | None = None) -> list[str]:
        if obj is None:
            return ["unit"]
        return [name for name in shown_fields(Price) if name != "valid_until"]

    def has_change_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        ended = obj is not None and obj.valid_until is not None and obj.valid_until <= clock.now()
        return not ended and super().has_change_permission(request, obj)


@admin.register(NetworkPlan)
class NetworkPlans(Noun):
    """Bought here, and then only looked at: a plan is not upgraded and not refunded (R-4.4)."""

    list_display = ["gigabytes", "reference", "bought_at", "valid_until", "bought_by"]
    list_filter = ["bought_at", "valid_until"]
    search_fields = ["reference"]

    def get_fields(self, request: HttpRequest, obj: NetworkPlan | None = None) -> list[str]:
        return shown_fields(NetworkPlan) if obj else ["gigabytes", "reference"]

    def has_change_permission(self, request: HttpRequest, obj: NetworkPlan | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: NetworkPlan, form: Any, change: bool) -> None:
        obj.__dict__.update(plans.buy(obj.gigabytes, acting(request), obj.reference).__dict__)

    def audit(self, request: HttpRequest, obj: Any, what: str, names: Any = ()) -> None:
        """Buying records its own event."""


@admin.register(PlanUse)
class PlanUses(Facts):
    list_display = ["plan", "statement", "prepaid_bytes"]
    list_select_related = ["plan"]
    list_filter = ["statement"]
    search_fields = ["plan__reference"]


class PlanUseRows(FactsInline):
    model = PlanUse
    fields = readonly_fields = ["plan", "prepaid_bytes"]


@admin.register(ClosedStatement)
class ClosedStatements(Facts):
    list_display = ["month", "closed_at", "lines_count", "digest"]
    list_filter = ["closed_at"]
    search_fields = ["month", "digest"]
    inlines = [PlanUseRows]


@admin.register(StatementLine)
class StatementLines(Facts):
    list_display = ["statement", "instance", "item_code", "source", "destination", "quantity", "charged", "amount"]
    list_filter = ["item_code"]
    list_select_related = ["instance"]
    search_fields = ["instance__code", "instance__name"]


@admin.register(DownloadCharge)
class DownloadCharges(Facts):
    list_display = ["at", "instance", "set", "bytes", "address", "region"]
    list_filter = ["address"]
    list_select_related = ["instance", "set__instance"]
    search_fields = ["instance__code", "instance__name"]


@admin.register(Budget)
class Budgets(Facts):
    """Made and changed on their own page, where they are refused in words and leave an event."""

    list_display = ["group", "amount", "percents", "on_forecast", "is_enabled", "created_at", "created_by"]
    list_filter = ["is_enabled", "on_forecast"]
    list_select_related = ["group", "created_by"]
    search_fields = ["group__name"]
