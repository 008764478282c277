from __future__ import annotations

from django.urls import path

from console.overview.views import page, progress

app_name = "overview"
urlpatterns = [path("", page, name="page"), path("overview/progress/", progress, name="progress")]
