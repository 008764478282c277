from __future__ import annotations

from django.apps import AppConfig


class BackupInstancesConfig(AppConfig):
    name = "console.backup_instances"
    label = "console_backup_instances"
