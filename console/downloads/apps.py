from __future__ import annotations

from django.apps import AppConfig


class DownloadsConfig(AppConfig):
    name = "console.downloads"
    label = "console_downloads"
