"""Reads what an S3 store answers: its XML, its errors, its headers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree

from regions.storage import Gone, Mismatch, ObjectInfo, StorageError
from regions.storage.wire import Answer

MAY_PASS = {408, 429, 500, 502, 503, 504}
PASSING_CODES = {"OperationAborted", "RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable"}
GONE_CODES = {"NoSuchKey", "NoSuchUpload", "NoSuchVersion"}
FOR_EVER = datetime.max.replace(tzinfo=UTC)
CODE_OF_STATUS = {403: "AccessDenied", 404: "NotFound", 412: "PreconditionFailed", 429: "SlowDown", 503: "SlowDown"}


class Xml:
    """An XML answer read by local names: stores differ in whether they declare S3's namespace."""

    def __init__(self, element: ElementTree.Element) -> None:
        self._element = element

    @classmethod
    def of(cls, answer: Answer, root: str) -> Xml:
        """Parse an answer that must be a `root` document; a 200 that holds an error is that error."""
        try:
            element = ElementTree.fromstring(answer.body.strip())
        except ElementTree.ParseError as error:
            raise StorageError(f"The store's answer is not XML: {error}.", retry=True, code="BadAnswer") from error
        if _local(element) == "Error":
            raise error_of(answer)
        if _local(element) != root:
            raise StorageError(f"The store answered {_local(element)}, not {root}.", code="BadAnswer")
        return cls(element)

    def __getitem__(self, name: str) -> str:
        """Return the text of the first child of that name, "" where there is none."""
        return next((child._element.text or "" for child in self.all(name)), "")

    def all(self, name: str) -> Iterator[Xml]:
        return (Xml(child) for child in self._element if _local(child) == name)

    def path(self, *names: str) -> str:
        """Return the text at the end of a path of names, "" where it breaks off."""
        here: Xml | None = self
        for name in names:
            here = next(here.all(name), None) if here else None
        return here._element.text or "" if here else ""

    def text(self) -> str:
        return ElementTree.tostring(self._element, encoding="unicode")


def checked(answer: Answer, *expected: int) -> Answer:
    if answer.status not in (expected or (200,)):
        raise error_of(answer)
    return answer


def error_of(answer: Answer) -> StorageError:
    """Say what the store's refusal means: gone, changed, worth another try, or final."""
    code, message = _code_and_message(answer)
    sentence = f"The store answered {answer.status} {code}{': ' if message else ''}{message[:300]}".rstrip(". ") + "."
    if code in GONE_CODES:
        return Gone(sentence, code=code)
    if answer.status in (412, 304):
        return Mismatch(sentence, code=code)
    if answer.status in (301, 307, 308):
        return StorageError(f"{sentence} The bucket lives elsewhere; correct its endpoint.", code=code)
    may_pass = answer.status in MAY_PASS or code in PASSING_CODES
    return StorageError(sentence, retry=may_pass, code=code, retry_after=_retry_after(answer.headers))


def etag_of(text: str | None) -> str:
    return (text or "").strip().strip('"')


def info_of(key: str, headers: Mapping[str, str]) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size=int(headers["Content-Length"]),
        etag=etag_of(headers["ETag"]),
        modified_at=http_date(headers.get("Last-Modified") or headers["Date"]),
        version=version_of(headers),
        locked_until=locked_until(headers),
    )


def locked_until(headers: Mapping[str, str]) -> datetime | None:
    """Return until when an object is locked; one under the store's own legal hold is for as long as there is time."""
    if (headers.get("x-amz-object-lock-legal-hold") or "").upper() == "ON":
        return FOR_EVER
    said = headers.get("x-amz-object-lock-retain-until-date")
    return iso_date(said) if said else None


def version_of(headers: Mapping[str, str]) -> str:
    version = headers.get("x-amz-version-id") or ""
    return "" if version == "null" else version


def http_date(text: str) -> datetime:
    return parsedate_to_datetime(text).astimezone(UTC)


def iso_date(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def decoded(key: str) -> str:
    """Undo encoding-type=url; a plus sign is a space there, as in a form."""
    return unquote_to_bytes(key.replace("+", " ")).decode("utf-8", "surrogateescape")


def _code_and_message(answer: Answer) -> tuple[str, str]:
    fallback = CODE_OF_STATUS.get(answer.status, "Error")
    try:
        element = Xml(ElementTree.fromstring(answer.body.strip()))
    except ElementTree.ParseError:
        return fallback, ""
    return element["Code"] or fallback, element["Message"]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    given = headers.get("Retry-After") or ""
    return float(given) if given.isdecimal() else None


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
