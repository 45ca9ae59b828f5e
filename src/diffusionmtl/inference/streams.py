"""PNG and `.npy` files written from top to bottom, so that no picture has to be in memory whole.

A file appears under its name once it is complete; until then it is a hidden one beside it.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

_COLOUR_TYPE = {"L": 0, "I;16": 0, "RGB": 2, "P": 3}
_AS_IT_IS, _AS_DIFFERENCE = 0, 1


class _Part:
    """A file that is not there until it is finished."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._stream: BinaryIO = self._temporary.open("wb")

    def finish(self) -> Path:
        """Flush and give the file its name."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._temporary.replace(self.path)
        return self.path

    def discard(self) -> None:
        """Leave nothing behind, unless the file is finished."""
        self._stream.close()
        self._temporary.unlink(missing_ok=True)


class NpyStream(_Part):
    """A `.npy` array of known shape and type, as `numpy.save` writes it."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        super().__init__(path)
        self._dtype = dtype
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._stream, header)

    def add(self, rows: np.ndarray) -> None:
        """The next rows."""
        self._stream.write(np.ascontiguousarray(rows, dtype=self._dtype).tobytes())


class PngStream(_Part):
    """A PNG of known size.

    Args:
        path: of the file.
        size: H, W.
        mode: in Pillow's words L, P, RGB or I;16.
        palette: RGB bytes of mode P.
    """

    def __init__(self, path: Path, size: tuple[int, int], mode: str, palette: bytes = b"") -> None:
        super().__init__(path)
        self._mode = mode
        self._packer = zlib.compressobj(6)
        self._stream.write(b"\x89PNG\r\n\x1a\n")
        depth = 16 if mode == "I;16" else 8
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], depth, _COLOUR_TYPE[mode], 0, 0, 0))
        if mode == "P":
            self._chunk(b"PLTE", palette)

    def add(self, rows: np.ndarray) -> None:
        """The next rows [n W] or [n W 3]."""
        flat = np.ascontiguousarray(rows, dtype=">u2" if self._mode == "I;16" else np.uint8)
        flat = flat.reshape(len(rows), -1).view(np.uint8)
        lines = np.empty((len(rows), 1 + flat.shape[1]), dtype=np.uint8)
        lines[:, 0], lines[:, 1:] = _AS_IT_IS, flat
        if self._mode != "P":
            # Neighbours differ little, so their differences pack better; indices are no quantities.
            step = {"L": 1, "I;16": 2, "RGB": 3}[self._mode]
            lines[:, 0] = _AS_DIFFERENCE
            lines[:, 1 + step :] -= flat[:, :-step]
        self._chunk(b"IDAT", self._packer.compress(lines.tobytes()))

    def finish(self) -> Path:
        """Write the end, and give the file its name."""
        self._chunk(b"IDAT", self._packer.flush())
        self._chunk(b"IEND", b"")
        return super().finish()

    def _chunk(self, kind: bytes, data: bytes) -> None:
        if data or kind == b"IEND":
            self._stream.write(struct.pack(">I", len(data)) + kind + data)
            self._stream.write(struct.pack(">I", zlib.crc32(kind + data)))
