from __future__ import annotations

import json
import os
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from backups.models import ResourceGroup
from console.management.store_arguments import person
from console.webhooks import endpoints
from console.webhooks.endpoints import NewSecret, Wish
from console.webhooks.forms import USUAL
from console.webhooks.models import CHOSEN
from regions.refusals import Refusal

URL = "FARSHORE_WEBHOOK_URL"


class Command(BaseCommand):
    help = "Webhooks: addresses that are told what happens."

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_subparsers(dest="what", required=True)
        create = what.add_parser("create", help="create a webhook of a person's, and print its secret, once")
        create.add_argument("user", help="whose webhook it is: it never hears of more than they do more with than look")
        create.add_argument("--name", default="", help="what listens there")
        kinds = [kind.value for kind in CHOSEN]
        usual = "all but a copy's arrival, unless it is said"
        create.add_argument("--kind", action="append", default=[], choices=kinds, help=f"what it tells: {usual}")
        create.add_argument(
            "--group", action="append", default=[], help="a resource group it hears of: all, unless said"
        )
        create.add_argument("--json", action="store_true", help="print one JSON object")
        create.epilog = f"The URL comes from the environment: {URL}. Its path may be a secret of the receiver's."

    def handle(self, *args: Any, what: str, user: str, **options: Any) -> None:
        by = person(user)
        if by.user is None:
            raise CommandError("Say whose webhook it is.")
        url = os.environ.get(URL, "")
        groups = [_group(name) for name in options["group"]] or None
        wish = Wish(options["name"] or "webhook", url, options["kind"] or USUAL, groups)
        try:
            made = endpoints.create(by.user, wish, by)
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
        self.tell(made, as_json=options["json"])

    def tell(self, made: NewSecret, *, as_json: bool) -> None:
        said = {"webhook": made.endpoint.code, "secret": made.secret}
        if as_json:
            self.stdout.write(json.dumps(said))
            return
        for name, value in said.items():
            self.stdout.write(f"{name}: {value}")


def _group(name: str) -> ResourceGroup:
    found = ResourceGroup.objects.filter(name=name).first()
    if found is None:
        raise CommandError(f"There is no resource group named {name}.")
    return found
