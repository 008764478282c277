"""Handing out the files of completed copies: what may be had, links to it, and the meter of what was delivered (R-16).

What it costs is for billing to say: it reads the meter.
"""

from backups.downloads.asking import Handout, ask, link_of, why_not
from backups.downloads.digests import Digest, digest_of
from backups.downloads.meter import Meter, begin, record_use, settle, unsettled
from backups.downloads.pins import tidy, unpinned
from backups.downloads.reading import bytes_of, etag_of, internal_way, report

__all__ = [
    "Digest",
    "Handout",
    "Meter",
    "ask",
    "begin",
    "bytes_of",
    "digest_of",
    "etag_of",
    "internal_way",
    "link_of",
    "record_use",
    "report",
    "settle",
    "tidy",
    "unpinned",
    "unsettled",
    "why_not",
]
