from __future__ import annotations

from django.urls import path

from console.instances import databases, defaults, level2, logs, pages, refused, views

app_name = "instances"
urlpatterns = [
    path("", views.InstanceList.as_view(), name="list"),
    path("add/", views.Add.as_view(), name="add"),
    path("add/test/", views.test_connection, name="test"),
    path("<code:code>/", pages.CopiesOfInstance.as_view(), name="page"),
    path("<code:code>/logs/", logs.LogsOfInstance.as_view(), name="logs"),
    path("<code:code>/default/", pages.SetsOfInstance.as_view(), name="default"),
    path("<code:code>/default/refused/", refused.RefusedOfInstance.as_view(), name="refused"),
    path("<code:code>/databases/", databases.DatabasesOfInstance.as_view(), name="databases"),
    path("<code:code>/drills/", pages.DrillsOfInstance.as_view(), name="drills"),
    path("<code:code>/progress/", pages.progress, name="progress"),
    path("<code:code>/backup/", views.BackupNow.as_view(), name="backup"),
    path("<code:code>/default/settings/", defaults.Dialog.as_view(), name="defaults"),
    path("<code:code>/level2/", level2.Dialog.as_view(), name="level2"),
    path("<code:code>/level2/preview/", level2.preview, name="level2_preview"),
    path("<code:code>/release/", views.Release.as_view(), name="release"),
]
