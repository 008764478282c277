from __future__ import annotations

from django.urls import path

from console.drills import views

app_name = "drills"
urlpatterns = [
    path("<int:pk>/", views.page, name="page"),
    path("now/<code:code>/", views.DrillNow.as_view(), name="now"),
    path("timetable/<code:code>/", views.Timetable.as_view(), name="timetable"),
    path("queries/add/<code:code>/", views.AddQuery.as_view(), name="add_query"),
    path("queries/<int:pk>/remove/", views.RemoveQuery.as_view(), name="remove_query"),
]
