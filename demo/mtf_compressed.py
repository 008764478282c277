"""Puts synthetic backups into SQL Server's compressed container, and pretends to encrypt them.

The bodies are valid MS-XCA "LZ77+Huffman" that uses literals only: no matches, real Huffman codes.
"""

from __future__ import annotations

import heapq
import io
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import shake_256
from itertools import count

from backups.engines.sqlserver.walking import walk
from backups.engines.sqlserver.windows import Windows
from demo.mtf import Backup, Media, media_of, write_closing, write_data, write_end, write_start
from demo.tape import SECTOR, TapeWriter

_END = 256
_CHUNK = 65536
_COMPRESSED, _ENCRYPTED = 0x2, 0x4
_FIRST_CHUNK, _SECOND_CHUNK = 0x1E0, 0x600


def compressed_file(backup: Backup, *, media: Media | None = None) -> bytes:
    """Return one backup set in a compressed container (`MSSQLBAK` version 2)."""
    media = media or media_of(backup)
    out = bytearray(_container_header(_COMPRESSED))
    tape = _blocks(media, lambda tape: tape.tape(media))
    out += chunks_of(tape[: -media.block])
    _pad_to(out, _SECOND_CHUNK - media.block)
    out += tape[-media.block :]
    out += chunks_of(_blocks(media, lambda tape: write_start(tape, backup, 1)))
    for block in _each(_blocks(media, lambda tape: write_data(tape, backup, media))):
        out += chunks_of(block)
    for part in (lambda tape: write_end(tape, backup), lambda tape: write_closing(tape, backup, 1)):
        out += chunks_of(_blocks(media, part))
        _pad(out, SECTOR)
        out += _blocks(media, TapeWriter.filemark)
    return bytes(out)


def encrypted_file(size: int = 1 << 20, *, seed: str = "farshore") -> bytes:
    """Return a file whose header says it is encrypted and whose content nobody can read."""
    return _container_header(_COMPRESSED | _ENCRYPTED) + shake_256(seed.encode()).digest(size - _FIRST_CHUNK)


def chunks_of(data: bytes) -> bytes:
    """Return the data as compressed chunks, each behind its header."""
    out = bytearray()
    for start in range(0, len(data), _CHUNK):
        for piece in _fitting(data[start : start + _CHUNK]):
            body = compress(piece)
            out += struct.pack("<BBH20sI", 0x21, -(-len(piece) // SECTOR), len(body), b"", 0) + body
    return bytes(out)


def compress(data: bytes) -> bytes:
    """Return the data as one MS-XCA LZ77+Huffman block without matches."""
    lengths = _code_lengths(data)
    codes = _codes(lengths)
    table = bytes(lengths.get(2 * i, 0) | lengths.get(2 * i + 1, 0) << 4 for i in range(256))
    bits = "".join(map(codes.__getitem__, data)) + codes[_END]
    bits += "0" * (-len(bits) % 16 + 32)
    words = (int(bits[i : i + 16], 2) for i in range(0, len(bits), 16))
    return table + b"".join(word.to_bytes(2, "little") for word in words)


def _fitting(piece: bytes) -> list[bytes]:
    """Halve what would not fit a chunk's 16-bit size when it hardly compresses."""
    if len(piece) > _CHUNK // 2 and len(compress(piece)) > 0xFFFF:
        return [piece[: _CHUNK // 2], piece[_CHUNK // 2 :]]
    return [piece]


def _code_lengths(data: bytes) -> dict[int, int]:
    """Return the length of each symbol's code, none over 15: rare symbols count as not too rare."""
    floor = max(1, len(data) >> 9)
    weights = {symbol: max(n, floor) for symbol, n in Counter(data).items()} | {_END: floor}
    order = count()
    heap = [(weight, next(order), [symbol]) for symbol, weight in sorted(weights.items())]
    heapq.heapify(heap)
    lengths = dict.fromkeys(weights, 0)
    while len(heap) > 1:
        (light, _, some), (heavy, _, others) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in some + others:
            lengths[symbol] += 1
        heapq.heappush(heap, (light + heavy, next(order), some + others))
    return lengths


def _codes(lengths: dict[int, int]) -> dict[int, str]:
    """Return the canonical code of each symbol as a text of bits."""
    codes, code, longest = {}, 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in lengths.items()):
        code <<= length - longest
        codes[symbol] = format(code, f"0{length}b")
        code, longest = code + 1, length
    return codes


def _container_header(flags: int) -> bytes:
    return struct.pack("<8sII", b"MSSQLBAK", 2, flags).ljust(_FIRST_CHUNK, b"\0")


def _blocks(media: Media, put: Callable[[TapeWriter], None]) -> bytes:
    out = io.BytesIO()
    put(TapeWriter(out, media.block))
    return out.getvalue()


def _each(blocks: bytes) -> Iterator[bytes]:
    for placed in walk(Windows(lambda offset, length: blocks[offset : offset + length], len(blocks))):
        yield blocks[placed.block.position : placed.end]


def _pad(out: bytearray, boundary: int) -> None:
    _pad_to(out, len(out) + -len(out) % boundary)


def _pad_to(out: bytearray, end: int) -> None:
    """Fill with a padding record up to `end`."""
    if end > len(out):
        out += b"\x24" + bytes(end - len(out) - 1)
