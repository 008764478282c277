"""One POST through the network door: resolved once, to that address, its certificate held against the name.

No redirect is followed, no proxy asked, and what is answered beyond the status is thrown away: it is nobody's business
here, and an address inside somebody's network must not be read through us. Ten seconds, whatever the other side does.
"""

from __future__ import annotations

import http.client
import ipaddress
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from regions import network
from regions.refusals import Refusal

log = logging.getLogger(__name__)
CONNECT_SECONDS, TOTAL_SECONDS = 4, 10
ADDRESSES_TRIED = 2
ANSWER_BYTES = 4096
LONGEST_URL, LONGEST_ERROR = 500, 300
GONE = 410
UNTOLD = "No HTTP answer came. Why stands in the worker's log, for whoever runs the installation."


@dataclass(frozen=True)
class Outcome:
    """What came of one POST. `status` None: nothing was answered, and `error` says why."""

    status: int | None
    error: str
    milliseconds: int

    @property
    def is_taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def checked(url: str) -> str:
    """Return a URL that may be written down; raises Refusal. It resolves the name: never inside a transaction."""
    url = url.strip()
    parts = _parts(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_this_machine(parts.hostname or "")):
        raise _bad("Webhooks go to an https:// address.", "Enter one that begins with https://.")
    if parts.username is not None or parts.password is not None:
        raise _bad("A URL with a user name or password is not accepted.", "The signature says who sends it.")
    if parts.fragment or not parts.hostname:
        raise _bad("This is no URL of a server.", "Enter one such as https://example.com/farshore.")
    try:
        network.address_of(parts.hostname, _port(parts))
    except Refusal as refusal:
        raise _bad(refusal.sentence, refusal.remedy, refusal.code) from refusal
    except (OSError, UnicodeError) as error:
        raise _bad(f"The name {parts.hostname} is not known.", "Check its spelling.", "NameUnknown") from error
    return url


def _is_this_machine(host: str) -> bool:
    """Whether a message that is not encrypted may go there: to this machine itself, where that is allowed at all."""
    if not settings.FARSHORE_ALLOW_LOOPBACK:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_of(url: str) -> str:
    """Return what may be told of a URL: its path and query can hold a token of the receiver's (I18)."""
    return _parts(url).netloc.rpartition("@")[2]


def post(url: str, headers: Mapping[str, str], body: bytes, *, tells_why: bool = True) -> Outcome:
    """Send it once; never raises for what the network or the other side does.

    Unless it `tells_why`, whatever ends before an HTTP answer says the same and takes all of its time (decision 0083).
    """
    began = time.monotonic()
    try:
        status, error = _status(url, headers, body, began), ""
    except Refusal as refusal:
        status, error = None, refusal.sentence
    except (OSError, http.client.HTTPException, ValueError) as problem:
        took_too_long = time.monotonic() - began >= TOTAL_SECONDS
        status, error = None, "It did not answer in time." if took_too_long else _in_words(problem)
        if not tells_why and not isinstance(problem, socket.gaierror):
            error = _untold(url, error, began)
    if status is not None and not 200 <= status < 300:
        error = "It redirects; redirects are not followed." if 300 <= status < 400 else f"It answered {status}."
    return Outcome(status, error[:LONGEST_ERROR], int(1000 * (time.monotonic() - began)))


def _untold(url: str, error: str, began: float) -> str:
    log.info("webhook not answered", extra={"host": host_of(url), "reason": error})
    time.sleep(max(began + TOTAL_SECONDS - time.monotonic(), 0))
    return UNTOLD


def _status(url: str, headers: Mapping[str, str], body: bytes, began: float) -> int:
    parts = _parts(url)
    is_secure = parts.scheme == "https"
    sock = network.connect(parts.hostname or "", _port(parts), CONNECT_SECONDS, tries=ADDRESSES_TRIED)
    if is_secure:
        trusted = _trust(os.environ.get("SSL_CERT_FILE", ""))
        sock = trusted.wrap_socket(sock, server_hostname=parts.hostname, do_handshake_on_connect=False)
    if time.monotonic() >= began + TOTAL_SECONDS:  # the name took its time: by now it counts as not answered
        sock.close()
        raise TimeoutError
    client = http.client.HTTPSConnection if is_secure else http.client.HTTPConnection
    connection = client(parts.hostname or "", _port(parts))
    connection.auto_open, connection.sock = False, sock
    with sock, _ended_at(began + TOTAL_SECONDS, sock):
        if is_secure:
            sock.do_handshake()
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, dict(headers))
        response = connection.getresponse()
        with suppress(OSError, http.client.HTTPException, ValueError):
            if not response.chunked:  # whose sizes nobody can trust
                response.read(ANSWER_BYTES)  # so that it need not see its answer cut off
        return response.status


@lru_cache
def _trust(bundle: str) -> ssl.SSLContext:
    """Read the certificates that are trusted once; OpenSSL itself looks where `bundle` says."""
    return ssl.create_default_context()


@contextmanager
def _ended_at(moment: float, sock: socket.socket) -> Iterator[None]:
    """End the conversation then: a timeout of the socket's own begins anew with every byte that drips in."""
    seconds = max(moment - time.monotonic(), 0.1)
    sock.settimeout(seconds)
    over = threading.Timer(seconds, _hang_up, [sock])
    over.daemon = True
    over.start()
    try:
        yield
    finally:
        over.cancel()


def _hang_up(sock: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of an SSLSocket too, whose own would take its keys away


def _in_words(problem: Exception) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"Its certificate is not trusted: {problem.verify_message}."
    if isinstance(problem, ssl.SSLError):
        return f"TLS failed: {problem.reason or 'no reason given'}."
    if isinstance(problem, socket.gaierror):
        return "Its name is not known."
    if isinstance(problem, TimeoutError):
        return "It did not answer in time."
    if isinstance(problem, ConnectionRefusedError):
        return "Nothing answers there."
    if isinstance(problem, http.client.HTTPException) and not isinstance(problem, http.client.RemoteDisconnected):
        return "What it answered is not HTTP."
    return "The connection broke."


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise _bad("This is no URL.", "Enter one such as https://example.com/farshore.") from error
    if not url.isascii() or any(letter <= " " or letter == "\x7f" for letter in url) or len(url) > LONGEST_URL:
        raise _bad("A URL is made of ASCII letters, without spaces.", "Escape everything else.")
    return parts


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _bad(sentence: str, remedy: str, code: str = "InvalidURL") -> Refusal:
    return Refusal(code, sentence, remedy, "url")
