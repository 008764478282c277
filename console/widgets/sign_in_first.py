"""Everything but signing in asks for a signed-in person; a fragment sends the whole page to the sign-in page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse
from django.shortcuts import resolve_url
from django.utils.http import urlencode
from django_htmx.http import HttpResponseClientRedirect


class SignInFirst(LoginRequiredMiddleware):
    """A redirect would be followed by htmx and its answer swapped into a table: it is told to leave instead."""

    def handle_no_permission(self, request: HttpRequest, view_func: Any) -> HttpResponse:
        if request.headers.get("HX-Request") != "true":
            return super().handle_no_permission(request, view_func)
        shown = urlsplit(request.headers.get("HX-Current-URL", ""))
        back = f"{shown.path}?{shown.query}" if shown.query else shown.path or "/"
        where = resolve_url(self.get_login_url(view_func))
        return HttpResponseClientRedirect(f"{where}?{urlencode({self.get_redirect_field_name(view_func): back})}")
