"""The two checksums over the data itself: the backup checksum of a stream and the checksum of each page in it.

Both are built from the XOR of each 512-byte sector's words, so one pass over the bytes serves them (`sqlserver.md` §1).
"""

from __future__ import annotations

from functools import reduce
from operator import xor
from typing import Any

import numpy as np

SECTOR = 512
_WORDS = SECTOR // 4
_SECTORS_IN_PAGE = 16
_PAGE = SECTOR * _SECTORS_IN_PAGE
_ALL_BITS = 0xFFFFFFFF
_CHECKSUM_FLAG, _FLAGS_WORD, _FIELD_WORD = 0x200, 1, 15


def rotated(word: int, places: int) -> int:
    """Return a 32-bit word rotated to the left."""
    places %= 32
    return (word << places | word >> 32 - places) & _ALL_BITS


def summed_up(value: int, sectors: np.ndarray) -> int:
    """Continue a backup checksum over the XORs of further sectors.

    The rule is `value = rotated(value, 1) ^ sector` for each. A sector's rotation depends only on how many follow it,
    modulo 32, so the sectors are XORed in 32 columns first and 32 rotations are left.
    """
    count = len(sectors)
    if not count:
        return value
    columns = np.zeros(count + -count % 32, "<u4")
    columns[-count:] = sectors
    folded = np.bitwise_xor.reduce(columns.reshape(-1, 32), axis=0).tolist()
    return reduce(xor, (rotated(word, 31 - i) for i, word in enumerate(folded)), rotated(value, count))


def wrong_pages(words: np.ndarray, sectors: np.ndarray) -> tuple[int, np.ndarray]:
    """Return how many of these whole pages carry a checksum, and the numbers of those where it is wrong."""
    pages, parts = words.reshape(-1, _PAGE // 4), sectors.reshape(-1, _SECTORS_IN_PAGE)
    carries = (pages[:, 0] & 0xFF == 1) & (pages[:, _FLAGS_WORD] & _CHECKSUM_FLAG != 0)
    field = pages[:, _FIELD_WORD]
    turned = [parts[:, i] << np.uint32(15 - i) | parts[:, i] >> np.uint32(17 + i) for i in range(_SECTORS_IN_PAGE)]
    turned.append(field << np.uint32(15) | field >> np.uint32(17))
    found = reduce(xor, turned)
    return int(np.count_nonzero(carries)), np.flatnonzero(carries & (found != field))


class Sectors:
    """Sums up one stream's data, fed in pieces of any size; keeps less than a sector and a few numbers between them."""

    def __init__(self, *, has_pages: bool) -> None:
        self.has_pages = has_pages
        self.value = self.pages_checked = self.length = 0
        self.wrong_at: int | None = None
        self._held = b""
        self._page = _PartPage()

    def feed(self, data: memoryview) -> None:
        if self._held:
            missing = SECTOR - len(self._held)
            self._held += bytes(data[:missing])
            data = data[missing:]
            if len(self._held) < SECTOR:
                return
            self._take(memoryview(self._held))
            self._held = b""
        whole = len(data) - len(data) % SECTOR
        self._take(data[:whole])
        self._held = bytes(data[whole:])

    def finish(self) -> int:
        """Return the backup checksum of all that was fed, an unfinished last sector filled up with zeros."""
        if self._held:
            self._take(memoryview(self._held.ljust(SECTOR, b"\0")))
            self._held = b""
        return self.value

    def state(self) -> dict[str, Any]:
        kept = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return kept | {"held": self._held.hex(), "page": vars(self._page)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Sectors:
        sectors = cls(has_pages=state["has_pages"])
        sectors._held = bytes.fromhex(state["held"])
        vars(sectors._page).update(state["page"])
        vars(sectors).update({name: state[name] for name in vars(sectors) if not name.startswith("_")})
        return sectors

    def _take(self, data: memoryview) -> None:
        if not data:
            return
        words = np.frombuffer(data, "<u4").reshape(-1, _WORDS)
        sectors = np.bitwise_xor.reduce(words, axis=1)
        self.value = summed_up(self.value, sectors)
        if self.has_pages:
            self._check_pages(words, sectors)
        self.length += len(data)

    def _check_pages(self, words: np.ndarray, sectors: np.ndarray) -> None:
        head = min(-self._page.sectors % _SECTORS_IN_PAGE, len(sectors))
        whole = head + (len(sectors) - head) // _SECTORS_IN_PAGE * _SECTORS_IN_PAGE
        self._check_slowly(words, sectors, range(head))
        checked, wrong = wrong_pages(words[head:whole], sectors[head:whole])
        self.pages_checked += checked
        if len(wrong) and self.wrong_at is None:
            self.wrong_at = self.length + head * SECTOR + int(wrong[0]) * _PAGE
        self._check_slowly(words, sectors, range(whole, len(sectors)))

    def _check_slowly(self, words: np.ndarray, sectors: np.ndarray, which: range) -> None:
        for i in which:
            self._page.add(words[i], int(sectors[i]))
            if self._page.sectors < _SECTORS_IN_PAGE:
                continue
            self.pages_checked += self._page.carries
            if self._page.is_wrong and self.wrong_at is None:
                self.wrong_at = self.length + (i + 1) * SECTOR - _PAGE
            self._page = _PartPage()


class _PartPage:
    """A page of which only some sectors have come yet."""

    def __init__(self) -> None:
        self.sectors = self.value = self.field = 0
        self.carries = False

    @property
    def is_wrong(self) -> bool:
        return self.carries and self.value != self.field

    def add(self, words: np.ndarray, sector: int) -> None:
        if self.sectors == 0:
            self.field = int(words[_FIELD_WORD])
            self.carries = int(words[0]) & 0xFF == 1 and bool(int(words[_FLAGS_WORD]) & _CHECKSUM_FLAG)
            sector ^= self.field
        self.value ^= rotated(sector, 15 - self.sectors)
        self.sectors += 1
