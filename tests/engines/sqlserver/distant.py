"""A file looked at from a distance: counts what reading it takes, and never gives a byte that is not there."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import strategies as st

from backups.engines.facts import Inspection, Kind
from backups.engines.sqlserver import inspect
from demo import mtf


class Distant:
    def __init__(self, data: bytes) -> None:
        self.data, self.reads, self.bytes_read = data, 0, 0

    def read(self, offset: int, length: int) -> bytes:
        assert offset >= 0 and length > 0 and offset + length <= len(self.data), "asked for bytes that are not there"
        self.reads += 1
        self.bytes_read += length
        return self.data[offset : offset + length]

    def inspect(self) -> Inspection:
        return inspect(self.read, len(self.data))


def inspected(data: bytes) -> Inspection:
    return Distant(data).inspect()


def refusal_code(data: bytes) -> str:
    """Return the code a file is refused with; "" when it is read."""
    refusal = inspected(data).refusal
    return refusal.code if refusal else ""


VERSIONS = ((9, 0, 5000), (10, 50, 6000), (12, 0, 2000), (13, 0, 5026), (14, 0, 1000), (15, 0, 4430))
names = st.text(st.characters(codec="utf-16-le", exclude_characters="\0"), min_size=1, max_size=60)
moments = st.datetimes(datetime(1999, 1, 1), datetime(2199, 1, 1), timezones=st.just(UTC)).map(
    lambda at: at.replace(microsecond=0)
)
positions = st.integers(1, 2**32 - 100).map(mtf.lsn)


@st.composite
def backups(draw: st.DrawFn) -> mtf.Backup:
    """Any backup the writer can write: every kind, version, zone and name."""
    base = mtf.full(
        draw(names),
        server=draw(names),
        first=draw(positions),
        started_at=draw(moments),
        seconds=draw(st.integers(0, 200_000)),
        pages=draw(st.integers(0, 20)),
        log_bytes=draw(st.integers(0, 20)) * 512,
        copy_only=draw(st.booleans()),
        checksum=draw(st.booleans()),
        version=draw(st.sampled_from(VERSIONS)),
        time_zone=draw(st.integers(-56, 56)),
        seed=draw(st.text("abc", max_size=3)),
    )
    kind = draw(st.sampled_from(Kind))
    if kind is Kind.FULL:
        return base
    at, first = base.finished_at, base.last
    if kind is Kind.DIFFERENTIAL:
        return mtf.differential(base, first=first, started_at=at, pages=draw(st.integers(0, 20)))
    return mtf.log(base, first=first, last=first + draw(st.integers(0, 9)) * 10**15, started_at=at, log_bytes=5120)


@st.composite
def media(draw: st.DrawFn, backup: mtf.Backup):
    families = draw(st.integers(1, 64))
    sequence = draw(st.integers(1, families))
    block = draw(st.sampled_from((512, 4096)))
    return mtf.media_of(backup, families=families, sequence=sequence, block=block)
