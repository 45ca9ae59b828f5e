"""Reading pictures and arrays from files that nobody vouches for.

Every reader refuses what is too large before it decodes it, never runs code from a file, and turns whatever the decoder
throws into one line that names the file.
"""

import io
import math
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from diffusionmtl.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
MAX_PIXELS = 150_000_000
_ARRAY_BYTES_PER_PIXEL = 32
_SIDEWAYS = (5, 6, 7, 8)
_pillow_limit = threading.Lock()


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
    return np.asarray(picture.convert("RGB"))


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


def read_array(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a `.npy` array of plain numbers without unpickling anything.

    Raises:
        UserError: the file is missing, damaged, holds Python objects, or claims more data than the file has or the
            limit allows.
    """
    limit = max_pixels * _ARRAY_BYTES_PER_PIXEL
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
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
            return _native(np.load(stream, allow_pickle=False))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        raise UserError(f"{path}: not a readable .npy array ({_one_line(error)})") from error


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
    try:
        with _open_header(path) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise UserError(
                    f"{path}: {width}x{height} pixels is more than the limit of {max_pixels:,}; "
                    "resize it or raise --max-pixels"
                )
            yield picture
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, an image file was expected") from None
    except Exception as error:  # Pillow's decoders throw whatever their parser threw
        raise UserError(f"{path}: not a readable image ({_one_line(error)}); replace or remove it") from error


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


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:160]
