from __future__ import annotations

from django.urls import path

from console.webhooks import views

app_name = "webhooks"
urlpatterns = [
    path("", views.EndpointList.as_view(), name="list"),
    path("create/", views.Create.as_view(), name="create"),
    path("<slug:code>/", views.Page.as_view(), name="page"),
    path("<slug:code>/settings/", views.Change.as_view(), name="change"),
    path("<slug:code>/rotate/", views.Rotate.as_view(), name="rotate"),
    path("<slug:code>/disable/", views.Disable.as_view(), name="disable"),
    path("<slug:code>/enable/", views.Enable.as_view(), name="enable"),
    path("<slug:code>/remove/", views.Remove.as_view(), name="remove"),
    path("<slug:code>/test/", views.Test.as_view(), name="test"),
    path("<slug:code>/deliveries/<slug:message_id>/", views.OfDelivery.as_view(), name="delivery"),
]
