"""BACKUP … TO URL of the simulation (SQL Server 2022+): a multipart upload into a bucket, opened by a CREDENTIAL.

    CREATE CREDENTIAL [s3://host:port/bucket] WITH IDENTITY = 'S3 Access Key', SECRET = 'id:key'
    ALTER CREDENTIAL … | DROP CREDENTIAL [s3://host:port/bucket]

Which bucket an address means, and which key opens it, the machine's owner has said (`SimulatedMachine.bucket`). As with
a real server, a backup that fails leaves its upload open.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

from demo.tds.machine import SimulatedMachine
from demo.tds.tokens import Message
from demo.tds.words import Sentence, Wrong
from regions.storage import Storage, StorageError

URLS_SINCE = 16  # 2022
MIB = 1 << 20
USUAL_PART, SMALLEST_PART, LARGEST_PART, MOST_PARTS = 10 * MIB, 5 * MIB, 20 * MIB, 10_000
IDENTITY = "S3 Access Key"
Text = Callable[[Sentence, Mapping[str, Any]], str]


def region_in(options: str) -> str:
    """Read BACKUP_OPTIONS, which know one thing: {"s3": {"region": "…"}}."""
    try:
        return str(json.loads(options)["s3"]["region"])
    except (ValueError, LookupError, TypeError):
        raise Wrong(Message(3200, "The BACKUP_OPTIONS are not understood. (simulation)", 16)) from None


def keep_credential(machine: SimulatedMachine, sentence: Sentence, read: Callable[[], str], *, is_new: bool) -> None:
    """Read the statement behind CREATE or ALTER CREDENTIAL."""
    name = sentence.name()
    sentence.must("WITH", "IDENTITY", "=")
    identity = read()
    sentence.must(",")
    sentence.must("SECRET", "=")
    secret = read()
    with machine.lock:
        if is_new == (name.casefold() in machine.credentials):
            said = "already exists" if is_new else "does not exist"
            raise Wrong(Message(15226 if is_new else 15151, f"The credential '{name}' {said}.", 16))
        machine.credentials[name.casefold()] = (identity, secret)


def drop_credential(machine: SimulatedMachine, sentence: Sentence) -> None:
    name = sentence.name()
    with machine.lock:
        if machine.credentials.pop(name.casefold(), None) is None:
            raise Wrong(Message(15151, f"Cannot drop the credential '{name}', because it does not exist.", 16))


def why_not(machine: SimulatedMachine, device: str) -> str:
    """Return what the operating system is said to have answered, "" where the device can be opened."""
    if machine.version[0] < URLS_SINCE or "Express" in machine.edition:
        return "50(The request is not supported.)"
    bucket = _bucket_of(machine, device)
    if bucket is None:
        return "12007(The server name or address could not be resolved)"
    identity, secret = machine.credentials.get(bucket.casefold(), ("", ""))
    return "" if (identity, secret) == (IDENTITY, machine.buckets[bucket][1]) else "5(Access is denied.)"


def _bucket_of(machine: SimulatedMachine, device: str) -> str | None:
    return next((url for url in machine.buckets if device.casefold().startswith(f"{url}/".casefold())), None)


class UrlFile(io.RawIOBase):
    """What is written here becomes an object when it is closed without an error, in parts of one size."""

    def __init__(self, machine: SimulatedMachine, device: str, part_bytes: int) -> None:
        bucket = _bucket_of(machine, device)
        self.storage: Storage = machine.buckets[bucket][0]
        self.key, self.part_bytes = device[len(bucket) + 1 :], part_bytes
        self.upload_id = self._asked(lambda: self.storage.create_upload(self.key))
        self.waiting, self.written, self.receipts = bytearray(), 0, []

    def __enter__(self) -> UrlFile:
        return self

    def __exit__(self, kind: Any, *more: object) -> None:
        if kind is None:
            self._send()
            self._asked(lambda: self.storage.complete_upload(self.key, self.upload_id, self.receipts))

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        self.waiting += data
        while len(self.waiting) > self.part_bytes:
            self._send()
        return len(data)

    def tell(self) -> int:
        return self.written + len(self.waiting)

    def _send(self) -> None:
        if len(self.receipts) == MOST_PARTS:
            raise OSError("1117(The request could not be performed because of an I/O device error.)")
        body = bytes(self.waiting[: self.part_bytes])
        del self.waiting[: self.part_bytes]
        number = len(self.receipts) + 1
        sent = {"number": number, "offset": self.written, "length": len(body), "body": io.BytesIO(body)}
        self.receipts.append(self._asked(lambda: self.storage.put_part(self.key, self.upload_id, **sent)))
        self.written += len(body)

    @staticmethod
    def _asked(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except StorageError as error:
            raise OSError(f"1117(The request could not be performed: {error.sentence})") from error
