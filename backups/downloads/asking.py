"""Asking for links to the files of a copy, and what a token opens (R-7.2, R-16.3, R-16.4)."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from unicodedata import category

from django.conf import settings
from django.db import transaction

from backups import access, events
from backups.downloads import pins
from backups.engines.facts import Method
from backups.events import By
from backups.models import CopiedFile, Copy, CopyState, Download, DownloadLink, Role
from regions import clock
from regions.refusals import Refusal

TOKEN_BYTES = 32  # 256 bits
LONGEST_NAME = 200


@dataclass(frozen=True)
class Handout:
    """One file and the only time its token is told."""

    download: Download
    link: DownloadLink
    token: str


def why_not(copy: Copy) -> Refusal | None:
    """Return why the files of a copy are not handed out, None when they are. Its set comes along."""
    if copy.set.method == Method.SNAPSHOT:
        return Refusal("SnapshotNotDownloaded", "A snapshot cannot be downloaded.", "Restore it instead.")
    if copy.state != CopyState.COMPLETED or copy.is_damaged:
        return Refusal("CopyNotCompleted", "Only a completed copy can be downloaded.")
    return None


def ask(copy: Copy, by: By, address: str, *, learnt: bool) -> list[Handout]:
    """Make a link for each file of the copy, good for DOWNLOAD_LINK_SECONDS and pinning its bytes (I4).

    Raises Refusal, and PermissionDenied for who is no operator of the instance. Links that are there stay good; the
    meter goes on where it was.
    """
    access.require(by.user, copy.set.instance, Role.OPERATOR)
    if not learnt:
        raise Refusal("BillingRulesNotLearnt", "Confirm the billing rules to download.", "Tick the box.", "learnt")
    with transaction.atomic():
        locked = _locked(copy)
        at = clock.now()
        until = at + timedelta(seconds=settings.DOWNLOAD_LINK_SECONDS)
        files = _files_of(locked)
        handouts = [
            _handout(file, name, by, address, at, until) for file, name in zip(files, _names(files), strict=True)
        ]
        for handout in handouts:
            pins.pin(handout.download, at, until)
        events.record(
            "download.asked",
            f"{by.name} asked for links to download the copy of {copy.set}, one for each file: {len(files)}.",
            by=by,
            set=copy.set,
            copy=copy.pk,
            address=address,
            downloads=[handout.download.pk for handout in handouts],
            links=[handout.link.pk for handout in handouts],
            until=until.isoformat(),
        )
    return handouts


def _locked(copy: Copy) -> Copy:
    """Lock the copy against its deletion, and look at it once more."""
    locked = Copy.objects.select_for_update(no_key=True, of=("self",)).select_related("set__instance").get(pk=copy.pk)
    if refusal := why_not(locked):
        raise refusal
    return locked


def _files_of(copy: Copy) -> list[CopiedFile]:
    brought = copy.copied_files.select_related("file", "transfer", "copy__set__instance")
    return list(brought.filter(file__set_files__set=copy.set_id).order_by("file__set_files__family_sequence"))


def _handout(file: CopiedFile, name: str, by: By, address: str, at: datetime, until: datetime) -> Handout:
    download, _ = Download.objects.get_or_create(
        user=by.user,
        copy=file.copy,
        file=file.file,
        address=address,
        whole_at=None,
        defaults={"transfer": file.transfer, "size": file.transfer.size, "name": name, "asked_at": at},
    )
    token = secrets.token_urlsafe(TOKEN_BYTES)
    link = DownloadLink.objects.create(download=download, token_hash=_hashed(token), made_at=at, expires_at=until)
    return Handout(download, link, token)


def _names(files: Sequence[CopiedFile]) -> list[str]:
    """Return what each file is called where it arrives: as its owner called it, each name once."""
    plain = [_name(file) for file in files]
    doubled = {name for name, count in Counter(plain).items() if count > 1}
    return [f"{n}-{name}" if name in doubled else name for n, name in enumerate(plain, 1)]


def _name(file: CopiedFile) -> str:
    """Return a name without folders, control characters, and what turns text around: an owner's key is data."""
    last = str(file.file).rpartition("/")[2]
    if file.file.is_ours:  # named by us, for us: its number says nothing to anybody else
        last = f"{file.copy.set.instance.code}-{file.copy.set_id}.{last.partition('.')[2]}".rstrip(".")
    plain = "".join("_" if letter in '\\/:*?"<>|' or category(letter)[0] == "C" else letter for letter in last)
    return plain.strip(". ")[-LONGEST_NAME:] or f"backup-{file.file_id}"


def link_of(token: str) -> DownloadLink | None:
    """Return what a token opens now; None for one that never was, has expired, or is void.

    It acts as the person who asked: it is void once they are disabled, may not operate the instance any more, or the
    copy is no longer completed.
    """
    rows = DownloadLink.objects.select_related(
        "download__user", "download__file", "download__transfer__store", "download__copy__set__instance"
    )
    link = rows.filter(token_hash=_hashed(token)).first()
    if link is None or link.expires_at <= clock.now():
        return None
    copy, user = link.download.copy, link.download.user
    if not access.may_operate(user, copy.set.instance) or why_not(copy):
        return None
    return link


def _hashed(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
