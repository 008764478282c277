#!/usr/bin/env python3
"""Signed calls of read operations, beside a bare Django view, through the same web server in the same run.

    python bench/openapi.py [--calls 3000] [--instances 200]

Makes a PostgreSQL of its own with so many instances, each with a cross-region policy and some copies, starts
`manage.py web` with one process, and sends signed calls over kept connections. The figure is calls per second of the
web process's processor time (500 wanted, on the read operations), for a machine that others use has no honest wall
clock; the peer is `/health`, which does nothing, behind all of Django's middleware.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from urllib.parse import urlencode

import psutil
from catalogue import ROOT, catalogue

AT_ONCE = 6
COPIES = 3
SOURCE, TARGET = "cn-hangzhou", "cn-shanghai"

Send = Callable[[http.client.HTTPConnection], int]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--calls", type=int, default=3000)
    asked.add_argument("--instances", type=int, default=200)
    given = asked.parse_args()
    os.environ.setdefault("FARSHORE_LOG_LEVEL", "ERROR")  # no broker runs here, and every bell would say so
    with catalogue({}):
        key, code = fill(given.instances)
        with web() as (worker, port):
            bare = measured(worker, port, given.calls, lambda link: plain(link))
            print(f"{'bare view':36}{bare:8.0f} calls per second of one core")
            for action, parameters in operations(code).items():
                rate = measured(worker, port, given.calls, signed(key, action, parameters))
                print(
                    f"{action:36}{rate:8.0f} calls per second of one core   {bare / rate:4.1f} × the bare view's time"
                )


def operations(code: str) -> dict[str, dict[str, str]]:
    where = {"RegionId": SOURCE, "DBInstanceId": code}
    return {
        "DescribeRegions": {},
        "DescribeInstanceCrossBackupPolicy": where,
        "DescribeCrossRegionBackups": where,
        "DescribeBackups": {"DBInstanceId": code},
        "DescribeDBInstances": {"RegionId": SOURCE},
    }


def fill(instances: int) -> tuple[tuple[str, str], str]:
    """Write down a fleet; return an access key, and the code of one instance."""
    sys.path.insert(0, str(ROOT))
    from console.openapi import keys
    from console.openapi.keys import Limits
    from tests.console.fleet import Fleet

    fleet = Fleet()
    made = [fleet.protected(f"instance-{n:05}", TARGET, copies=COPIES) for n in range(instances)]
    new = keys.create(fleet.user, Limits("bench"), keys.By(fleet.user))
    return (new.key.key_id, new.secret), made[0].code


@contextmanager
def web() -> Iterator[tuple[psutil.Process, int]]:
    port, log = 18_765, Path(os.environ["FARSHORE_DATA"]).parent / "web.log"
    command = [sys.executable, "manage.py", "web", "--port", str(port), "--processes", "1", "--threads", "4"]
    environment = os.environ | {"API_CALLS_PER_MINUTE": "10000000"}
    with open(log, "wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        while not answers(port):
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        yield psutil.Process(process.pid).children()[0], port
    finally:
        process.terminate()
        process.wait(30)


def answers(port: int) -> bool:
    try:
        return plain(http.client.HTTPConnection("127.0.0.1", port, timeout=2)) == 200
    except OSError:
        return False


def measured(worker: psutil.Process, port: int, calls: int, send: Send) -> float:
    """Return how many calls one second of the worker's processor time answers."""
    run(port, calls // 10, send)
    before = worker.cpu_times()
    run(port, calls, send)
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


def plain(link: http.client.HTTPConnection) -> int:
    link.request("GET", "/health")
    answer = link.getresponse()
    answer.read()
    return answer.status


def signed(key: tuple[str, str], action: str, parameters: dict[str, str]) -> Send:
    from console.openapi import signatures
    from console.openapi.calls import Call

    def send(link: http.client.HTTPConnection) -> int:
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
        string = signatures.acs3_string(call, headers)
        signature = signatures.acs3_signature(string, key[1])
        names = ";".join(sorted(headers))
        authorization = f"ACS3-HMAC-SHA256 Credential={key[0]},SignedHeaders={names},Signature={signature}"
        link.request("POST", f"/?{urlencode(parameters)}", headers=headers | {"authorization": authorization})
        answer = link.getresponse()
        answer.read()
        return answer.status

    return send


if __name__ == "__main__":
    main()
