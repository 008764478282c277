from __future__ import annotations

from django.urls import path

from console.backup_instances import views

app_name = "backup_instances"
urlpatterns = [
    path("", views.BackupList.as_view(), name="list"),
    path("progress/", views.progress, name="progress"),
]
