from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from backups import recoveries
from backups.events import By
from backups.self_recovery import rebuilding
from console.management.store_arguments import add_store_arguments, attached, credentials, options_of, person
from regions.models import Store
from regions.refusals import Refusal
from regions.storage import StorageError

MOVED = "If the store lies elsewhere now, name its address instead: file:///folder, or s3://bucket/prefix."


class Command(BaseCommand):
    help = (
        "Bring the catalogue back from the manifests in a store, into an empty Farshore: instances, policies, copies"
        " and what can be restored from them. Nothing is enabled, nothing expires until it is confirmed."
        " Safe to repeat. The Farshore that was lost must never be started again: both would be the same installation."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_store_arguments(parser)
        parser.add_argument("--region", default="", metavar="ID", help="the store's region, where no manifest says it")
        parser.add_argument("--rehash", action="store_true", help="read objects that look replaced, and compare them")
        parser.add_argument("--confirm", action="store_true", help="nothing is missing: let copies expire again")
        parser.add_argument("--user", default="", help="who does it; recorded, and needed to confirm")

    def handle(self, *args: Any, store: str, region: str, rehash: bool, confirm: bool, user: str, **given: Any) -> None:
        by = person(user)
        try:
            place = attached(store) or rebuilding.adopt(store, options_of(given), credentials(), region, by)
            if confirm:
                self.confirm(place, by)
            else:
                self.tell(rebuilding.rebuild(place, by, rehash=rehash))
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
        except StorageError as error:
            raise CommandError(f"{error.sentence} {MOVED}") from error

    def confirm(self, store: Store, by: By) -> None:
        recovery = recoveries.of_store(store)
        if recovery is None:
            raise CommandError("Nothing of this store was brought back.")
        recoveries.confirm(recovery, by)
        self.stdout.write(f"Copies in the store of {store.region} expire by their dates again.")

    def tell(self, report: rebuilding.Report) -> None:
        for trouble in report.troubles:
            self.stdout.write(f"! {trouble}")
        said = ", ".join(f"{count} {noun}" for noun, count in report.added.items()) or "nothing that was not known"
        self.stdout.write(
            f"From the store of {report.store.region}: {said}; {len(report.troubles)} objects are told above."
        )
        self.stdout.write("Nothing of it expires or is erased until it is confirmed (--confirm --user NAME).")
