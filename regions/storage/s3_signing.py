"""Signs what the S3 driver asks for: botocore's signer alone, without its clients (they cost 40 MB a process)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from regions.storage import StorageError, StoreOptions

SIGNED_SECONDS = 900


@dataclass(frozen=True)
class Bucket:
    """Where a bucket is and who we are there; `url` is its address in path or virtual style."""

    name: str
    url: str
    region: str
    credentials: Credentials

    @classmethod
    def of(cls, store: StoreOptions) -> Bucket:
        given, name = store.options, urlsplit(store.url).netloc
        region = given.get("region") or "us-east-1"
        endpoint = (given.get("endpoint") or f"https://s3.{region}.amazonaws.com").rstrip("/")
        return cls(name, _address(endpoint, name, given.get("addressing") or "path"), region, _credentials(store))

    def signed(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        seconds: int = SIGNED_SECONDS,
    ) -> str:
        """Return path and query to ask for, good for so long; `headers` are signed too and must be sent."""
        path = quote(key.encode("utf-8", "surrogateescape"), safe="/~")
        url = f"{self.url}/{path}" if key else self.url
        request = AWSRequest(method, url, headers=dict(headers), params=dict(query))
        S3SigV4QueryAuth(self.credentials, "s3", self.region, expires=seconds).add_auth(request)
        parts = urlsplit(request.url)
        return f"{parts.path or '/'}?{parts.query}"

    def address(self, key: str, query: Mapping[str, str], seconds: int) -> str:
        """Return an address from which anybody can read one object, good for so long."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{self.signed('GET', key, query, {}, seconds)}"


def _address(endpoint: str, bucket: str, addressing: str) -> str:
    if addressing == "path":
        return f"{endpoint}/{bucket}"
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket}.{host}"


def _credentials(store: StoreOptions) -> Credentials:
    given: Mapping[str, Any] = store.credentials
    if not given.get("access_key_id") or not given.get("secret_access_key"):
        raise StorageError("The store has no access key.", code="NoCredentials")
    return Credentials(given["access_key_id"], given["secret_access_key"], given.get("session_token") or None)
