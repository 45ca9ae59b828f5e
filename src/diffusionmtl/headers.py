"""What the first bytes of a picture say that Pillow does not tell, or tells too late."""

import io
import os
from pathlib import Path

from PIL import Image


class SizedFile(io.BufferedReader):
    """A file that makes room for no more bytes than it has left, however many it is asked for.

    Pillow asks for as many as a chunk of a PNG claims to have, gigabytes for instance.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._path, self._size = path, os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes; all that are left if it is negative."""
        left = max(self._size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))

    def __repr__(self) -> str:
        return repr(str(self._path))


_ALONE = {bytes([marker]) for marker in (0x00, 0x01, *range(0xD0, 0xD9))}
"""Markers of a JPEG that no segment follows."""


def webp_size(path: Path) -> tuple[int, int] | None:
    """Width and height of a WebP from its header, since Pillow makes room for its picture twice to find them out.

    After the WebP container specification of Google and RFC 9649; None of another format.
    """
    with path.open("rb") as stream:
        head = stream.read(30)
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    bits = int.from_bytes(head[21:25] if head[12:16] == b"VP8L" else head[26:30], "little")
    if head[12:16] == b"VP8L":
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return bits & 0x3FFF, bits >> 16 & 0x3FFF


def comes_in_scans(path: Path, picture: Image.Image) -> bool:
    """Whether a JPEG draws its pixels in several scans, so that its decoder keeps all numbers until the last one.

    After ITU-T T.81, annex B: it is progressive, or its first scan lacks some of the colours.
    """
    if picture.info.get("progressive"):
        return True
    with path.open("rb") as stream:
        stream.seek(2)
        while byte := stream.read(1):
            if byte != b"\xff":
                continue
            while byte == b"\xff":
                byte = stream.read(1)
            if byte in _ALONE:
                continue
            length = int.from_bytes(stream.read(2), "big")
            if byte == b"\xda":
                return int.from_bytes(stream.read(1), "big") < len(picture.getbands())
            stream.seek(max(length - 2, 0), os.SEEK_CUR)
    return True
