"""`manage.py restore`: what the wizard does, from a terminal."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Max, Q
from django.utils.dateparse import parse_datetime

from backups import access, restoring
from backups.events import By
from backups.models import (
    BackupSet,
    Copy,
    CopyState,
    Instance,
    LandingServer,
    ResourceGroup,
    RestorableInterval,
    Restore,
    Role,
)
from backups.servers import landing_servers
from backups.terms.policy_settings import Refusals
from console.management.answers import asked
from regions.models import Store
from regions.refusals import Refusal

OFFERED = ("instance", "name", "database", "store", "until")
LOOK_SECONDS = 0.5
NOBODY_SECONDS = 30
State = Restore.State


class Command(BaseCommand):
    help = (
        "Restore an instance into a new server in its backup region (or, with --default, in its source region"
        " or onto itself). Exit code 1: refused or failed, with the reason in words; 3: the database does not answer."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("instance", nargs="?", help="its ID or name; without it, what can be restored is listed")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--until", metavar="MOMENT", help="restore to this moment, UTC: 2027-03-10T14:03:22")
        what.add_argument("--set", type=int, metavar="ID", help="restore exactly this backup set")
        what.add_argument("--newest", action="store_true", help="restore the newest moment there is (as without these)")
        parser.add_argument("--store", metavar="REGION", help="the region whose copies are read")
        parser.add_argument("--default", action="store_true", help="from a default backup, in the source region")
        parser.add_argument("--database", default="", help="which database, where backups hold one each")
        parser.add_argument("--name", default="", help="the new server's name")
        parser.add_argument("--landing", metavar="NAME", help="onto this landing server; its name or ID")
        parser.add_argument(
            "--as", dest="called", default="", help="what the new database is called, with --landing or --onto"
        )
        parser.add_argument(
            "--also",
            action="append",
            default=[],
            metavar="DATABASE=NAME",
            help="another database in the same go, and its new name; give it for each",
        )
        parser.add_argument(
            "--onto", metavar="INSTANCE", help="onto an instance that is there; its name, exactly (R-2.3)"
        )
        parser.add_argument("--check", action="store_true", help="only say what it would take and what is against it")
        parser.add_argument("--wait", action="store_true", help="wait until it is ready and say how to reach it")
        parser.add_argument("--user", default="", metavar="NAME", help="who asks; recorded, and held to their roles")
        parser.add_argument("--json", action="store_true", help="one JSON object, for programs")
        parser.add_argument("--list", action="store_true", help="list restores and their servers")
        parser.add_argument("--remove", metavar="CODE", help="stop and discard a restored server, or cancel a restore")
        parser.add_argument("--agree", metavar="CODE", help="agree, as --user, to a restore onto an instance")
        parser.add_argument("--confirm", metavar="CODE", help="keep what was restored; discard what it replaced")
        parser.add_argument("--write-off", metavar="CODE", help="give up a server whose machine is gone; say --reason")
        parser.add_argument("--reason", default="", help="why it is written off")

    def handle(self, *args: Any, **options: Any) -> None:
        self.json = options["json"]
        try:
            asked(self.stderr, lambda: self._do(options))
        except Refusals as refused:
            self._refuse(refused.items)
        except Refusal as refusal:
            self._refuse([refusal])

    def _do(self, options: dict[str, Any]) -> None:
        by = By(_person(options["user"]))
        if options["list"]:
            self._list(by)
        elif options["remove"]:
            self._remove(options["remove"], by)
        elif options["agree"]:
            self._agree(options["agree"], by)
        elif options["confirm"]:
            self._confirm(options["confirm"], by)
        elif options["write_off"]:
            self._write_off(options["write_off"], by, options["reason"])
        elif options["instance"] is None:
            self._offer(by)
        else:
            self._restore(options, by)

    def _refuse(self, refusals: list[Refusal]) -> None:
        if self.json:
            self._print({"state": "refused", "refusals": [refusal.as_dict() for refusal in refusals]})
        for refusal in refusals:
            self.stderr.write(str(refusal))
        raise SystemExit(1)

    def _say(self, sentence: str) -> None:
        if not self.json:
            self.stdout.write(sentence)
            self.stdout.flush()

    def _print(self, found: Any) -> None:
        self.stdout.write(json.dumps(found, indent=1, cls=DjangoJSONEncoder))

    # ---- restoring

    def _restore(self, options: dict[str, Any], by: By) -> None:
        instance = _instance(options["instance"] or "", by)
        what = _what(instance, options)
        if options["onto"]:
            what["onto"] = _target(instance, options["onto"], by)
        if options["landing"]:
            what["landing"] = _landing(instance, options["landing"])
        if options["also"]:
            self._several(instance, what, options, by)
            return
        if options["onto"]:
            what["called"] = options["called"]
        name = options["onto"] or options["called"] or options["name"] or _free_name(instance, what)
        if options["check"]:
            self._tell_preview(restoring.checks(instance, name=name, **what))
            return
        restore = restoring.ask(instance, by, name=name, **what)
        self._say(_asked_for(restore))
        if options["wait"]:
            self._outlast(restore, lambda row: row.state not in Restore.PENDING)
            self._tell_end(restore)
        elif self.json:
            self._print(_facts(restore))

    def _several(self, instance: Instance, what: dict[str, Any], options: dict[str, Any], by: By) -> None:
        """Ask for several databases on a landing server, all or none; with --wait for the last of them too."""
        if "landing" not in what or not what.keys() <= {"landing", "store", "database", "until", "at_source"}:
            raise Refusal("NotTogether", "Several databases come back to one moment on a --landing server.", "")
        first = what.pop("database")
        names = {first: options["called"] or restoring.free_database_name(what["landing"], first)}
        names |= dict(said.partition("=")[::2] for said in options["also"])
        restores = restoring.ask_databases(instance, by, names=names, **what)
        for restore in restores:
            self._say(_asked_for(restore))
        if options["wait"]:
            for restore in restores:
                self._outlast(restore, lambda row: row.state not in Restore.PENDING)
                self._tell_end(restore)
        elif self.json:
            self._print([_facts(restore) for restore in restores])

    def _tell_preview(self, found: restoring.Preview) -> None:
        facts = {
            "restored_until": found.restored_until,
            "region": found.region and found.region.pk,
            "sets": len(found.sources) - found.log_count,
            "logs": found.log_count,
            "bytes_needed": found.bytes_needed,
            "bytes_free": found.bytes_free,
            "gigabytes": round(found.gigabytes, 3),
            "seconds_expected": found.seconds_expected,
            "warnings": found.warnings,
        }
        if found.refusals:
            raise Refusals(found.refusals)
        if self.json:
            self._print({"state": "possible", **facts})
        for name, value in facts.items():
            self._say(f"{name:17} {value}")

    def _outlast(self, restore: Restore, is_over: Callable[[Restore], bool]) -> None:
        """Wait, telling each step; Ctrl-C leaves the worker at it."""
        began, told = time.monotonic(), ""
        while True:
            restore.refresh_from_db()
            said = _progress(restore)
            if (
                restore.state == State.QUEUED
                and restore.leased_until is None
                and time.monotonic() - began > NOBODY_SECONDS
            ):
                said = f"waiting: is a worker of {restore.region} running?"
            if said != told:
                self._say(f"  {said}")
                told = said
            if is_over(restore):
                return
            time.sleep(LOOK_SECONDS)

    def _tell_end(self, restore: Restore) -> None:
        if restore.state != State.READY:
            why = restore.error or f"It was {restore.get_state_display().lower()}."
            raise Refusal(restore.error_code or "NotRestored", why, restore.remedy)
        if self.json:
            password = {} if restore.landed_as else {"password": restoring.password_of(restore)}
            self._print({**_facts(restore), **password})
            return
        how = "" if restore.landed_as else f", password {restoring.password_of(restore)} (shown this once)"
        self._say(f"Ready: {restoring.connection_words(restore)}{how}")
        self._say(f"Restored until {restore.restored_until:%Y-%m-%d %H:%M:%S} UTC")
        for table, rows in restore.rows.items():
            self._say(f"  {rows:>12,} rows  {table}")
        stages = ", ".join(f"{stage} {seconds} s" for stage, seconds in restoring.stages_of(restore).items())
        self._say(f"Took {sum(restore.seconds.values()):.1f} s: {stages}")
        for note in restore.notes:
            self._say(f"Note: {note}")

    # ---- what there is

    def _list(self, by: By) -> None:
        found = list(_restores(by)[:200])
        if self.json:
            self._print([_facts(restore) for restore in found])
        elif not found:
            self._say("Nothing has been restored yet.")
        for restore in found:
            where = restoring.connection_words(restore) if restore.state == State.READY else restore.error
            self._say(
                f"{restore.code}  {restore.get_state_display():10} {restore.goes_by}  {restore.region_id}  {where}"
            )

    def _offer(self, by: By) -> None:
        """Without an instance: of which there are copies to restore from, and the newest moment each comes back to."""
        found = [dict(zip(OFFERED, row, strict=True)) for row in _newest_moments(by)]
        if self.json:
            self._print(found)
            return
        if not found:
            self._say("Nothing can be restored from copies yet. With --default a default backup is, at its source.")
            return
        self._say("Name one: restore INSTANCE [--database NAME] [--until MOMENT] --wait. Newest moments, UTC:")
        for one in found:
            at, database = one["until"], f" --database {one['database']}" if one["database"] else ""
            self._say(f"{at:%Y-%m-%d %H:%M:%S}  {one['store']:15}  {one['instance']}  {one['name']}{database}")

    def _remove(self, code: str, by: By) -> None:
        restore = _restore(code, by)
        _require(by, restore.instance)
        verb = restoring.cancel if restore.state in Restore.PENDING else restoring.remove
        verb(restore, by)
        self._outlast(restore, lambda row: row.state not in Restore.HELD)
        left = "nothing of it is left" if restore.landed_as else "nothing of it runs"
        self._say(f"{restore.goes_by}: {restore.get_state_display().lower()}; {left}.")
        if self.json:
            self._print(_facts(restore))

    # ---- onto an instance that is there

    def _agree(self, code: str, by: By) -> None:
        restore = _restore(code, by)
        restoring.agree(restore, by)
        self._tell(restore, f"{restore.code}: {by.name} agreed; {restore.name} is restored onto itself.")

    def _confirm(self, code: str, by: By) -> None:
        restore = _restore(code, by)
        _require(by, restore.instance)
        restoring.confirm(restore, by)
        self._tell(restore, f"{restore.name} stays as it was restored; what it was before is discarded.")

    def _write_off(self, code: str, by: By, reason: str) -> None:
        restore = _restore(code, by)
        _require(by, restore.instance)
        restoring.write_off(restore, by, reason)
        self._tell(restore, f"{restore.goes_by} is written off.")

    def _tell(self, restore: Restore, sentence: str) -> None:
        self._say(sentence)
        if self.json:
            self._print(_facts(restore))


def _person(name: str) -> User | None:
    if not name:
        return None
    person = User.objects.filter(username=name, is_active=True).first()
    if person is None:
        raise CommandError(f"There is no active user {name}.")
    return person


def _newest_moments(by: By) -> Any:
    """Return what `OFFERED` names of each instance, database and destination, by name."""
    mine = access.groups_for(by.user, Role.OPERATOR) if by.user else ResourceGroup.objects.all()
    found = RestorableInterval.objects.filter(instance__group__in=mine, store__detached_at=None)
    rows = found.values_list("instance__code", "instance__name", "database", "store__region")
    return rows.annotate(Max("ended_at")).order_by("instance__name", "instance__code", "database", "store__region")


def _restores(by: By) -> Any:
    return (
        access.restores_for(by.user)
        if by.user
        else Restore.objects.select_related("instance", "landing", "onto").order_by("-pk")
    )


def _restore(code: str, by: By) -> Restore:
    restore = _restores(by).filter(code=code).first()
    if restore is None:
        raise Refusal("NoSuchRestore", f"There is no restore {code}.", "See --list.")
    return restore


def _target(source: Instance, named: str, by: By) -> Instance:
    """Return the instance meant; that its name was typed exactly is for `restoring` to say."""
    return source if named in (source.name, source.code) else _instance(named, by)


def _landing(instance: Instance, named: str) -> LandingServer:
    found = landing_servers.usable_for(instance).filter(Q(code=named) | Q(name__iexact=named)).first()
    if found is None:
        said = f"No landing server {named} is granted to {instance.group}."
        raise Refusal("NoSuchLanding", said, "See the page Landing servers.", "landing")
    return found


def _free_name(instance: Instance, what: dict[str, Any]) -> str:
    landing, found = what.get("landing"), what.get("copy") or what.get("default_set")
    if landing is None:
        return restoring.free_name(instance)
    database = found.set.database if isinstance(found, Copy) else found.database if found else what["database"]
    return restoring.free_database_name(landing, database or instance.name)


def _asked_for(restore: Restore) -> str:
    if restore.landed_as:
        where = f"{restore.landed_as} on {restore.landed_on}"
        return f"{restore.code}: {restore.database} of {restore.instance.name} is restored as {where}."
    if restore.onto is None:
        return f"{restore.code}: {restore.instance.name} is restored into {restore.name} in {restore.region}."
    return f"{restore.code}: {restore.name} is restored onto itself once a second person agrees (--agree)."


def _instance(named: str, by: By) -> Instance:
    mine = access.instances_for(by.user) if by.user else Instance.objects.select_related("region", "group")
    found = list(mine.filter(Q(code=named) | Q(name=named))[:2])
    if len(found) != 1:
        said = f"{named} is the name of several." if found else f"There is no instance {named or '(none was named)'}."
        raise Refusal("NoSuchInstance", said, "Name it by its ID.", "instance")
    _require(by, found[0])
    return found[0]


def _require(by: By, instance: Instance) -> None:
    if by.user is None:
        return
    try:
        access.require(by.user, instance, Role.OPERATOR)
    except PermissionDenied as denied:
        raise Refusal("Forbidden", str(denied), "Ask an operator.") from denied


def _what(instance: Instance, options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `ask` that say what is restored."""
    until = _moment(options["until"]) if options["until"] else None
    if options["default"] and (until or options["newest"]):
        return {"at_source": True, "database": options["database"], "until": until}
    if options["default"]:
        return {"default_set": _default_set(instance, options["set"], options["database"])}
    store = _store(options["store"]) if options["store"] else None
    if options["set"] is not None:
        return {"copy": _copy(instance, options["set"], store)}
    return {"store": store, "database": options["database"], "until": until}


def _moment(said: str) -> datetime:
    try:
        found = parse_datetime(said.strip().replace("Z", "+00:00"))
    except ValueError:
        found = None
    if found is None:
        raise Refusal("BadMoment", f"{said} is not a moment.", "Write it like 2027-03-10T14:03:22, in UTC.", "until")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _store(region: str) -> Store:
    found = Store.objects.attached().select_related("region").filter(region=region).order_by("role").first()
    if found is None:
        raise Refusal("StoreMissing", f"No store is attached to {region}.", "Name a region with copies.", "store")
    return found


def _copy(instance: Instance, set_id: int, store: Store | None) -> Copy:
    copies = (
        Copy.objects.present()
        .filter(set__instance=instance, set=set_id)
        .select_related("set__instance", "destination_store__region")
    )
    if store:
        copies = copies.filter(destination_store=store)
    found = min(copies, key=lambda copy: (copy.state != CopyState.COMPLETED, -copy.pk), default=None)
    if found is None:
        raise Refusal("NoSuchSet", f"There is no copy of set {set_id}.", "See its list, or use --default.", "set")
    return found


def _default_set(instance: Instance, set_id: int | None, database: str) -> BackupSet:
    """Return the set named, else the newest one."""
    if set_id is not None:
        sets = instance.sets.filter(pk=set_id)
    else:
        sets = instance.sets.valid().data().filter(database=database)
    found = sets.order_by("-finished_at", "-pk").first()
    if found is None:
        raise Refusal("NoSuchSet", "There is no such default backup at its source.", "Leave out --default.", "set")
    return found


def _progress(restore: Restore) -> str:
    if restore.cancel_asked_at and restore.state in Restore.HELD:
        return "stopping"
    if restore.state != State.RUNNING or not restore.stage:
        return restore.get_state_display().lower()
    share = f" {min(restore.done * 100 // restore.total, 100)} %" if restore.total else ""
    return f"{restore.stage}{share}"


def _facts(restore: Restore) -> dict[str, Any]:
    return {
        "code": restore.code,
        "instance": restore.instance.code,
        "name": restore.name,
        "onto": restore.onto.code if restore.onto else None,
        "region": restore.region_id,
        "landing": restore.landing.code if restore.landing else None,
        "database": restore.landed_as,
        "state": restore.state,
        "restored_until": restore.restored_until,
        "host": restore.host,
        "port": restore.port,
        "username": restore.username,
        "rows": restore.rows,
        "seconds": restoring.stages_of(restore),
        "notes": restore.notes,
        "error": restore.error,
        "result": restore.result.code if restore.result else None,
    }
