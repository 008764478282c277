"""The street map: sign-in, the admin, health, then every tab under its own address."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.urls import include, path
from django.views.i18n import set_language

from console import health, metrics
from console.password_reset import ResetByMail
from console.tabs import address_of, has_addresses, tabs

urlpatterns = [
    path("health", health.alive, name="health"),
    path("healthz", health.alive, name="healthz"),
    path("readyz", health.ready, name="readyz"),
    path("metrics", metrics.metrics, name="metrics"),
    path("accounts/password/reset/", ResetByMail.as_view(), name="account_reset_password"),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
    path("i18n/setlang/", login_not_required(set_language), name="set_language"),
    path("d/", include("console.downloads.links")),
    *(path(address_of(tab), include(f"console.{tab}.urls")) for tab in tabs() if has_addresses(tab)),
]
