"""Reading pictures and arrays from files that nobody vouches for.

Every reader refuses what is too large before it decodes it, never runs code from a file, and turns whatever the decoder
throws into one line that names the file.
"""

import io
import json
import math
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from diffusionmtl.errors import UserError, in_one_line, nearest

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
MAX_PIXELS = 150_000_000
MAX_JSON_BYTES = 100_000_000
_ARRAY_BYTES_PER_PIXEL = 32
_HEADER_BYTES = 1 << 20
_SIDEWAYS = (5, 6, 7, 8)
_pillow_limit = threading.Lock()


def nearest_beside(path: Path) -> str:
    """As `errors.nearest`, of what lies in the folder in which `path` does not."""
    try:
        return nearest(path.name, os.listdir(path.absolute().parent))
    except OSError:
        return ""


def check_plain(path: Path) -> int:
    """The size in bytes of an ordinary file, or of the one that a link leads to.

    Raises:
        UserError: there is none, it may not be read, or it is a folder, a pipe or a device: reading these may never
            end.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.{nearest_beside(path)}".removesuffix(".")) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({in_one_line(error)})") from None
    if stat.S_ISDIR(found.st_mode):
        raise UserError(f"{path}: is a folder, a file was expected")
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path}: is a pipe or a device, no ordinary file; copy what is in it to a file")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: permission denied; make it readable, with chmod u+r for instance")
    return found.st_size


def read_bytes(path: Path, limit: int, what: str) -> bytes:
    """The bytes of an ordinary file of at most `limit` bytes; `what` says in errors what it surely is not.

    Raises:
        UserError: as `check_plain`, larger, or it cannot be read.
    """
    if check_plain(path) > limit:
        raise UserError(f"{path}: larger than {limit:,} bytes, surely not {what}")
    try:
        with path.open("rb") as stream:
            return stream.read(limit)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> Any:
    """Plain data from a JSON file; what cannot be read as such is a ValueError, for callers have words of their own.

    Raises:
        UserError: missing, no ordinary file, or larger than `limit` bytes.
        ValueError: not JSON in UTF-8, or nested too deeply.
    """
    try:
        return json.loads(read_bytes(path, limit, "what it should be").decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a photograph as uint8 RGB [H W 3], upright (EXIF orientation applied).

    Grey, RGBA (over black is not assumed: alpha is dropped), palette and 16-bit pictures are converted.

    Raises:
        UserError: the file is missing, not an image, truncated, or has more than `max_pixels` pixels.
    """
    with _opened(path, max_pixels) as picture:
        picture.load()
        return rgb_pixels(ImageOps.exif_transpose(picture))


def rgb_pixels(picture: Image.Image) -> np.ndarray:
    """A Pillow picture as uint8 RGB [H W 3]; 16-bit grey is scaled, where Pillow's own conversion would clip it."""
    if picture.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        return np.repeat(_wide_grey_to_uint8(_native(np.asarray(picture)))[..., None], 3, axis=2)
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


def image_size(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """H, W that `read_image` would give, from the header where the format allows it.

    Raises:
        UserError: as `read_image`, as far as the header tells.
    """
    with _opened(path, max_pixels) as picture:
        if picture.format == "TIFF":  # Pillow turns it itself, some versions when opening and some when loading
            picture.load()
        width, height = picture.size
        turned = picture.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
        return (width, height) if turned else (height, width)


def read_label_picture(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a label picture without touching its numbers: palette indices stay indices, 16 bits stay 16 bits.

    Returns:
        [H W] or [H W 3]; uint8, uint16 or int32. A two-colour PNG gives 0 and 255.

    Raises:
        UserError: as `read_image`; also for a lossy JPEG, which cannot hold class indices.
    """
    with _opened(path, max_pixels) as picture:
        if picture.format in ("JPEG", "MPO"):
            raise UserError(f"{path}: a JPEG cannot hold labels, its numbers are approximate; save it as PNG")
        picture.load()
        plain = {"1": "L", "LA": "L", "RGBA": "RGB", "PA": "P"}.get(picture.mode, picture.mode)
        return _native(np.asarray(picture if plain == picture.mode else picture.convert(plain)))


def check_pixels(path: Path, max_pixels: int) -> None:
    """See that what a picture or a `.npy` claims to hold is within the limit, from its header; others are let through.

    Raises:
        UserError: it is not, or the header cannot be read.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        with _opened(path, max_pixels):
            return
    if path.suffix.lower() == ".npy":
        with _array_opened(path, max_pixels):
            return


def read_array(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a `.npy` array of plain numbers without unpickling anything.

    Raises:
        UserError: the file is missing, damaged, holds Python objects, or claims more data than the file has or the
            limit allows.
    """
    with _array_opened(path, max_pixels) as stream:
        return _native(np.load(stream, allow_pickle=False))


@contextmanager
def _array_opened(path: Path, max_pixels: int) -> Iterator[BinaryIO]:
    """An array of which only the header has been read; what the decoder throws in the body becomes a UserError too."""
    limit = max_pixels * _ARRAY_BYTES_PER_PIXEL
    check_plain(path)
    try:
        with path.open("rb") as stream:
            shape, dtype = _array_header(stream)
            size = math.prod(shape) * dtype.itemsize
            left = os.fstat(stream.fileno()).st_size - stream.tell()
            if dtype.hasobject or dtype.kind not in "biuf":
                raise UserError(f"{path}: holds {dtype}, not plain numbers; save it with a numeric dtype")
            if size == 0:
                raise UserError(f"{path}: holds no numbers (shape {shape}); replace or remove it")
            if size > limit:
                raise UserError(f"{path}: {shape} is larger than the limit of {max_pixels:,} pixels")
            if size > left:
                raise UserError(f"{path}: truncated, its header promises {size:,} bytes and {left:,} are there")
            stream.seek(0)
            yield stream
    except UserError:
        raise
    except Exception as error:  # a header is Python text, and its reader throws whatever the parser threw
        raise UserError(f"{path}: not a readable .npy array ({in_one_line(error)})") from error


def _array_header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if any(side < 0 for side in shape):
        raise ValueError(f"a side of negative length in shape {shape}")
    return shape, dtype


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Write a file so that its name never shows half of it: a new file beside it, flushed, then renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_array(path: Path, array: np.ndarray) -> Path:
    """Write a `.npy` file atomically and return its path."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    write_bytes_atomically(path, stream.getvalue())
    return path


def write_picture(path: Path, pixels: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Write uint8 [H W], uint8 [H W 3] or uint16 [H W] as PNG, atomically; `palette` [n 3] makes it a palette PNG."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if palette is not None:
        picture = picture.convert("L") if picture.mode != "L" else picture
        picture.putpalette(palette.astype(np.uint8).tobytes())
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    write_bytes_atomically(path, stream.getvalue())


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """A picture of which only the header has been read; what Pillow throws in the body becomes a UserError too."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, an image file was expected")
    # WebP and some others are read whole before their size is known.
    if check_plain(path) > max_pixels * _ARRAY_BYTES_PER_PIXEL + _HEADER_BYTES:
        raise UserError(f"{path}: larger than an image of {max_pixels:,} pixels can be; raise --max-pixels")
    try:
        with _open_header(path) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise UserError(
                    f"{path}: {height}x{width} pixels (height x width) is more than the limit of {max_pixels:,}; "
                    "resize it or raise --max-pixels"
                )
            yield picture
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders throw whatever their parser threw
        raise UserError(f"{path}: not a readable image ({in_one_line(error)}); replace or remove it") from error


def _open_header(path: Path) -> Image.Image:
    # Pillow refuses by a limit of its own, which is global and lower than what a caller of ours may ask for.
    with _pillow_limit, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=("JPEG", "PNG", "WEBP", "TIFF"))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _native(array: np.ndarray) -> np.ndarray:
    """The same numbers in this machine's byte order, which torch needs and comparisons of dtypes expect."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _wide_grey_to_uint8(grey: np.ndarray) -> np.ndarray:
    if grey.dtype == np.uint16 or grey.max(initial=0) > 255:
        grey = grey.astype(np.float32) / 257.0
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
