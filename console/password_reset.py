"""A forgotten password: a link by mail where there is a mail server, else a word about who sets a new one."""

from __future__ import annotations

from allauth.account.views import PasswordResetView
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.decorators import method_decorator


@method_decorator(login_not_required, name="dispatch")
class ResetByMail(PasswordResetView):
    """Without EMAIL_HOST no link is made at all: whatever wrote it down would hand out the account (I18)."""

    def dispatch(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if not settings.EMAIL_HOST:
            return render(request, "account/password_reset_no_mail.html")
        return super().dispatch(request, *args, **kwargs)
