"""Structured logs: one line per event, as key=value or JSON, with passwords struck out."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import PermissionDenied

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
SECRET_NAME = re.compile(r"pass(word|wd)?$|secret|token|credential|api_?key|access_?key|authorization|cookie", re.I)
SECRET_IN_TEXT = re.compile(
    r"(?P<url>://[^/\s:@]*:)[^@\s/]+(?=@)"
    r"|(?P<path>/)[A-Za-z0-9_-]{40,}"
    r"|(?P<pair>\b(?:password|passwd|secret|token|signature|x-amz-signature)\b[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,;]+",
    re.I,
)
STRUCK = "***"


def strike(text: str) -> str:
    """Strike out what looks like a password in free text: in URLs, tokens in paths, and words after `password=`."""
    return SECRET_IN_TEXT.sub(lambda found: (found["url"] or found["path"] or found["pair"]) + STRUCK, text)


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": strike(record.getMessage()),
    }
    for name, value in vars(record).items():
        if name in STANDARD or name == "request":
            continue
        facts[name] = STRUCK if SECRET_NAME.search(name) else value
    return facts


class Unexcited(logging.Filter):
    """A person who may not do something is no fault of ours: one line says so, without a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], PermissionDenied):
            record.exc_info = None
        return True


class Lines(logging.Formatter):
    """key=value, for people; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        line = " ".join(f"{name}={self._shown(value)}" for name, value in facts_of(record).items())
        if record.exc_info:
            line += "\n" + strike(self.formatException(record.exc_info))
        return line

    @staticmethod
    def _shown(value: Any) -> str:
        text = strike(str(value))
        return json.dumps(text, ensure_ascii=False) if re.search(r"[\s\"=]", text) or not text else text


class JsonLines(logging.Formatter):
    """One JSON object per line, for collectors; the traceback is a field."""

    def format(self, record: logging.LogRecord) -> str:
        facts = facts_of(record)
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return strike(json.dumps(facts, default=str, ensure_ascii=False))
