"""Good files made bad: bytes, numbers, words and pieces changed, and checksums mended so that readers look deeper."""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

from tests.fuzz.target import Target

_SMALL = (0, 1, 2, 7, 8, 127, 128, 255, 256)
_NUMBERS = (*_SMALL, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 1 << 20, 1 << 28, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_LARGEST = 1 << 18


def mutated(target: Target, seeds: list[bytes], rng: np.random.Generator) -> bytes:
    """A good file with one to six changes."""
    content = seeds[rng.integers(len(seeds))]
    if target.form == "zip" and rng.random() < 0.7:
        try:
            return _with_changed_member(content, lambda data: _changed(target, data, seeds, rng), rng)
        except Exception:
            pass  # no whole archive: an older form, or one changed before, of which zipfile may say anything
    content = _changed(target, content, seeds, rng)
    if rng.random() < 0.8:
        content = {"png": _png_mended, "tar": _tar_mended}.get(target.form, bytes)(content)
    return content


def _changed(target: Target, content: bytes, seeds: list[bytes], rng: np.random.Generator) -> bytes:
    for _ in range(int(rng.integers(1, 7))):
        way = _WAYS[rng.integers(len(_WAYS))]
        content = way(content, target, seeds, rng)[:_LARGEST]
    return content


def _place(content: bytes, rng: np.random.Generator, width: int = 0) -> int:
    # Heads of files are where sizes stand.
    end = max(len(content) - width, 0) + 1
    return int(rng.integers(min(end, 160) if rng.random() < 0.4 else end))


def _flip(content: bytes, target: Target, seeds: list[bytes], rng: np.random.Generator) -> bytes:
    if not content:
        return content
    data, at = bytearray(content), min(_place(content, rng), len(content) - 1)
    data[at] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _number(content: bytes, target: Target, seeds: list[bytes], rng: np.random.Generator) -> bytes:
    form = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")[rng.integers(7)]
    width = struct.calcsize(form)
    value = _NUMBERS[rng.integers(len(_NUMBERS))] % (1 << 8 * width)
    if rng.random() < 0.2:
        value = (1 << 8 * width) - 1 - value
    at = _place(content, rng, width)
    return content[:at] + struct.pack(form, value) + content[at + width :]


def _digits(content: bytes, target: Target, seeds: list[bytes], rng: np.random.Generator) -> bytes:
    found = list(re.finditer(rb"\d+", content))
    if not found:
        return content
    match = found[rng.integers(len(found))]
    said = (b"-1", b"0", b"1000000", b"99999999999", b"1e999", b"0.5", b"true", b'"x"', b"[1]")[rng.integers(9)]
    return content[: match.start()] + said + content[match.end() :]


def _word(content: bytes, target: Target, seeds: list[bytes], rng: np.random.Generator) -> bytes:
    if not target.words:
        return _number(content, target, seeds, rng)
    word = target.words[rng.integers(len(target.words))]
    at = _place(content, rng)
    over = len(word) if rng.random() < 0.5 else 0
    return content[:at] + word + content[at + over :]


def _cut(content: bytes, target: Target, seeds: list[bytes], rng: np.random.Generator) -> bytes:
    begin = _place(content, rng)
    return content[:begin] + content[begin + int(rng.integers(1, 65)) :]


def _truncate(content: bytes, target: Target, seeds: list[bytes], rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content) + 1))]


def _repeat(content: bytes, target: Target, seeds: list[bytes], rng: np.random.Generator) -> bytes:
    begin = _place(content, rng)
    piece = content[begin : begin + int(rng.integers(1, 129))]
    return content[:begin] + piece * int(rng.integers(2, 20)) + content[begin:]


def _splice(content: bytes, target: Target, seeds: list[bytes], rng: np.random.Generator) -> bytes:
    other = seeds[rng.integers(len(seeds))]
    begin, at = _place(other, rng), _place(content, rng)
    piece = other[begin : begin + int(rng.integers(1, 257))]
    return content[:at] + piece + content[at + len(piece) * int(rng.integers(2)) :]


_WAYS = (_flip, _flip, _number, _number, _digits, _word, _word, _cut, _truncate, _repeat, _splice)


def _png_mended(content: bytes) -> bytes:
    """With the checksum of every chunk right again."""
    if not content.startswith(b"\x89PNG"):
        return content
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        body = content[at + 4 : at + 8 + size]
        parts += [content[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at += 12 + size
    return b"".join([*parts, content[at:]])


def _tar_mended(content: bytes) -> bytes:
    """With the checksum of what may be headers right again."""
    data = bytearray(content)
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


def _with_changed_member(content: bytes, change: Callable[[bytes], bytes], rng: np.random.Generator) -> bytes:
    """A zip archive of which one member is changed, and the rest is whole."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = archive.infolist()
        if sum(info.file_size for info in infos) > 4 * _LARGEST:
            raise ValueError("unpacks to too much")
        members = [(info, archive.read(info)) for info in infos]
    at = int(rng.integers(len(members)))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number, (info, data) in enumerate(members):
            archive.writestr(info, change(data) if number == at else data, compress_type=info.compress_type)
    return stream.getvalue()
