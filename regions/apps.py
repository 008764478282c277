from __future__ import annotations

from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate


class RegionsConfig(AppConfig):
    name = "regions"
    verbose_name = "Regions and stores"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from regions import moments, secrets, shipping, vanishing

        secrets.register("regions.Store", "sealed_credentials", lambda store: store.identity)
        connection_created.connect(moments.use, dispatch_uid="regions.moments")
        connection_created.connect(vanishing.notice, dispatch_uid="regions.vanishing")
        post_migrate.connect(shipping.load_after_migrate, sender=self, dispatch_uid="regions.catalog")
