"""What the web server itself refuses, before there is a request for Django (no HTTP, headers too large, a broken body).

Nobody can tell then whether it was a program's call, and an SDK fails opaquely on HTML: everybody gets the envelope.
"""

from __future__ import annotations

import socket

from gunicorn import util

from console.openapi import answers

CODES = {
    400: "InvalidRequest",
    403: "Forbidden",
    414: "RequestURITooLong",
    417: "ExpectationFailed",
    431: "RequestHeaderFieldsTooLarge",
    500: "InternalError",
    501: "UnsupportedTransferCoding",
}


def answer_in_envelopes() -> None:
    """Let gunicorn's own refusals be the vendor's envelope; it offers no other place to say so."""
    util.write_error = write_error


def write_error(sock: socket.socket, status: int, reason: str, message: str) -> None:
    """What was wrong is in gunicorn's log: its message repeats what was sent, and is not sent back."""
    said = {
        "RequestId": answers.new_request_id(),
        "HostId": answers.host_of(None),
        "Code": CODES.get(status, "InvalidRequest"),
        "Message": f"The request could not be read: {reason}.",
        "Recommend": "",
    }
    body = answers.json_of(said)
    head = [
        f"HTTP/1.1 {status} {reason}",
        "Connection: close",
        "Content-Type: application/json; charset=utf-8",
        "X-Content-Type-Options: nosniff",
        f"Content-Length: {len(body)}",
    ]
    util.write_nonblock(sock, "\r\n".join([*head, "", ""]).encode("latin-1") + body)
