from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand
from django.db.models import Exists, OuterRef, Q

from backups import drilling
from backups.drilling import drills
from backups.events import FARSHORE
from backups.models import CopyPolicy, Drill, Instance
from console.management.answers import asked
from regions.refusals import Refusal

LOOK_SECONDS = 1


class Command(BaseCommand):
    help = (
        "Restore from the copies of each instance now, in a throw-away server here, and check it."
        " Exit code 0: none failed; 1: one failed; 2: no such instance; 3: the database does not answer."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        whose = "IDs or names; left out: every instance whose cross-region backup is on"
        parser.add_argument("instance", nargs="*", metavar="INSTANCE", help=whose)
        parser.add_argument("--pick", choices=Drill.Pick.values, default=Drill.Pick.NEWEST)
        parser.add_argument("--json", action="store_true", help="one JSON array, an object for each instance")

    def handle(self, *args: Any, instance: list[str], pick: str, **options: Any) -> None:
        found = asked(self.stderr, lambda: instances_named(instance) if instance else instances_with_a_policy())
        told = []
        for one in found:
            told.append(answer_of(run_now(one, pick)))
            if not options["json"]:
                self.stdout.write(line_of(told[-1]))
        if options["json"]:
            self.stdout.write(json.dumps(told, indent=1))
        if any(one["verdict"] == Drill.State.FAILED for one in told):
            raise SystemExit(1)


def instances_named(names: Iterable[str]) -> list[Instance]:
    """Return those of these IDs or names; raises Refusal for one that nobody has."""
    wanted = set(names)
    found = list(Instance.objects.filter(Q(code__in=wanted) | Q(name__in=wanted)).order_by("name", "pk"))
    if unknown := wanted - {one.code for one in found} - {one.name for one in found}:
        raise Refusal("NoSuchInstance", f"There is no instance {', '.join(sorted(unknown))}.", "Use its ID or name.")
    return found


def instances_with_a_policy() -> list[Instance]:
    enabled = CopyPolicy.objects.cross_region().enabled().filter(instance=OuterRef("pk"))
    return list(Instance.objects.living().filter(Exists(enabled)).order_by("name", "pk"))


def run_now(instance: Instance, pick: str) -> Drill:
    """Run a drill in this process, or wait for the worker that was faster; call it from the main thread."""
    drill = drills.ask(instance, FARSHORE, pick=pick, rings=False)
    while drill.state in Drill.ACTIVE:
        mine = drills.claim_this(drill)
        if mine is None:
            time.sleep(LOOK_SECONDS)
        else:
            run_mine(mine)
        drill.refresh_from_db()
    return drill


def run_mine(drill: Drill) -> None:
    try:
        drilling.run(drill, is_patient=False)
    except KeyboardInterrupt:
        drills.give_back(drill)
        raise


def answer_of(drill: Drill) -> dict[str, Any]:
    until = drill.restored_until
    return {
        "instance": drill.instance.code,
        "name": drill.instance.name,
        "drill": drill.pk,
        "pick": drill.pick,
        "verdict": drill.state,
        "sentence": drill.sentence,
        "restored_until": until.isoformat() if until else None,
        "seconds": drill.seconds.get("recovery"),
        "stages": drill.seconds,
        "rows": drill.evidence.get("total_rows"),
        "tables": drill.rows,
        "checks": drill.checks,
        "isolation": drill.isolation,
    }


def line_of(told: dict[str, Any]) -> str:
    facts = [f"verdict {told['verdict']}"]
    facts += [f"{name} {told[name]}" for name in ("restored_until", "seconds", "rows") if told[name] is not None]
    passed = sum(check["passed"] for check in told["checks"])
    facts += [f"checks {passed} of {len(told['checks'])}"] if told["checks"] else []
    return f"{told['name']} ({told['instance']})  {', '.join(facts)}. {told['sentence']}"
