"""A forgotten password: a link by mail where there is a mail server, else a word about who sets a new one.

Whoever sets a new one, by the link or on the page for it, leaves an event behind (R-1.2).
"""

from __future__ import annotations

from typing import Any

from allauth.account.signals import password_changed, password_reset
from allauth.account.views import PasswordResetView
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import User
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.decorators import method_decorator

from backups import events
from backups.events import By


@method_decorator(login_not_required, name="dispatch")
class ResetByMail(PasswordResetView):
    """Without EMAIL_HOST no link is made at all: whatever wrote it down would hand out the account (I18)."""

    def dispatch(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if not settings.EMAIL_HOST:
            return render(request, "account/password_reset_no_mail.html")
        return super().dispatch(request, *args, **kwargs)


@receiver(password_reset)
def record_reset(request: HttpRequest, user: User, **_: Any) -> None:
    said = f"{user.get_username()} set a new password by the link that was mailed."
    events.record("person.password_reset", said, by=_by(request, user))


@receiver(password_changed)
def record_change(request: HttpRequest, user: User, **_: Any) -> None:
    events.record("person.password_changed", f"{user.get_username()} set a new password.", by=_by(request, user))


def _by(request: HttpRequest, user: User) -> By:
    return By(user, request.META.get("REMOTE_ADDR", ""))
