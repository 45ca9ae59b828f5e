"""What the first bytes of a picture say that Pillow does not tell, or tells too late."""

import os
from pathlib import Path

from PIL import Image

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
