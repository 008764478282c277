from __future__ import annotations

from django.apps import AppConfig


class StoresConfig(AppConfig):
    name = "console.stores"
    label = "console_stores"
