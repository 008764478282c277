from __future__ import annotations

from django.urls import path

from console.backup_settings import views

app_name = "backup_settings"
urlpatterns = [
    path("", views.SettingsDialog.as_view(), name="dialog"),
    path("preview/", views.preview, name="preview"),
    path("seven/", views.seven, name="seven"),
    path("again/", views.again, name="again"),
    path("undo/<code:code>/", views.undo, name="undo"),
]
