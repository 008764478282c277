from __future__ import annotations

import json
import os
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from backups.engines.sqlserver import Verifier, inspect
from backups.engines.sqlserver.checksums import Level, Verdict
from backups.engines.sqlserver.columns import COLUMNS, columns_of
from console.management.found_files import Found, Opened, files_at
from console.management.header_text import lines_of
from regions.refusals import Refusal

ALL_READ, SOME_REFUSED, WRONG_USE = 0, 1, 2


class Command(BaseCommand):
    help = (
        "Say what RESTORE HEADERONLY, FILELISTONLY and LABELONLY would say of SQL Server backup files, without a"
        " server. Exit code 0: all were read; 1: some were refused or are damaged; 2: wrong use."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("places", nargs="+", metavar="FILE", help="a file, a folder, file:///… or s3://bucket/…")
        parser.add_argument("--verify", action="store_true", help="read all bytes and say what their checksums prove")
        parser.add_argument("--json", action="store_true", help="one JSON list with an object per backup set")
        parser.add_argument("--endpoint", default="", help="https://… of an S3 service other than AWS")
        parser.add_argument("--service-region", default="", help="the service's own name of the region")
        parser.add_argument("--addressing", default="", choices=("", "path", "virtual"))
        parser.add_argument("--ca-file", default="", help="path of a CA file on this machine")
        parser.epilog = (
            "Keys of a bucket come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN;"
            " AWS_ENDPOINT_URL_S3, AWS_REGION and AWS_CA_BUNDLE stand in for options."
        )

    def handle(self, *args: Any, places: list[str], verify: bool, **given: Any) -> None:
        options = {
            "endpoint": given["endpoint"],
            "region": given["service_region"],
            "addressing": given["addressing"],
            "verify": given["ca_file"],
        }
        try:
            walks = [files_at(place, options, os.environ) for place in places]
        except Refusal as refusal:
            raise CommandError(str(refusal), returncode=WRONG_USE) from refusal
        told = (one for walk in walks for found in walk for one in told_of(found, verify=verify))
        raise SystemExit(self.as_json(told) if given["json"] else self.as_text(told))

    def as_json(self, told: Iterator[dict[str, Any]]) -> int:
        """Write the list while it grows: however many files there are, one object is held."""
        code, begin = ALL_READ, "["
        for one in told:
            self.stdout.write(begin + "\n" + json.dumps(one), ending="")
            code, begin = max(code, code_of(one)), ","
        self.stdout.write("[]" if begin == "[" else "\n]")
        return code

    def as_text(self, told: Iterator[dict[str, Any]]) -> int:
        code, sets, refused = ALL_READ, 0, 0
        for one in told:
            self.stdout.write("\n".join(lines_of(one)) + "\n")
            code, sets, refused = max(code, code_of(one)), sets + (not one["refused"]), refused + bool(one["refused"])
        self.stdout.write(f"Backup sets: {sets}. Files refused: {refused}.")
        return code


def told_of(found: Found, *, verify: bool) -> Iterator[dict[str, Any]]:
    """Yield one object for each set of a file, in the order they lie in it; one for a file that is refused.

    A file in which anything is wrong is refused whole, for nothing in a lying file can be believed.
    """
    verification = None
    try:
        with found.opened() as file:
            inspection = inspect(file.read, file.size)
            checked = _verification(file) if verify else None
            file.settle()
            verification = checked
        if inspection.refusal:
            raise inspection.refusal
    except Refusal as refusal:
        said = {"code": refusal.code, "sentence": refusal.sentence}
        nothing = dict.fromkeys(COLUMNS)
        yield {"path": found.path, "Position": None, "refused": said, **nothing, "verification": verification}
        return
    for facts in inspection.sets:
        begin = {"path": found.path, "Position": facts.position, "refused": None}
        yield {**begin, **columns_of(facts), "verification": verification}


def _verification(file: Opened) -> dict[str, str]:
    verifier = Verifier()
    for piece in file.pieces():
        verifier.feed(piece)
        if verifier.is_decided:
            break
    verdict: Verdict = verifier.verdict()
    return {"level": str(verdict.level), "sentence": verdict.sentence}


def code_of(told: dict[str, Any]) -> int:
    is_damaged = told["verification"] and told["verification"]["level"] == Level.DAMAGED
    return SOME_REFUSED if told["refused"] or is_damaged else ALL_READ
