from __future__ import annotations

from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    name = "console.webhooks"
    label = "console_webhooks"
    verbose_name = "Webhooks"

    def ready(self) -> None:
        from console.webhooks.models import Endpoint, FormerSecret
        from regions import secrets

        secrets.register("console_webhooks.Endpoint", "sealed_secret", Endpoint.identity.fget)
        secrets.register("console_webhooks.FormerSecret", "sealed", FormerSecret.identity.fget)
