from __future__ import annotations

from django.apps import AppConfig
from django.urls import register_converter


class WidgetsConfig(AppConfig):
    name = "console.widgets"
    label = "console_widgets"

    def ready(self) -> None:
        from console.widgets.addresses import CodeConverter

        register_converter(CodeConverter, "code")
