"""Which tabs the console has: every folder beside this file that has an apps.py."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent

# A tab answers under its own name unless its address says more.
ADDRESSES = {
    "overview": "",
    "pending_instances": "backups/pending/",
    "backup_instances": "backups/instances/",
    "backup_sets": "backups/sets/",
    "backup_settings": "backups/settings/",
    "restores": "backups/restores/",
    "agreement": "backups/agreement/",
    "openapi": "access-keys/",
}


def tabs() -> list[str]:
    return sorted(file.parent.name for file in HERE.glob("*/apps.py"))


def has_addresses(tab: str) -> bool:
    return (HERE / tab / "urls.py").exists()


def address_of(tab: str) -> str:
    return ADDRESSES.get(tab, f"{tab.replace('_', '-')}/")
