"""What a MATLAB file of format 5 claims to hold, seen before its decoder makes room for it.

The decoder believes every size that a file states, and follows arrays within arrays to any depth. The layout is that of
the format's description (MathWorks, "MAT-File Format", Level 5): elements of a tag and data, arrays made of elements.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

_HEADER, _TAG = 128, 8
_MATRIX, _PACKED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC = range(6, 16)
_NUMBERS = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 12, 13})
_TEXTS = _NUMBERS | {16, 17, 18}
_COMPLEX = 0x08
_DEEPEST = 8


class _Element(NamedTuple):
    kind: int
    data: memoryview
    end: int


def unpacked(content: bytes, limit: int) -> bytes:
    """The file with its compressed parts unpacked, once its layout is known to be sound.

    Args:
        content: of the whole file.
        limit: bytes that the result may have.

    Raises:
        ValueError: no such file; it unpacks to more; or an array claims more than the file holds, is of a kind that
            annotations do not have, or lies too deep within others.
    """
    if len(content) < _HEADER or content[126:128] not in (b"IM", b"MI"):
        raise ValueError("not a MATLAB file of format 5")
    order = "<" if content[126:128] == b"IM" else ">"
    parts = [content[:_HEADER]]
    for element, raw in _top(memoryview(content)[_HEADER:], order):
        part = _inflated(element.data, limit) if element.kind == _PACKED else bytes(raw)
        limit -= len(part)
        if limit < 0:
            raise ValueError("unpacks to too much for an annotation of one image")
        parts.append(part)
    whole = b"".join(parts)
    for element, _ in _top(memoryview(whole)[_HEADER:], order):
        if element.kind == _MATRIX:
            _check_matrix(element.data, order, 0)
    return whole


def _inflated(data: memoryview, limit: int) -> bytes:
    stream = zlib.decompressobj()
    part = stream.decompress(data, limit + 1)
    if len(part) > limit:
        raise ValueError("unpacks to too much for an annotation of one image")
    if not stream.eof:
        raise ValueError("cut off in a compressed part")
    return part


def _top(data: memoryview, order: str) -> Iterator[tuple[_Element, memoryview]]:
    """The elements of a file, and the bytes of each with its tag."""
    at = 0
    while at + _TAG <= len(data):
        element = _element(data, at, order, padded=False)
        yield element, data[at : element.end]
        at = element.end


def _element(data: memoryview, at: int, order: str, padded: bool = True) -> _Element:
    if at + _TAG > len(data):
        raise ValueError("cut off where an element should begin")
    first, size = struct.unpack(f"{order}II", data[at : at + _TAG])
    if first >> 16:  # small data stands within the tag
        kind, size, begin, end = first & 0xFFFF, first >> 16, at + 4, at + _TAG
        if size > 4:
            raise ValueError("a small element of more than 4 bytes")
    else:
        kind, begin = first, at + _TAG
        end = begin + (-(-size // _TAG) * _TAG if padded else size)
    if begin + size > len(data):
        raise ValueError("an element is larger than what it lies in")
    return _Element(kind, data[begin : begin + size], min(end, len(data)))


def _check_matrix(data: memoryview, order: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError("arrays lie too deep within arrays")
    if len(data) == 0:
        return
    parts = _walk(data, order)
    flags, shape, _ = (next(parts, _NOTHING) for _ in range(3))
    if len(flags.data) != 8 or len(shape.data) % 4 or not 8 <= len(shape.data) <= 32:
        raise ValueError("an array whose head is no head")
    (word,) = struct.unpack(f"{order}I", flags.data[:4])
    sides = struct.unpack(f"{order}{len(shape.data) // 4}i", shape.data)
    if min(sides) < 0:
        raise ValueError("an array of negative size")
    _check_content(parts, word & 0xFF, math.prod(sides), bool(word >> 8 & _COMPLEX), order, depth)


def _check_content(parts: Iterator[_Element], kind: int, count: int, is_complex: bool, order: str, depth: int) -> None:
    if kind in _NUMERIC or kind == _CHAR:
        for _ in range(1 + is_complex):
            part = next(parts, _NOTHING)
            # The decoder looks kinds up in a table without asking whether they are in it, and dies of it.
            if part.kind not in (_TEXTS if kind == _CHAR else _NUMBERS):
                raise ValueError(f"an array of numbers of kind {part.kind}, which there is not")
            if count > len(part.data):
                raise ValueError(f"an array claims {count:,} elements and has fewer")
        return
    if kind == _STRUCT:
        length, names = next(parts, _NOTHING).data, next(parts, _NOTHING).data
        width = struct.unpack(f"{order}i", length)[0] if len(length) == 4 else 0
        if width <= 0 or len(names) % width:
            raise ValueError("a struct whose fields have no names")
        count *= len(names) // width
    elif kind != _CELL:
        raise ValueError(f"holds an array of class {kind}, which no annotation has")
    found = 0
    for part in parts:
        if part.kind != _MATRIX:
            raise ValueError("a field that is no array")
        _check_matrix(part.data, order, depth + 1)
        found += 1
    if found < count:
        raise ValueError(f"an array claims {count:,} fields and has {found:,}")


_NOTHING = _Element(0, memoryview(b""), 0)


def _walk(data: memoryview, order: str) -> Iterator[_Element]:
    at = 0
    while at < len(data):
        element = _element(data, at, order)
        yield element
        at = element.end
