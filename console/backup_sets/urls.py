from __future__ import annotations

from django.urls import path

from console.backup_sets import holds, views

app_name = "backup_sets"
urlpatterns = [
    path("", views.SetList.as_view(), name="list"),
    path("progress/", views.progress, name="progress"),
    path("copy/", views.CopyNow.as_view(), name="copy"),
    path("<int:pk>/", views.page, name="page"),
    path("<int:pk>/copies/", views.copies, name="copies"),
    path("<int:pk>/server-script/", views.server_script, name="server_script"),
    path("<int:pk>/delete/", views.Delete.as_view(), name="delete"),
    path("copies/<int:pk>/retry/", views.retry, name="retry"),
    path("copies/<int:pk>/again/", views.again, name="again"),
    path("copies/<int:pk>/hold/", holds.Place.as_view(), name="hold"),
    path("holds/<int:pk>/release/", holds.Release.as_view(), name="release"),
    path("copies/<int:pk>/cancel/", views.Cancel.as_view(), name="cancel"),
]
