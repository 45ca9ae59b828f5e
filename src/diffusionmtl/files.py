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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from diffusionmtl.errors import UserError, in_one_line, nearest
from diffusionmtl.headers import SizedFile, comes_in_scans, webp_size

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
MAX_PIXELS = 120_000_000
"""So many that reading a picture, however small its file, takes less than a gigabyte."""
MAX_JSON_BYTES = 100_000_000
_BYTES_PER_PIXEL = 8
_HEADER_BYTES = 1 << 20
_BAND = 1 << 20
_LABELS, _IN_SCANS, _WEBP = 2, 2, 3
"""How many times as much memory they take as other pictures do."""
_SCANS = 100
_SIDEWAYS = (5, 6, 7, 8)
_WIDE_GREY = ("I;16", "I;16B", "I;16L", "I", "F")
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
        UserError: the file is missing, not an image, truncated, or has more than `max_pixels` pixels; beyond 60 million
            half of that in a JPEG of several scans, as progressive ones are, beyond 40 million a third in a WebP.
    """
    with _opened(path, max_pixels) as picture:
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
        return rgb_pixels(picture)


def rgb_pixels(picture: Image.Image) -> np.ndarray:
    """A Pillow picture as uint8 RGB [H W 3]; 16-bit grey is scaled, where Pillow's own conversion would clip it."""
    if picture.mode not in _WIDE_GREY:
        return _in_bands(picture, lambda band: np.asarray(band if band.mode == "RGB" else band.convert("RGB")))
    wide = picture.mode not in ("I", "F") or picture.getextrema()[1] > 255  # pyright: ignore[reportOperatorIssue]

    def grey(band: Image.Image) -> np.ndarray:
        numbers = np.asarray(band).astype(np.float32) / (257.0 if wide else 1.0)
        return np.repeat(np.clip(np.rint(numbers), 0, 255).astype(np.uint8)[..., None], 3, axis=2)

    return _in_bands(picture, grey)


def _in_bands(picture: Image.Image, read: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """What `read` makes of a loaded picture, of a piece at a time: Pillow copies what it hands over three times."""
    width, height = picture.size
    if width * height <= _BAND:
        return read(picture)
    across = min(width, _BAND)
    down = _BAND // across
    first = read(picture.crop((0, 0, 1, 1)))
    pixels = np.empty((height, width, *first.shape[2:]), first.dtype)
    for top in range(0, height, down):
        for left in range(0, width, across):
            box = (left, top, min(left + across, width), min(top + down, height))
            pixels[top : box[3], left : box[2]] = read(picture.crop(box))
    return pixels


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
        UserError: as `read_image`, but with half the limit beyond 60 million pixels, for labels become larger numbers;
            also for a lossy JPEG, which cannot hold class indices.
    """
    with _opened(path, max_pixels, _LABELS) as picture:
        if picture.format in ("JPEG", "MPO"):
            raise UserError(f"{path}: a JPEG cannot hold labels, its numbers are approximate; save it as PNG")
        picture.load()
        plain = {"1": "L", "LA": "L", "RGBA": "RGB", "PA": "P"}.get(picture.mode, picture.mode)
        return _in_bands(picture, lambda band: _native(np.asarray(band if plain == band.mode else band.convert(plain))))


def read_array(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a `.npy` array of plain numbers without unpickling anything.

    Raises:
        UserError: the file is missing, damaged, holds Python objects, or claims more data than the file has or the
            limit allows, eight bytes a pixel.
    """
    with _array_opened(path, max_pixels) as stream:
        return _native(np.load(stream, allow_pickle=False))


def read_numbers(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """A label, or an answer in the form of one: `read_array` of a `.npy`, `read_label_picture` of anything else."""
    return (read_array if path.suffix.lower() == ".npy" else read_label_picture)(path, max_pixels)


@contextmanager
def _array_opened(path: Path, max_pixels: int) -> Iterator[BinaryIO]:
    """An array of which only the header has been read; what the decoder throws in the body becomes a UserError too."""
    limit = max_pixels * _BYTES_PER_PIXEL
    check_plain(path)
    try:
        with path.open("rb") as stream:
            # A header may claim to be gigabytes long, and a file makes room for as much as it is asked for.
            beginning = io.BytesIO(stream.read(_HEADER_BYTES))
            shape, dtype = _array_header(beginning)
            size = math.prod(shape) * dtype.itemsize
            left = os.fstat(stream.fileno()).st_size - beginning.tell()
            if dtype.hasobject or dtype.kind not in "biuf":
                raise UserError(f"{path}: holds {dtype}, not plain numbers; save it with a numeric dtype")
            if size == 0:
                raise UserError(f"{path}: holds no numbers (shape {shape}); replace or remove it")
            if size > limit:
                raise UserError(
                    f"{path}: {shape} of {dtype} is larger than {limit:,} bytes, {_BYTES_PER_PIXEL} for each of "
                    f"{max_pixels:,} pixels; raise --max-pixels"
                )
            if size > left:
                raise UserError(f"{path}: truncated, its header promises {size:,} bytes and {left:,} are there")
            stream.seek(0)
            yield stream
    except UserError:
        raise
    except Exception as error:  # a header is Python text, and its reader throws whatever the parser threw
        raise UserError(f"{path}: not a readable .npy array ({in_one_line(error)})") from error


def promised_bytes(head: bytes) -> int:
    """How many bytes of numbers an array file promises, from its first bytes; throws whatever its parser throws."""
    shape, dtype = _array_header(io.BytesIO(head))
    return math.prod(shape) * dtype.itemsize


def _array_header(stream: io.BytesIO) -> tuple[tuple[int, ...], np.dtype]:
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
def _opened(path: Path, max_pixels: int, dearer: int = 1) -> Iterator[Image.Image]:
    """A picture of which only the header has been read; what Pillow throws in the body becomes a UserError too.

    Args:
        dearer: how many times as much memory as a photograph it will take.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder, an image file was expected")
    # WebP and some others are read whole before their size is known.
    if check_plain(path) > max_pixels * _BYTES_PER_PIXEL + _HEADER_BYTES:
        raise UserError(f"{path}: larger than an image of {max_pixels:,} pixels can be; raise --max-pixels")
    try:
        if (claimed := webp_size(path)) is not None:
            dearer *= _WEBP
            _check_size(path, claimed, max_pixels, dearer)
        with SizedFile(path) as stream, _open_header(stream) as picture:
            in_scans = picture.format in ("JPEG", "MPO") and comes_in_scans(path, picture)
            _check_size(path, picture.size, max_pixels, dearer * _IN_SCANS if in_scans else dearer)
            if in_scans:
                _check_scans(path)
            yield picture
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders throw whatever their parser threw
        raise UserError(f"{path}: not a readable image ({in_one_line(error)}); replace or remove it") from error


def _check_size(path: Path, size: tuple[int, int], max_pixels: int, dearer: int) -> None:
    width, height = size
    # Somebody who asks for few pixels gets these of any picture: they take little memory anyway.
    limit = max(max_pixels // dearer, min(max_pixels, MAX_PIXELS // dearer))
    if width * height > limit:
        why = ", lower than --max-pixels as it takes more memory than others" if limit < max_pixels else ""
        raise UserError(
            f"{path}: {height}x{width} pixels (height x width) is more than the limit of {limit:,}{why}; "
            "resize it or raise --max-pixels"
        )


def _check_scans(path: Path) -> None:
    """Such a JPEG may draw all of its pixels again with every few bytes; honest ones do so a dozen times."""
    if path.read_bytes().count(b"\xff\xda") > _SCANS:
        raise UserError(f"{path}: a JPEG of more than {_SCANS} scans, made to keep readers busy; save it anew")


def _open_header(stream: SizedFile) -> Image.Image:
    # Pillow refuses by a limit of its own, which is global and lower than what a caller of ours may ask for.
    with _pillow_limit, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(stream, formats=("JPEG", "PNG", "WEBP", "TIFF"))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _native(array: np.ndarray) -> np.ndarray:
    """The same numbers in this machine's byte order, which torch needs and comparisons of dtypes expect."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)
