"""What goes back: JSON or XML, success or the vendor's envelope of an error."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape

from django.conf import settings
from django.http import HttpResponse

from console.openapi.calls import Call
from console.openapi.faults import Fault

JSON = json.JSONEncoder(ensure_ascii=False)
HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")
NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def new_request_id() -> str:
    return str(uuid.uuid4()).upper()


def host_of(call: Call | None) -> str:
    """Return the host as the call named it, when that looks like one: it is only ever repeated, never trusted."""
    if settings.PUBLIC:
        return settings.PUBLIC.netloc
    said = call.headers.get("host", "") if call else ""
    return said if HOST.fullmatch(said) else "farshore"


def success(operation: str, answer: Mapping[str, Any], request_id: str, call: Call) -> HttpResponse:
    return _response(f"{operation}Response", answer, 200, request_id, is_json=call.wants_json)


def failure(fault: Fault, request_id: str, call: Call | None) -> HttpResponse:
    """The envelope; as JSON where the call was too broken to say what it wants."""
    said = {
        "RequestId": request_id,
        "HostId": host_of(call),
        "Code": fault.code,
        "Message": fault.message,
        "Recommend": fault.remedy,
    }
    response = _response("Error", said, fault.status, request_id, is_json=call is None or call.wants_json)
    for name, value in fault.headers.items():
        response.headers[name] = value
    return response


def _response(root: str, said: Mapping[str, Any], status: int, request_id: str, *, is_json: bool) -> HttpResponse:
    body, kind = (json_of(said), "application/json") if is_json else (xml_of(root, said), "text/xml")
    response = HttpResponse(body, status=status, content_type=f"{kind}; charset=utf-8")
    response.headers["x-acs-request-id"] = request_id
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Length"] = str(len(body))  # what CommonMiddleware, which stands behind us, adds
    return response


def json_of(said: Mapping[str, Any]) -> bytes:
    return JSON.encode(said).encode("utf-8", "replace")


def xml_of(root: str, said: Mapping[str, Any]) -> bytes:
    text = "".join(['<?xml version="1.0" encoding="UTF-8"?>', *_elements(root, said)])
    return text.encode("utf-8", "replace")


def _elements(name: str, value: Any) -> Iterator[str]:
    """A list is its element repeated; what holds it is the object around it."""
    if isinstance(value, list):
        for one in value:
            yield from _elements(name, one)
    elif isinstance(value, Mapping):
        yield f"<{name}>"
        for inner, said in value.items():
            yield from _elements(inner, said)
        yield f"</{name}>"
    else:
        yield f"<{name}>{escape(NOT_IN_XML.sub('?', _word(value)))}</{name}>"


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
