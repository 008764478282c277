from __future__ import annotations

from django.apps import AppConfig


class BillsConfig(AppConfig):
    name = "console.bills"
    label = "console_bills"
