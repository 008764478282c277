from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class BillingConfig(AppConfig):
    name = "billing"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from billing import price_book

        post_migrate.connect(price_book.load_after_migrate, sender=self, dispatch_uid="billing.price_book")
