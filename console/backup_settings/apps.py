from __future__ import annotations

from django.apps import AppConfig


class BackupSettingsConfig(AppConfig):
    name = "console.backup_settings"
    label = "console_backup_settings"
