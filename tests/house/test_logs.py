"""Log lines are for programs and people, and hold no secret."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from console.logs import JsonLines, Lines

TOKEN = "Zk3" * 15


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "backups.copying.replication", "levelname": "INFO", "msg": message})
    vars(made).update(extra)
    return made


def test_a_line_carries_its_facts_as_keys() -> None:
    assert 'event="copy completed"' in Lines().format(record("copy completed", copy=7))
    assert "copy=7" in Lines().format(record("copy completed", copy=7))
    assert json.loads(JsonLines().format(record("copy completed", copy=7)))["copy"] == 7


@pytest.mark.parametrize("lines", [Lines(), JsonLines()])
@pytest.mark.parametrize(
    "made",
    [
        record("cannot reach amqp://farshore:hush-hush@broker//"),
        record("refused: password=hush-hush for admin"),
        record("stored", secret_key="hush-hush"),
        record("Not Found: /d/hush-hush" + TOKEN),
        record("signed", url="https://s3/x?X-Amz-Signature=hush-hush&a=b"),
    ],
)
def test_a_secret_is_struck_out(lines: logging.Formatter, made: logging.LogRecord) -> None:
    assert "hush-hush" not in lines.format(made)


def test_a_traceback_is_kept_without_its_passwords() -> None:
    try:
        raise ValueError("connecting to postgresql://a:hush-hush@db/x")
    except ValueError:
        line = Lines().format(record("it failed", exc_info=sys.exc_info()))
    assert "ValueError" in line and "hush-hush" not in line
