from __future__ import annotations

from django.urls import path

from console.downloads import views

app_name = "downloads"
urlpatterns = [path("<int:pk>/", views.Ask.as_view(), name="ask")]
