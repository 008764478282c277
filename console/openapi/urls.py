from __future__ import annotations

from django.urls import path

from console.openapi import views

app_name = "openapi"
urlpatterns = [
    path("", views.KeyList.as_view(), name="keys"),
    path("create/", views.Create.as_view(), name="create"),
    path("<int:pk>/", views.Change.as_view(), name="change"),
    path("<int:pk>/rotate/", views.Rotate.as_view(), name="rotate"),
    path("<int:pk>/disable/", views.Disable.as_view(), name="disable"),
    path("<int:pk>/enable/", views.Enable.as_view(), name="enable"),
]
