from __future__ import annotations

from django.urls import path

from console.pending_instances.views import AbsentList, PendingList

app_name = "pending_instances"
urlpatterns = [
    path("", PendingList.as_view(), name="list"),
    path("absent/", AbsentList.as_view(), name="absent"),
]
