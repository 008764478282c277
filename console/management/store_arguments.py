"""How a command is told of a store that may not be attached: its address, options as flags, keys by environment only.

Never as an argument: the list of processes is everybody's to read (I18).
"""

from __future__ import annotations

import os
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError

from backups.events import FARSHORE, By
from regions.models import Region, Store
from regions.refusals import Refusal
from regions.stores import store_of

OPTIONS = ("endpoint", "region", "addressing", "verify")
KEYS = {
    "access_key_id": "FARSHORE_STORE_ACCESS_KEY_ID",
    "secret_access_key": "FARSHORE_STORE_SECRET_ACCESS_KEY",
    "session_token": "FARSHORE_STORE_SESSION_TOKEN",
}


def add_store_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", help="file:///folder, s3://bucket/prefix, or an attached region's id")
    parser.add_argument("--endpoint", default="", help="https://… of an S3 service other than AWS")
    parser.add_argument("--service-region", default="", help="the service's own name of the region")
    parser.add_argument("--addressing", default="", choices=("", "path", "virtual"))
    parser.add_argument("--verify", default="", help="path of a CA file on this machine")
    parser.epilog = f"Keys of a bucket come from the environment: {', '.join(KEYS.values())}."


def options_of(given: dict[str, Any]) -> dict[str, str]:
    return {name: said for name in OPTIONS if (said := given["service_region" if name == "region" else name])}


def credentials() -> dict[str, str]:
    return {name: said for name, variable in KEYS.items() if (said := os.environ.get(variable, ""))}


def attached(named: str) -> Store | None:
    """Return the store of a region when that is what was named; raises Refusal for a region without one."""
    if "://" in named or named.startswith("/"):
        return None
    if not Region.objects.filter(pk=named).exists():
        raise Refusal("NoSuchRegion", f"{named} is neither an address nor a region.", "See the list under Stores.")
    return store_of(named)


def person(named: str) -> By:
    """Return who acts; raises CommandError for nobody."""
    if not named:
        return FARSHORE
    user = User.objects.filter(username=named, is_active=True).first()
    if user is None:
        raise CommandError(f"There is no active user {named}.")
    return By(user)
