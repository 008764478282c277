from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from backups.self_recovery import self_restore
from console.management.store_arguments import add_store_arguments, credentials, options_of
from regions import secrets, stores
from regions.locations import clean_options, clean_url
from regions.models import Store
from regions.refusals import Refusal
from regions.storage import Storage, StorageError, StoreOptions, open_storage


class Command(BaseCommand):
    help = (
        "Bring Farshore's own database back from the newest dump in a store, into an empty one: bills, agreements,"
        " events, credentials. Then rebuild_catalog, for each destination, adds what arrived after the dump."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_store_arguments(parser)
        parser.add_argument("--keys", default="", metavar="FILE", help="the recovery kit; - reads it from the terminal")

    def handle(self, *args: Any, store: str, keys: str, **given: Any) -> None:
        try:
            storage = self.open(store, given)
            dump = self_restore.newest(storage)
            self_restore.require_empty()
            if keys:
                secrets.adopt(sys.stdin.read() if keys == "-" else Path(keys).read_text())
            self_restore.restore(storage, dump)
            call_command("migrate", verbosity=0, interactive=False)
            wrong = self_restore.settle(dump)
        except StorageError as error:
            raise CommandError(error.sentence) from error
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"The recovery kit cannot be read: {error}") from error
        except Refusal as refusal:
            asks = " Give the recovery kit: --keys FILE." if refusal.code == "KeyMissing" else ""
            raise CommandError(f"{refusal}{asks}") from refusal
        self.tell(dump, wrong)

    def open(self, url: str, given: dict[str, Any]) -> Storage:
        url = clean_url(url)
        return open_storage(StoreOptions(url, clean_options(url, options_of(given)), credentials()))

    def tell(self, dump: self_restore.Dump, wrong: list[str]) -> None:
        for sentence in wrong:
            self.stdout.write(f"! {sentence}")
        self.stdout.write(f"Restored from the dump of {dump.began_at:%Y-%m-%d %H:%M:%S} UTC.")
        self.stdout.write("People sign in with the passwords they had then.")
        for store in Store.objects.attached().select_related("region").order_by("region"):
            if stores.look(store).state != Store.State.OK:
                self.stdout.write(
                    f"! The store of {store.region} ({store.url}) is not there: {store.last_error} If it lies elsewhere"
                    " now, name its address to rebuild_catalog."
                )
        self.stdout.write(
            "Nothing expires or is erased until it is confirmed, store by store: run rebuild_catalog REGION for each"
            " destination, which adds what arrived after the dump, then rebuild_catalog REGION --confirm --user NAME."
        )
        if wrong:
            raise SystemExit(1)
