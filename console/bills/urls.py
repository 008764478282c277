from __future__ import annotations

from django.urls import path

from console.bills import views

app_name = "bills"
urlpatterns = [
    path("", views.MonthPage.as_view(), name="page"),
    path("lines/", views.Lines.as_view(), name="lines"),
    path("copies/", views.Copies.as_view(), name="copies"),
    path("downloads/", views.Downloads.as_view(), name="downloads"),
    path("export/<slug:form>/", views.export, name="export"),
    path("print/", views.on_paper, name="print"),
]
