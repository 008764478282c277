from __future__ import annotations

from django.apps import AppConfig


class PendingInstancesConfig(AppConfig):
    name = "console.pending_instances"
    label = "console_pending_instances"
