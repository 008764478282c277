from __future__ import annotations

from django.urls import path

from console.stores import certificates, landing, views

app_name = "stores"
urlpatterns = [
    path("", views.StoreList.as_view(), name="list"),
    path("escrowed/", views.escrowed, name="escrowed"),
    path("attach/", views.Attach.as_view(), name="attach"),
    path("attach/test/", views.test_connection, name="test"),
    path("landing/", landing.LandingList.as_view(), name="landing_list"),
    path("landing/register/", landing.Register.as_view(), name="landing_register"),
    path("landing/register/test/", landing.test, name="landing_test"),
    path("landing/<code:code>/", landing.Page.as_view(), name="landing_page"),
    path("landing/<code:code>/retry/", landing.retry, name="landing_retry"),
    path("landing/<code:code>/retire/", landing.Retire.as_view(), name="landing_retire"),
    path("<int:pk>/", views.page, name="page"),
    path("<int:pk>/quota/", views.quota, name="quota"),
    path("<int:pk>/probe/", views.probe, name="probe"),
    path("<int:pk>/detach/", views.Detach.as_view(), name="detach"),
    path("<int:pk>/certificate/", certificates.Register.as_view(), name="certificate"),
    path("<int:pk>/certificate/<int:certificate>/", certificates.Withdraw.as_view(), name="withdraw"),
]
