"""Dialogs: with script the server's answer fills the native <dialog>, without it the same words stand on a page.

An invalid form comes back with 200 and its errors (a 4xx would be an error in the browser's console); success is 204
with events for the page to hear, or a redirect where there is no script.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.utils.html import strip_tags
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.http import HttpResponseClientRedirect, trigger_client_event

from console.widgets.fragments import fragment_target, render_page

TARGET = "dialog-body"
HEADING = re.compile(r'id="dialog-title">(.*?)</h[12]>', re.DOTALL)


def in_dialog(request: HttpRequest) -> bool:
    return fragment_target(request) == TARGET


def render_dialog(request: HttpRequest, template: str, context: dict[str, Any], *, back: str) -> HttpResponse:
    """Render `template` in the dialog, or on a page of its own whose Cancel leads `back`."""
    inside = in_dialog(request)
    context = context | {"back": way_back(request, back), "in_dialog": inside, "level": 2 if inside else 1}
    if not inside:
        context["dialog"] = render_to_string(template, context, request)
        context["heading"] = _heading_of(context["dialog"])
    return render_page(request, "widgets/dialog_page.html", {TARGET: template}, context)


def _heading_of(dialog: str) -> str:
    """Return the dialog's own heading, which names the page as well."""
    found = HEADING.search(dialog)
    return unescape(strip_tags(found[1])) if found else ""


def done(request: HttpRequest, sentence: str, *, back: str, tone: str = "") -> HttpResponse:
    """Close the dialog, say what happened, let lists load anew."""
    if in_dialog(request):
        return announce(HttpResponse(status=204), sentence, tone=tone, closes=True)
    messages.add_message(request, messages.ERROR if tone == "bad" else messages.SUCCESS, sentence)
    return HttpResponseRedirect(way_back(request, back))


def leave(request: HttpRequest, sentence: str, *, to: str) -> HttpResponse:
    """Say what happened on another page."""
    messages.success(request, sentence)
    return HttpResponseClientRedirect(to) if request.htmx else HttpResponseRedirect(to)


def announce(response: HttpResponse, sentence: str, *, tone: str = "", closes: bool = False) -> HttpResponse:
    trigger_client_event(response, "toast", {"text": sentence, "tone": tone})
    trigger_client_event(response, "list:changed", {})
    return trigger_client_event(response, "dialog:close", {}) if closes else response


def way_back(request: HttpRequest, usual: str) -> str:
    """Return `next` when it stays on this site, else the usual place."""
    wanted = request.POST.get("next") or request.GET.get("next", "")
    safe = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if safe else usual
