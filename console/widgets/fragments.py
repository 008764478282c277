"""One view serves a page and its fragments; HX-Target says which is wanted, and Vary keeps caches honest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers

VARY = ("HX-Request", "HX-Target", "HX-Boosted", "HX-History-Restore-Request")


def fragment_target(request: HttpRequest) -> str:
    """Return the id of the element a fragment is wanted for; "" when the whole page is (boosted, history, plain)."""
    htmx = request.htmx
    if not htmx or htmx.boosted or htmx.history_restore_request:
        return ""
    return htmx.target or ""


def render_page(request: HttpRequest, page: str, fragments: Mapping[str, str], context: dict[str, Any]) -> HttpResponse:
    """Render the fragment whose target is asked for, else the page."""
    response = render(request, fragments.get(fragment_target(request), page), context)
    patch_vary_headers(response, VARY)
    return response
