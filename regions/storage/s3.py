"""Stores that speak S3. Everything goes through one wire, signed as it is sent; quirks met on the way stand beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import escape

from regions.storage import Gone, Mismatch, ObjectInfo, PartReceipt, Readable, StorageError, StoreOptions, UploadInfo
from regions.storage.patience import patiently
from regions.storage.ranges import Counted, Nothing
from regions.storage.s3_answers import (
    Xml,
    checked,
    decoded,
    error_of,
    etag_of,
    http_date,
    info_of,
    iso_date,
    version_of,
)
from regions.storage.s3_signing import Bucket
from regions.storage.wire import Answer, Incoming, Wire

IGNORED_IF_MATCH = "IfMatchIgnored"  # we noticed the change, not the store


class S3Storage:
    """A bucket, or a prefix of one. Cheap to make, safe to share between threads, holds no connection itself."""

    def __init__(self, store: StoreOptions) -> None:
        prefix = urlsplit(store.url).path.strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._bucket = Bucket.of(store)
        self._wire = Wire.to(self._bucket.url, store.options.get("verify") or "")

    # Objects

    def head(self, key: str) -> ObjectInfo:
        answer = self._ask("HEAD", key)
        if answer.status != 200:
            self._ask_in_words()
        if answer.status == 404:
            raise Gone(f"There is no object {key}.", code="NoSuchKey")
        return info_of(key, checked(answer).headers)

    def _ask_in_words(self) -> None:
        """An error to a HEAD has no body: a missing bucket looks like a missing key, a wrong secret like no grant."""
        checked(self._ask("GET", None, {"list-type": "2", "max-keys": "1", "prefix": self._prefix}))

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        query = {"list-type": "2", "encoding-type": "url", "prefix": self._prefix + prefix}
        if start_after:
            query["start-after"] = self._prefix + start_after
        while True:
            page = Xml.of(checked(self._ask("GET", None, query)), "ListBucketResult")
            yield from (self._listed(entry, page) for entry in page.all("Contents"))
            if page["IsTruncated"] != "true":
                return
            query["continuation-token"] = _required(page, "NextContinuationToken")

    @contextmanager
    def open_range(self, key: str, offset: int, length: int, match: ObjectInfo | None = None) -> Iterator[Readable]:
        if not length:
            _require_same(self.head(key), match)
            yield Nothing()
            return
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        if match:
            headers["If-Match"] = f'"{match.etag}"'
        target = self._signed("GET", key, {"versionId": match.version} if match and match.version else {})
        with self._wire.receive(target, headers, length) as incoming:
            _require_range(incoming, offset, length, match)
            yield Counted(incoming, length)

    def put(self, key: str, body: bytes, *, absent: bool = False) -> ObjectInfo:
        headers = {"If-None-Match": "*"} if absent else {}
        answer = checked(self._ask("PUT", key, body=body, headers=headers))
        return ObjectInfo(
            key,
            len(body),
            etag_of(answer.headers["ETag"]),
            http_date(answer.headers["Date"]),
            version_of(answer.headers),
        )

    def delete(self, key: str, match: ObjectInfo | None = None) -> None:
        patiently(lambda: self._delete(key, match))

    def _delete(self, key: str, match: ObjectInfo | None) -> None:
        """Name the version, or its bytes would stay; look first, since not every store honours If-Match here."""
        try:
            if not (match and match.version):
                found = self.head(key)
                _require_same(found, match)
                match = found
            checked(self._ask("DELETE", key, {"versionId": match.version} if match.version else {}), 200, 204)
        except Gone:
            return

    def presigned(self, found: ObjectInfo, name: str, seconds: int) -> str | None:
        quoted = quote(name.encode("utf-8", "replace"), safe="")
        said = {"response-content-disposition": f"attachment; filename*=UTF-8''{quoted}"}
        version = {"versionId": found.version} if found.version else {}
        return self._bucket.address(self._prefix + found.key, said | version, seconds)

    # Multipart uploads

    def create_upload(self, key: str, metadata: dict[str, str] | None = None) -> str:
        headers = {f"x-amz-meta-{name}": value for name, value in (metadata or {}).items()}
        answer = self._ask("POST", key, {"uploads": ""}, signed_headers=headers)
        return _required(Xml.of(checked(answer), "InitiateMultipartUploadResult"), "UploadId")

    def put_part(self, key: str, upload_id: str, number: int, offset: int, length: int, body: Readable) -> PartReceipt:
        target = self._signed("PUT", key, {"partNumber": str(number), "uploadId": upload_id})
        answer = checked(self._wire.send("PUT", target, {}, length, body))
        etag = etag_of(answer.headers.get("ETag"))
        if not etag:
            raise StorageError(f"The store took part {number} without an ETag.", retry=True, code="BadAnswer")
        return PartReceipt(number, length, etag)

    def list_parts(self, key: str, upload_id: str) -> list[PartReceipt]:
        query, found = {"uploadId": upload_id}, []
        while True:
            page = Xml.of(checked(self._ask("GET", key, query)), "ListPartsResult")
            found += [_receipt(entry) for entry in page.all("Part")]
            if page["IsTruncated"] != "true":
                return found
            query["part-number-marker"] = _required(page, "NextPartNumberMarker")

    def complete_upload(self, key: str, upload_id: str, parts: Sequence[PartReceipt]) -> ObjectInfo:
        """A 200 is not success before its body has an ETag: the status is sent while the store is still working.

        Ceph (16.2) leaves that ETag empty, so what lies under the key afterwards has the last word.
        """
        answer = checked(self._ask("POST", key, {"uploadId": upload_id}, body=_completion(parts)))
        said = _required(Xml.of(answer, "CompleteMultipartUploadResult"), "ETag", empty=True)
        stored, size = self.head(key), sum(part.size for part in parts)
        if stored.size != size or etag_of(said) not in ("", stored.etag):
            raise Mismatch(f"Another object lies under {key} than the one just completed.", code="Overwritten")
        return stored

    def abort_upload(self, key: str, upload_id: str) -> None:
        try:
            checked(self._ask("DELETE", key, {"uploadId": upload_id}), 200, 204)
        except Gone:
            return

    def list_uploads(self, prefix: str = "") -> Iterator[UploadInfo]:
        query = {"uploads": "", "encoding-type": "url", "prefix": self._prefix + prefix}
        while True:
            page = Xml.of(checked(self._ask("GET", None, query)), "ListMultipartUploadsResult")
            for entry in page.all("Upload"):
                yield UploadInfo(self._key(entry, page), entry["UploadId"], iso_date(entry["Initiated"]))
            if page["IsTruncated"] != "true":
                return
            query["key-marker"] = self._prefix + self._own(_required(page, "NextKeyMarker"), page)
            query["upload-id-marker"] = page["NextUploadIdMarker"]

    # The store itself

    def clock(self) -> datetime:
        return http_date(self._ask("HEAD", None).headers["Date"])  # an error has the time too

    def space_left(self) -> int | None:
        return None

    def features(self) -> dict[str, bool]:
        locks = ("object-lock", "ObjectLockConfiguration")
        return {
            "versioning": self._says("versioning", "VersioningConfiguration", ("Status",)) == "Enabled",
            "object_lock": self._says(*locks, ("ObjectLockEnabled",)) == "Enabled",
            "locks_all": bool(self._says(*locks, ("Rule", "DefaultRetention", "Mode"))),
        }

    def expiring_rules(self, prefix: str) -> list[str]:
        answer = self._ask("GET", None, {"lifecycle": ""})
        if answer.status in (403, 404, 405, 501):
            return []
        rules = Xml.of(checked(answer), "LifecycleConfiguration").all("Rule")
        return [rule.text() for rule in rules if _expires(rule, self._prefix + prefix)]

    def _says(self, question: str, root: str, path: tuple[str, ...]) -> str:
        answer = self._ask("GET", None, {question: ""})
        return Xml.of(answer, root).path(*path) if answer.status == 200 else ""

    # One request

    def _ask(
        self,
        method: str,
        key: str | None,
        query: Mapping[str, str] | None = None,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        signed_headers: Mapping[str, str] | None = None,
    ) -> Answer:
        target = self._signed(method, key, query or {}, signed_headers or {})
        return self._wire.ask(method, target, {**(headers or {}), **(signed_headers or {})}, body)

    def _signed(
        self, method: str, key: str | None, query: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> str:
        path = "" if key is None else self._prefix + key
        return self._bucket.signed(method, path, query, headers or {})

    def _listed(self, entry: Xml, page: Xml) -> ObjectInfo:
        modified_at = iso_date(entry["LastModified"])
        return ObjectInfo(self._key(entry, page), int(entry["Size"]), etag_of(entry["ETag"]), modified_at)

    def _key(self, entry: Xml, page: Xml) -> str:
        return self._own(entry["Key"], page)

    def _own(self, key: str, page: Xml) -> str:
        return (decoded(key) if page["EncodingType"] == "url" else key).removeprefix(self._prefix)


def _required(answer: Xml, name: str, *, empty: bool = False) -> str:
    if not (answer[name] or empty and any(answer.all(name))):
        raise StorageError(f"The store's answer has no {name}.", retry=True, code="BadAnswer")
    return answer[name]


def _receipt(entry: Xml) -> PartReceipt:
    return PartReceipt(int(entry["PartNumber"]), int(entry["Size"]), etag_of(entry["ETag"]))


def _completion(parts: Sequence[PartReceipt]) -> bytes:
    listed = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.etag)}</ETag></Part>" for part in parts
    )
    return f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()


def _require_same(found: ObjectInfo, match: ObjectInfo | None) -> None:
    if match and found.etag != match.etag:
        raise Mismatch(f"{match.key} has changed since it was looked at.", code="PreconditionFailed")


def _require_range(incoming: Answer | Incoming, offset: int, length: int, match: ObjectInfo | None) -> None:
    """Believe neither the status nor the length alone: some servers answer a range with 200 and everything."""
    if isinstance(incoming, Answer):
        raise error_of(incoming)
    if match and etag_of(incoming.headers.get("ETag")) != match.etag:
        raise Mismatch(f"{match.key} has changed since it was looked at.", code=IGNORED_IF_MATCH)
    said = incoming.headers.get("Content-Range") or ""
    asked = f"bytes {offset}-{offset + length - 1}/"
    if incoming.status != 206 or not said.startswith(asked):
        raise StorageError(f"Asked for {asked}…, the store sent {said or 'everything'}.", retry=True, code="BadRange")
    if incoming.headers.get("Content-Length") not in (None, str(length)):
        raise StorageError("The store announced another length than asked for.", retry=True, code="BadRange")


def _expires(rule: Xml, prefix: str) -> bool:
    """Whether a lifecycle rule would delete objects of ours; they carry no tags and are never overwritten."""
    tagged = rule.path("Filter", "Tag", "Key") or rule.path("Filter", "And", "Tag", "Key")
    deletes = rule.path("Expiration", "Days") or rule.path("Expiration", "Date")
    chosen = rule["Prefix"] or rule.path("Filter", "Prefix") or rule.path("Filter", "And", "Prefix")
    overlaps = chosen.startswith(prefix) or prefix.startswith(chosen)
    return bool(rule["Status"] == "Enabled" and deletes and not tagged and overlaps)
