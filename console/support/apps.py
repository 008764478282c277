from __future__ import annotations

from django.apps import AppConfig


class SupportConfig(AppConfig):
    """The admin for support staff: every noun to be found, none to be bent."""

    name = "console.support"
    label = "console_support"
    verbose_name = "Support"

    def ready(self) -> None:
        from allauth.account.decorators import secure_admin_login
        from django.contrib import admin
        from django.shortcuts import redirect

        site = admin.site
        site.site_header = site.site_title = "Farshore support"
        site.index_title = "Every noun"
        site.password_change = lambda request, extra_context=None: redirect("account_change_password")
        site.login = secure_admin_login(site.login)  # one way in: the console's own sign-in and its rate limits
