"""Where links lead: short addresses of their own, outside the sign-in."""

from __future__ import annotations

from django.urls import path

from console.downloads import serving

app_name = "links"
urlpatterns = [
    path("<str:token>", serving.serve, name="bare"),
    path("<str:token>/<str:name>", serving.serve, name="file"),
]
