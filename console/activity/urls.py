from __future__ import annotations

from django.urls import path

from console.activity import views

app_name = "activity"
urlpatterns = [
    path("", views.EventList.as_view(), name="list"),
    path("export/", views.export, name="export"),
    path("alerts/", views.AlertList.as_view(), name="alerts"),
]
