"""Everything but signing in asks for a signed-in person; a fragment sends the whole page to the sign-in page.

Such an answer bears X-Signed-Out, so that the script can stay where something was typed and say so (`console.js`).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse
from django.shortcuts import resolve_url
from django.utils.http import urlencode
from django.views.csrf import csrf_failure
from django_htmx.http import HttpResponseClientRedirect


class SignInFirst(LoginRequiredMiddleware):
    """A redirect would be followed by htmx and its answer swapped into a table: it is told to leave instead."""

    def handle_no_permission(self, request: HttpRequest, view_func: Any) -> HttpResponse:
        if request.headers.get("HX-Request") != "true":
            return super().handle_no_permission(request, view_func)
        return _sign_in(request, self.get_login_url(view_func), self.get_redirect_field_name(view_func))


def form_expired(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form without a valid token: with its session the cookie that proves it may have gone, too."""
    if request.headers.get("HX-Request") == "true" and not request.user.is_authenticated:
        return _sign_in(request)
    return csrf_failure(request, reason)


def _sign_in(request: HttpRequest, login: str = settings.LOGIN_URL, field: str = REDIRECT_FIELD_NAME) -> HttpResponse:
    shown = urlsplit(request.headers.get("HX-Current-URL", ""))
    back = f"{shown.path}?{shown.query}" if shown.query else shown.path or "/"
    answer = HttpResponseClientRedirect(f"{resolve_url(login)}?{urlencode({field: back})}")
    answer.headers["X-Signed-Out"] = "1"
    return answer
