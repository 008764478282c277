"""Downloads through a real web server by a real curl: cut, resumed, killed, and charged once (R-16.4, R-4.3, I17)."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import psutil
import pytest
from django.db import connection

from backups import downloads
from backups.models import Copy, CopyState, Download, DownloadLink, DownloadUse, Instance
from billing import downloads as billed
from billing.models import DownloadCharge
from regions import clock, stores
from regions.models import Region
from tests.backups import world as worlds
from tests.backups.handing_out import body_of, completed
from tests.backups.world import World
from tests.house.running import soon
from tests.programs import needs
from tests.regions.conftest import bucket_store, make_bucket
from tests.servers import S3Region, free_port

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
BODY = body_of(24 * MIB)
SLOWLY = "6M"
WEB = "the web under test"  # by this the server tells its connections from everybody else's


@dataclass(frozen=True)
class Web:
    """gunicorn, as `manage.py web` starts it: a master and its workers."""

    master: psutil.Process
    address: str
    log: Path

    def kill_workers(self) -> None:
        for worker in self.master.children():
            worker.send_signal(signal.SIGKILL)


@pytest.fixture
def web(world: World, tmp_path: Path) -> Iterator[Web]:
    needs("curl")
    port, log = free_port(), tmp_path / "web.log"
    command = [sys.executable, "manage.py", "web", "--port", str(port), "--processes", "2", "--threads", "2"]
    variables = os.environ | {"DATABASE_URL": f"{os.environ['DATABASE_URL']}&{urlencode({'application_name': WEB})}"}
    with open(log, "wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=variables)
    running = Web(psutil.Process(process.pid), f"http://127.0.0.1:{port}", log)
    try:
        assert soon(lambda: curl(f"{running.address}/health").returncode == 0), log.read_text()
        yield running
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def orders(world: World) -> Instance:
    instance = world.instance("orders")
    world.enable(instance)
    return instance


def curl(*arguments: str, **ways: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["curl", "-sS", "--fail", *arguments], capture_output=True, timeout=120, **ways)


def link_to(web: Web, world: World, copy: Copy, address: str = "internet") -> str:
    [one] = billed.ask(copy, world.by, address, learnt=True)
    return f"{web.address}/d/{one.token}/{one.download.name}"


def begun(url: str, target: Path, least: int = 2 * MIB, rate: str = SLOWLY) -> subprocess.Popen[bytes]:
    """Start a slow download and return once so much of it is in its file."""
    command = ["curl", "-sS", "--fail", "--limit-rate", rate, "-o", str(target), url]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert soon(lambda: target.exists() and target.stat().st_size >= least), process.poll()
    return process


def whole(download: Download) -> bool:
    download.refresh_from_db()
    return download.whole_at is not None


def all_ended() -> bool:
    return DownloadUse.objects.exists() and not DownloadUse.objects.filter(ended_at=None).exists()


def test_a_download_cut_and_resumed_is_identical_and_charged_once(
    web: Web, world: World, orders: Instance, tmp_path: Path
) -> None:
    url, target = link_to(web, world, completed(world, orders, BODY)), tmp_path / "got.bak"
    cut = begun(url, target)
    cut.kill()
    cut.wait()
    assert soon(all_ended)
    download = Download.objects.get()
    assert 0 < download.delivered_bytes < len(BODY) and not DownloadCharge.objects.exists()

    resumed = curl("-C", "-", "-o", str(target), url)
    assert resumed.returncode == 0, resumed.stderr
    assert target.read_bytes() == BODY
    assert soon(lambda: whole(download))
    charge = DownloadCharge.objects.get()
    assert (charge.bytes, charge.address, charge.instance) == (len(BODY), "internet", orders)

    assert curl("-o", str(tmp_path / "again"), url).returncode == 0
    assert soon(all_ended) and DownloadCharge.objects.count() == 1
    assert urlsplit(url).path.split("/")[2] not in web.log.read_text()


def test_kill_9_of_the_web_loses_nothing_and_charges_nothing_twice(
    web: Web, world: World, orders: Instance, tmp_path: Path
) -> None:
    url, target = link_to(web, world, completed(world, orders, BODY)), tmp_path / "got.bak"
    running = begun(url, target)
    web.kill_workers()
    assert running.wait(60) != 0
    assert target.stat().st_size < len(BODY) and not DownloadCharge.objects.exists()
    assert not Download.objects.get().whole_at

    assert soon(lambda: curl(f"{web.address}/health").returncode == 0)
    resumed = curl("-C", "-", "--retry", "5", "--retry-all-errors", "-o", str(target), url)
    assert resumed.returncode == 0 and target.read_bytes() == BODY
    assert soon(lambda: whole(Download.objects.get())), list(DownloadUse.objects.values())
    assert DownloadCharge.objects.get().bytes == len(BODY)


def test_what_nobody_read_is_not_counted(web: Web, world: World, orders: Instance) -> None:
    """A small file fits into the socket's buffers whole; a client that leaves early has not got it."""
    url = urlsplit(link_to(web, world, completed(world, orders, body_of(2 * MIB))))
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        client.connect((url.hostname, url.port))
        client.sendall(f"GET {url.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not a farewell
    assert soon(all_ended)
    assert Download.objects.get().delivered_bytes < MIB and not DownloadCharge.objects.exists()


def test_stretches_fetched_at_once_by_two_workers_make_one_charge(
    web: Web, world: World, orders: Instance, tmp_path: Path
) -> None:
    url = link_to(web, world, completed(world, orders, BODY))
    cuts = [random.Random(n).randrange(len(BODY)) for n in range(3)]  # eight at once: what one worker takes
    edges = sorted({0, len(BODY), *cuts})
    stretches = [(first, end + 1000) for first, end in zip(edges, edges[1:], strict=False)] * 2
    running = [
        subprocess.Popen(["curl", "-sS", "--fail", "-r", f"{first}-{end - 1}", "-o", str(tmp_path / str(n)), url])
        for n, (first, end) in enumerate(stretches)
    ]
    assert [one.wait(60) for one in running] == [0] * len(running), web.log.read_text()
    for n, (first, end) in enumerate(stretches):
        assert (tmp_path / str(n)).read_bytes() == BODY[first:end]
    assert soon(lambda: whole(Download.objects.get())) and soon(all_ended)
    assert DownloadCharge.objects.get().bytes == len(BODY) and Download.objects.get().ranges == [[0, len(BODY)]]


def test_an_answer_that_began_in_time_may_end_and_the_next_may_not_begin(
    web: Web, world: World, orders: Instance, tmp_path: Path
) -> None:
    url, target = link_to(web, world, completed(world, orders, BODY)), tmp_path / "got.bak"
    running = begun(url, target)
    DownloadLink.objects.update(expires_at=clock.now())
    late = curl("-C", "-", "-o", str(tmp_path / "late"), url)
    assert late.returncode == 22 and b"404" in late.stderr
    said = web.log.read_text()
    assert "Not Found: /d/***" in said and urlsplit(url).path.split("/")[2] not in said
    assert running.wait(60) == 0 and target.read_bytes() == BODY
    assert soon(lambda: whole(Download.objects.get())) and DownloadCharge.objects.count() == 1


def test_no_connection_to_the_database_is_held_for_a_slow_reader(
    web: Web, world: World, orders: Instance, tmp_path: Path
) -> None:
    url = link_to(web, world, completed(world, orders, BODY))
    running = [begun(url, tmp_path / str(n), MIB, rate="512K") for n in range(3)]
    assert soon(lambda: held_by_the_web() == []), held_by_the_web()
    assert all(one.poll() is None for one in running)
    for one in running:
        one.kill()
        one.wait()
    assert soon(all_ended)


def held_by_the_web() -> list[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT state, query FROM pg_stat_activity WHERE application_name = %s", [WEB])
        return cursor.fetchall()


def test_a_copy_in_s3_is_metered_outside_and_redirected_inside(
    ceph_regions: tuple[S3Region, S3Region], web: Web, world: World, tmp_path: Path
) -> None:
    place = bucket_store(ceph_regions[0], make_bucket(ceph_regions[0]) + "/copies")
    stores.attach(Region.objects.get(pk=worlds.TARGET), place.url, place.options, place.credentials, user=world.user)
    instance = world.instance("orders")
    world.enable(instance)
    copy = completed(world, instance, BODY, names=("Sales «full».bak",))
    assert copy.state == CopyState.COMPLETED

    url, target = link_to(web, world, copy).replace(" ", "%20"), tmp_path / "got.bak"
    cut = begun(url, target)
    cut.kill()
    cut.wait()
    assert curl("-C", "-", "-o", str(target), url).returncode == 0 and target.read_bytes() == BODY
    assert soon(lambda: whole(Download.objects.get())) and DownloadCharge.objects.count() == 1

    inside = link_to(web, world, copy, "internal").replace(" ", "%20")
    told = curl("-D", "-", "-o", os.devnull, inside).stdout.decode()
    assert told.startswith("HTTP/1.1 302") and "X-Amz-Expires=60" in told
    got = curl("-L", "-D", str(tmp_path / "headers"), "-o", str(tmp_path / "inside"), inside)
    assert got.returncode == 0 and (tmp_path / "inside").read_bytes() == BODY
    assert "attachment; filename*=UTF-8''Sales%20%C2%ABfull%C2%BB.bak" in (tmp_path / "headers").read_text()
    assert DownloadCharge.objects.count() == 1 and Download.objects.get(address="internal").handed_over_at
    assert downloads.unsettled().count() == 0
