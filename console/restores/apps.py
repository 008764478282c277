from __future__ import annotations

from django.apps import AppConfig


class RestoresConfig(AppConfig):
    name = "console.restores"
    label = "console_restores"
