"""Expands MS-XCA "LZ77+Huffman", the compression inside SQL Server's compressed backups ([MS-XCA] §2.2)."""

from __future__ import annotations

import struct

import numpy as np

TABLE_SIZE = 256
_BLOCK = 65536
_FULL = 1 << 15
_END = 256
_SHARES = np.array([0, *(_FULL >> length for length in range(1, 16))])  # of all 15-bit prefixes, by code length
_WEIGHT = tuple(sum(_FULL >> length for length in (byte & 15, byte >> 4) if length) for byte in range(256))


def is_table(table: bytes) -> bool:
    """Say whether these 256 bytes are the code lengths of a complete Huffman code."""
    return len(table) == TABLE_SIZE and sum(map(_WEIGHT.__getitem__, table)) == _FULL


def first_symbol(body: bytes) -> int:
    """Return the first symbol of a body, a byte or from 256 on a match; raises ValueError without a complete code.

    A hundredth of the work of `expand`, which lays out all codes first.
    """
    if len(body) < TABLE_SIZE + 2:
        raise ValueError("the body ends too early")
    table = np.frombuffer(body, np.uint8, TABLE_SIZE)
    lengths = np.column_stack((table & 15, table >> 4)).reshape(-1)
    order = np.argsort(lengths, kind="stable")
    ends = np.cumsum(_SHARES[lengths[order]])
    if ends[-1] != _FULL:
        raise ValueError("no complete Huffman code")
    prefix = int.from_bytes(body[TABLE_SIZE : TABLE_SIZE + 2], "little") >> 1
    return int(order[np.searchsorted(ends, prefix, side="right")])


def expand(body: bytes, size: int) -> bytes:
    """Return up to `size` expanded bytes; raises ValueError when the body is not valid."""
    out = bytearray()
    position = 0
    while len(out) < size and position < len(body):
        position = _expand_block(body, position, out, min(size, len(out) + _BLOCK))
    return bytes(out)


def _expand_block(body: bytes, position: int, out: bytearray, size: int) -> int:
    """Expand one block into `out` until it has `size` bytes; return where the input stands."""
    codes = _codes(body[position : position + TABLE_SIZE])
    bits = _Bits(body, position + TABLE_SIZE)
    while len(out) < size:
        symbol = bits.symbol(codes)
        if symbol < _END:
            out.append(symbol)
        elif symbol == _END and bits.position >= len(body):
            break
        else:
            _copy(bits, symbol - _END, out, size)
    return bits.position


def _codes(table: bytes) -> list[int]:
    """Return for each 15-bit prefix its symbol and code length, packed as symbol * 16 + length."""
    if not is_table(table):
        raise ValueError("no complete Huffman code")
    lengths = [length for byte in table for length in (byte & 15, byte >> 4)]
    codes: list[int] = []
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
        codes += [symbol << 4 | length] * (_FULL >> length)
    return codes


class _Bits:
    """The bit stream: 16-bit words, highest bit first, with the long match lengths as plain bytes in between."""

    __slots__ = ("body", "position", "window", "spare")

    def __init__(self, body: bytes, position: int) -> None:
        if position + 4 > len(body):
            raise ValueError("the body ends too early")
        high, low = struct.unpack_from("<HH", body, position)
        self.body, self.position = body, position + 4
        self.window, self.spare = high << 16 | low, 16

    def symbol(self, codes: list[int]) -> int:
        packed = codes[self.window >> 17]
        self.skip(packed & 15)
        return packed >> 4

    def take(self, count: int) -> int:
        value = self.window >> 32 - count if count else 0
        self.skip(count)
        return value

    def skip(self, count: int) -> None:
        self.window = self.window << count & 0xFFFFFFFF
        self.spare -= count
        if self.spare < 0:
            word = int.from_bytes(self.body[self.position : self.position + 2], "little")
            self.window |= word << -self.spare
            self.spare += 16
            self.position += 2

    def plain(self, size: int) -> int:
        value = self.body[self.position : self.position + size]
        if len(value) != size:
            raise ValueError("the body ends inside a match")
        self.position += size
        return int.from_bytes(value, "little")


def _copy(bits: _Bits, match: int, out: bytearray, size: int) -> None:
    length = _length(bits, match & 15)
    reach = match >> 4
    distance = 1 << reach | bits.take(reach)
    if distance > len(out):
        raise ValueError("a match begins before the data")
    length = min(length, size - len(out))
    pattern = bytes(out[-distance:][:length])
    out += (pattern * (length // len(pattern) + 1))[:length]


def _length(bits: _Bits, short: int) -> int:
    if short < 15:
        return short + 3
    length = bits.plain(1)
    if length < 255:
        return length + 18
    length = bits.plain(2) or bits.plain(4)
    if length < 15:
        raise ValueError("a match has an impossible length")
    return length + 3
