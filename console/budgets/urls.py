from __future__ import annotations

from django.urls import path

from console.budgets import views

app_name = "budgets"
urlpatterns = [
    path("", views.BudgetList.as_view(), name="page"),
    path("add/", views.Add.as_view(), name="add"),
    path("<int:pk>/", views.Change.as_view(), name="change"),
    path("<int:pk>/remove/", views.Remove.as_view(), name="remove"),
]
