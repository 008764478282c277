"""A view that lacks what its kind must say cannot be made: it fails at the first request, not at the odd one."""

from __future__ import annotations

import pytest
from django.test import RequestFactory
from django.views import View

from console.bills.views import Behind, Ledger, OfBill
from console.budgets.views import Dialog, OfBudget
from console.drills.views import OfInstance as DrillDialog
from console.instances.pages import OfInstance
from console.restores.deeds import Deed
from console.widgets.listing import Listing, ListView

KINDS = [Listing, ListView, OfBill, Ledger, Behind, OfInstance, Dialog, OfBudget, DrillDialog, Deed]


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_that_lacks_what_its_kind_must_say_is_never_made(kind: type[View]) -> None:
    half_made = type("HalfMade", (kind,), {})
    with pytest.raises(TypeError, match="abstract method"):
        half_made.as_view()(RequestFactory().get("/"))
