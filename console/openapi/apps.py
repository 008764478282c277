from __future__ import annotations

from django.apps import AppConfig


class OpenapiConfig(AppConfig):
    name = "console.openapi"
    label = "console_openapi"
    verbose_name = "Programming interface"

    def ready(self) -> None:
        from console.openapi.models import AccessKey
        from regions import secrets

        secrets.register("console_openapi.AccessKey", "sealed_secret", AccessKey.identity.fget)
