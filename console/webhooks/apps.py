from __future__ import annotations

from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    name = "console.webhooks"
    label = "console_webhooks"
    verbose_name = "Webhooks"

    def ready(self) -> None:
        from console.webhooks.models import Endpoint
        from regions import secrets

        for column in ("sealed_secret", "sealed_former_secret"):
            secrets.register("console_webhooks.Endpoint", column, Endpoint.identity.fget)
