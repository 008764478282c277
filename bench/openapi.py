#!/usr/bin/env python3
"""Signed calls of every read operation, beside a bare Django view, through the same web server in the same run.

    python bench/openapi.py [--calls 1000] [--instances 200] [--rows 40] [--only DescribeBackups …] [--profile]

Makes a PostgreSQL of its own with so many instances, each with a cross-region policy and some copies, one of them with
more than a page (30 rows) of everything that is listed; starts `manage.py web` with one process and sends signed calls
over kept connections. The figure is calls per second of the web process's processor time (500 wanted), for a machine
that others use has no honest wall clock. Two peers stand beside it: `/health`, which does nothing, behind all of
Django's middleware, and a floor: a view there that reads a page of 30 copies with one statement and hands it out as
JSON, unsigned, unchecked and uncounted. `--profile` says for each operation where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import http.client
import os
import pstats
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import psutil
from catalogue import ROOT, catalogue

AT_ONCE = 6
COPIES = 3
WANTED = 500
SOURCE, TARGET = "cn-hangzhou", "cn-shanghai"
FLOOR = "/floor"

Send = Callable[[http.client.HTTPConnection], int]
Key = tuple[str, str]
Wishes = dict[str, dict[str, str]]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--calls", type=int, default=1000)
    asked.add_argument("--instances", type=int, default=200)
    asked.add_argument("--rows", type=int, default=40, help="fulls, logs, jobs and databases of the busiest instance")
    asked.add_argument("--only", nargs="*", default=[])
    asked.add_argument("--profile", action="store_true")
    given = asked.parse_args()
    os.environ.setdefault("FARSHORE_LOG_LEVEL", "ERROR")  # no broker runs here, and every bell would say so
    with catalogue({}):
        key, wishes = fill(given.instances, given.rows)
        wishes = {name: wish for name, wish in wishes.items() if not given.only or name in given.only}
        if given.profile:
            profile(key, wishes, given.calls)
            return
        with web() as (server, port):
            measure(server, port, key, wishes, given.calls)


def measure(server: psutil.Process, port: int, key: Key, wishes: Wishes, calls: int) -> None:
    """Each twice, with the bare view just before it, so that a figure and what it is compared with belong together."""
    slow = []
    print(f"{'calls per second of one core':44}{'bare view':>14}{'this':>14}    times the bare view's time")
    line("(the floor)", *(both(server, port, calls, lambda link: plain(link, FLOOR)) for _ in range(2)))
    for name, wish in wishes.items():
        send = signed(key, name, wish)
        assert send(http.client.HTTPConnection("127.0.0.1", port)) == 200, name
        if line(name, *(both(server, port, calls, send) for _ in range(2))) < WANTED:
            slow.append(name)
    print(
        f"{len(wishes) - len(slow)} of {len(wishes)} answer {WANTED} calls a second; not: {', '.join(slow) or 'none'}"
    )


def both(server: psutil.Process, port: int, calls: int, send: Send) -> tuple[float, float]:
    return measured(server, port, calls, plain), measured(server, port, calls, send)


def line(name: str, first: tuple[float, float], again: tuple[float, float]) -> float:
    """Print both measurements; return the better."""
    words = "".join(f"{one:7.0f}{two:7.0f}" for one, two in zip(first, again, strict=True))
    times = " and ".join(f"{bare / rate:.1f}" for bare, rate in (first, again))
    print(f"{name:44}{words}    {times}", flush=True)
    return max(first[1], again[1])


# ---- what is asked for


def fill(instances: int, rows: int) -> tuple[Key, Wishes]:
    """Write down a fleet; return an access key, and what to ask each operation that changes nothing."""
    sys.path.insert(0, str(ROOT))
    from django.db import connection

    from console.openapi import keys
    from console.openapi.keys import Limits
    from tests.console.fleet import Fleet

    fleet = Fleet()
    for n in range(instances):
        fleet.protected(f"instance-{n:05}", TARGET, copies=COPIES)
    new = keys.create(fleet.user, Limits("bench"), keys.By(fleet.user))
    wishes = wishes_for(fleet, busy(fleet, rows))
    connection.cursor().execute("ANALYZE")  # as a server does by itself within a minute
    return (new.key.key_id, new.secret), wishes


def busy(fleet: Any, rows: int) -> Any:
    """Return an instance with so many backups, logs, copies, jobs and databases; one is released too."""
    from backups.models import BackupJob, Instance

    gone = fleet.protected("released", TARGET, copies=rows)
    Instance.objects.filter(pk=gone.pk).update(released_at=fleet.now)
    instance = fleet.protected("busy", TARGET, copies=0)
    policy, now = instance.policies.get(), fleet.now
    for n in range(rows):
        first, age = 1_000 * (rows - n), timedelta(hours=2 * n + 2)
        full = fleet.backup(instance, age=age, first_position=first, last_position=first + 10)
        log = fleet.backup(
            instance, age=age - timedelta(hours=1), kind="log", first_position=first - 995, last_position=first + 20
        )
        for found in (full, log):
            fleet.copy(found, policy)
        facts = {"state": "succeeded", "reason": "on_demand", "result": full, "finished_at": now}
        BackupJob.objects.create(instance=instance, asked_at=now, due_at=now, **facts)
        BackupJob.objects.create(
            instance=instance, database=f"database-{n}", reason="timetable", asked_at=now, due_at=now
        )
        instance.databases.create(name=f"database-{n}", state="ONLINE", first_seen_at=now, seen_at=now)
    return instance


def wishes_for(fleet: Any, instance: Any) -> Wishes:
    from backups.models import Copy
    from console.openapi.contract import request_of
    from console.openapi.operations import OPERATIONS

    copy = Copy.objects.filter(set__instance=instance).exclude(set__kind="log").order_by("pk").last()
    usual = {
        "DBInstanceId": instance.code,
        "RegionId": SOURCE,
        "Region": SOURCE,
        "StartTime": "2020-01-01T00:00Z",
        "EndTime": "2100-01-01T00:00Z",
        "CrossBackupId": str(copy.pk),
        "BackupSetId": str(copy.pk),
        "RestoreType": "0",
        "Engine": "SQLServer",
        "EngineVersion": "2022",
        "ServiceLinkedRole": "AliyunServiceRoleForDBS",
    }
    wishes = {}
    for name in sorted(one.name for one in OPERATIONS.values() if not one.changes):
        needed = {one for one, facts in request_of(name).items() if facts.get("required")}
        wishes[name] = {one: usual.get(one, "1") for one in sorted(needed | OF_ITS_OWN.get(name, set()))}
    return wishes | {"CheckCreateDdrDBInstance": wishes["CheckCreateDdrDBInstance"] | restorable(fleet)}


def restorable(fleet: Any) -> dict[str, str]:
    """Return what names a set that can be restored here, as a worker that is there lets everybody know."""
    from django.core.management import call_command

    from backups import restoring

    call_command("createcachetable")
    restoring.announce(TARGET)
    shop = fleet.instance("shop", engine="postgresql", engine_version="16.4", data_bytes=10**7)
    copy = fleet.copy(fleet.backup(shop, size=10**7, database=""), fleet.policy(shop, TARGET))
    return {"RegionId": TARGET, "BackupSetId": str(copy.pk), "Engine": "PostgreSQL", "EngineVersion": "16.4"}


OF_ITS_OWN = {  # what is not mandatory, and without which nothing is found
    "DescribeDBInstanceAttribute": {"DBInstanceId"},
    "DescribeDetachedBackups": {"Region"},
    "CheckCreateDdrDBInstance": {"BackupSetId"},
}


# ---- where the time goes


def profile(key: Key, wishes: Wishes, calls: int) -> None:
    from console.wsgi import application

    for name, wish in wishes.items():
        environments = [environment(key, name, wish) for _ in range(calls)]
        with cProfile.Profile() as seen:
            for one in environments:
                answered(application, one)
        print(f"\n{name}")
        pstats.Stats(seen).sort_stats("cumulative").print_stats(str(ROOT / "console"), 25)


def environment(key: Key, action: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    from django.test import RequestFactory

    path, headers = call_of(key, action, parameters)
    return RequestFactory().generic("POST", path, headers=headers).environ


def answered(application: Any, environ: dict[str, Any]) -> None:
    said: list[str] = []
    answer = application(environ, lambda status, headers: said.append(status))
    answer.close()
    assert said[0].startswith("200"), b"".join(answer)


# ---- the web process


@contextmanager
def web() -> Iterator[tuple[psutil.Process, int]]:
    port, log = 18_765, Path(os.environ["FARSHORE_DATA"]).parent / "web.log"
    command = [sys.executable, "manage.py", "web", "--port", str(port), "--processes", "1", "--threads", "4"]
    environment = os.environ | {
        "API_CALLS_PER_MINUTE": "10000000",
        "DJANGO_SETTINGS_MODULE": "floor",
        "PYTHONPATH": str(ROOT / "bench"),
    }
    with open(log, "wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        while not answers(port):
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        yield psutil.Process(process.pid), port
    finally:
        process.terminate()
        process.wait(30)


def answers(port: int) -> bool:
    try:
        return plain(http.client.HTTPConnection("127.0.0.1", port, timeout=2)) == 200
    except OSError:
        return False


def measured(server: psutil.Process, port: int, calls: int, send: Send) -> float:
    """Return how many calls one second of the worker's processor time answers; again where another worker took over."""
    run(port, calls // 10, send)
    [worker] = server.children()
    before = worker.cpu_times()
    run(port, calls, send)
    if server.children() != [worker]:
        return measured(server, port, calls, send)
    after = worker.cpu_times()
    return calls / (after.user + after.system - before.user - before.system)


def run(port: int, calls: int, send: Send) -> None:
    threads = [Thread(target=several, args=(port, calls // AT_ONCE, send)) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def several(port: int, calls: int, send: Send) -> None:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for _ in range(calls):
        assert send(link) == 200
    link.close()


def plain(link: http.client.HTTPConnection, path: str = "/health") -> int:
    link.request("GET", path)
    answer = link.getresponse()
    answer.read()
    return answer.status


def signed(key: Key, action: str, parameters: Mapping[str, str]) -> Send:
    def send(link: http.client.HTTPConnection) -> int:
        path, headers = call_of(key, action, parameters)
        link.request("POST", path, headers=headers)
        answer = link.getresponse()
        answer.read()
        return answer.status

    return send


def call_of(key: Key, action: str, parameters: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the path and the headers of a call that is signed now."""
    from console.openapi import signatures
    from console.openapi.calls import Call

    headers = {
        "host": "bench",
        "accept": "application/json",
        "x-acs-action": action,
        "x-acs-version": "2014-08-15",
        "x-acs-date": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "x-acs-signature-nonce": uuid.uuid4().hex,
        "x-acs-content-sha256": hashlib.sha256(b"").hexdigest(),
    }
    call = Call("POST", "/", list(parameters.items()), [], b"", headers)
    signature = signatures.acs3_signature(signatures.acs3_string(call, headers), key[1])
    names = ";".join(sorted(headers))
    authorization = f"ACS3-HMAC-SHA256 Credential={key[0]},SignedHeaders={names},Signature={signature}"
    return f"/?{urlencode(parameters)}", headers | {"authorization": authorization}


if __name__ == "__main__":
    main()
