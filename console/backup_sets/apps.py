from __future__ import annotations

from django.apps import AppConfig


class BackupSetsConfig(AppConfig):
    name = "console.backup_sets"
    label = "console_backup_sets"
