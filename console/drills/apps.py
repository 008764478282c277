from __future__ import annotations

from django.apps import AppConfig


class DrillsConfig(AppConfig):
    name = "console.drills"
    label = "console_drills"
