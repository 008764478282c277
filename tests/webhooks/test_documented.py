"""The receivers in the documentation, as they stand there: they take what Farshore sends, once, and nothing else."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from backups import events
from console.webhooks import endpoints, signing
from console.webhooks.models import CHOSEN, Delivery, Kind
from tests.console.fleet import Fleet
from tests.house.running import soon
from tests.programs import needs, program
from tests.servers import free_port
from tests.webhooks.conftest import Make, sweep

DOCUMENT = Path(__file__).parents[2] / "docs" / "webhooks.md"
LANGUAGES = {"python": ("receiver.py", [sys.executable]), "javascript": ("receiver.js", ["node"])}


@pytest.fixture
def fleet(db: None) -> Fleet:
    return Fleet()


@contextmanager
def running(language: str, folder: Path, port: int, secret: str) -> Iterator[Path]:
    name, command = LANGUAGES[language]
    if language == "javascript":
        needs("node")
        command = [program("node")]
    [text] = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (folder / name).write_text(text)
    said = folder / "said"
    environment = {**os.environ, "WEBHOOK_SECRET": secret, "PORT": str(port)}
    with open(said, "wb") as out:
        process = subprocess.Popen(
            [*command, str(folder / name)], env=environment, stdout=out, stderr=subprocess.DEVNULL
        )
        try:
            assert soon(lambda: answers(port)), said.read_text()
            yield said
        finally:
            process.kill()
            process.wait()


def answers(port: int) -> bool:
    with closing(socket.socket()) as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_documented_receiver_takes_each_message_once(fleet: Fleet, make: Make, tmp_path: Path, language: str) -> None:
    port = free_port()
    made = make(fleet.user, url=f"http://127.0.0.1:{port}/")
    events.record("copy.completed", "The copy arrived at 北京.", instance=fleet.instance("orders"))
    with running(language, tmp_path, port, made.secret) as said:
        sweep()
        delivery = Delivery.objects.get()
        assert delivery.state == "delivered", delivery.last_error
        endpoints.rotate(made.endpoint, endpoints.By(fleet.user))
        endpoints.send_again(delivery, endpoints.By(fleet.user))
        assert sweep() == 1
        assert soon(lambda: said.read_text()) and time.sleep(0.2) is None
        assert said.read_text().splitlines() == ["copy.completed The copy arrived at 北京."]
        assert refused(port, signing.new_secret(), int(time.time()))
        assert refused(port, made.secret, int(time.time()) - 301)


def refused(port: int, secret: str, stamp: int) -> bool:
    headers = signing.headers([secret], "msg_forged", stamp, b"{}")
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/", b"{}", headers)
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(asked, timeout=5)
    return error.value.code == 401


def test_every_type_is_documented() -> None:
    told = re.findall(r"^\| `([a-z_.]+)`", DOCUMENT.read_text(), re.MULTILINE)
    assert told == ["type", *CHOSEN, Kind.PING]
