from __future__ import annotations

from django.urls import path

from console.agreement import views

app_name = "agreement"
urlpatterns = [
    path("", views.AcceptanceList.as_view(), name="page"),
    path("versions/<int:version>/", views.version, name="version"),
    path("standing/", views.Standing.as_view(), name="standing"),
]
