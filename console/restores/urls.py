from __future__ import annotations

from django.urls import path

from console.restores import deeds, many, pages, recovery, views, wizard

app_name = "restores"
urlpatterns = [
    path("", views.RestoreList.as_view(), name="list"),
    path("progress/", views.progress, name="progress"),
    path("new/", wizard.New.as_view(), name="new"),
    path("many/", many.Many.as_view(), name="many"),
    path("many/preview/", many.preview, name="preview"),
    path("recovery/", recovery.RecoveryList.as_view(), name="recovery"),
    path("<code:code>/", pages.page, name="page"),
    path("<code:code>/progress/", pages.progress, name="follow"),
    path("<code:code>/cancel/", deeds.Cancel.as_view(), name="cancel"),
    path("<code:code>/agree/", deeds.Agree.as_view(), name="agree"),
    path("<code:code>/confirm/", deeds.Confirm.as_view(), name="confirm"),
    path("<code:code>/write-off/", deeds.WriteOff.as_view(), name="write_off"),
    path("<code:code>/remove/", deeds.Remove.as_view(), name="remove"),
    path("<code:code>/password/", pages.password, name="password"),
]
