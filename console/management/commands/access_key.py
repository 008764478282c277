from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console.management.store_arguments import person
from console.openapi import keys
from console.openapi.keys import Limits, NewSecret
from console.openapi.models import Reach
from regions.refusals import Refusal


class Command(BaseCommand):
    help = "Access keys for the programming interface."

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_subparsers(dest="what", required=True)
        create = what.add_parser("create", help="create a key for a person, and print its secret, once")
        create.add_argument("user", help="whose key it is: it never may more than they may")
        create.add_argument("--label", default="", help="what uses it")
        create.add_argument("--looks-only", action="store_true", help="it changes nothing")
        create.add_argument("--network", action="append", default=[], help="an address or network it may come from")
        create.add_argument(
            "--accept-download-rules",
            action="store_true",
            help="in that person's name: they have learnt the billing rules, and lists may hold download links",
        )
        create.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, what: str, user: str, **options: Any) -> None:
        by = person(user)
        if by.user is None:
            raise CommandError("Say whose key it is.")
        reach = Reach.LOOKS if options["looks_only"] else Reach.OPERATES
        limits = Limits(options["label"], reach, None, options["network"])
        try:
            made = keys.create(by.user, limits, by, accepts_rules=options["accept_download_rules"])
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
        self.tell(made, as_json=options["json"])

    def tell(self, made: NewSecret, *, as_json: bool) -> None:
        said = {"access_key_id": made.key.key_id, "access_key_secret": made.secret}
        if as_json:
            self.stdout.write(json.dumps(said))
            return
        for name, value in said.items():
            self.stdout.write(f"{name}: {value}")
