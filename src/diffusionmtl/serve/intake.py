"""Images that strangers send: what is no image, or too large a one, is refused before it is decoded."""

import re
import warnings
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from diffusionmtl.errors import UserError
from diffusionmtl.files import read_image
from diffusionmtl.headers import webp_size
from diffusionmtl.serve.limits import Limits, Refused

_NAME_LENGTH = 60
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")


def safe_stem(name: str | None) -> str:
    """A file name from outside as the stem of one of ours: letters, digits, `_`, `-` and `.`; never empty."""
    stem = PurePosixPath((name or "").replace("\\", "/")).stem
    return re.sub(r"[^\w.-]+", "-", stem).strip(".-")[:_NAME_LENGTH] or "image"


def shown_name(name: str | None) -> str:
    """A file name from outside as it may stand in a message: one short line."""
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in last if c.isprintable())[:_NAME_LENGTH] or "the image"


def check_header(path: Path, name: str | None, limits: Limits) -> None:
    """Look at the first bytes of a file only.

    Raises:
        Refused: 415 for what is no image, 413 for one of too many pixels.
    """
    shown = shown_name(name)
    try:
        if (claimed := webp_size(path)) is not None and claimed[0] * claimed[1] > limits.pixels:
            raise Image.DecompressionBombError
        # Pillow warns, then throws, at limits of its own; ours is compared with what the header says.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as picture:
                width, height = picture.size
    except Image.DecompressionBombError:
        raise Refused(413, f"{shown}: more than {limits.pixels:,} pixels; send a smaller image") from None
    except Exception:  # Pillow's parsers throw whatever they meet
        raise Refused(415, f"{shown}: not a readable image; send a JPEG, PNG, WebP or TIFF file") from None
    if width * height > limits.pixels:
        raise Refused(
            413,
            f"{shown}: {height}x{width} pixels (height x width), the limit is {limits.pixels:,} pixels; send a smaller "
            "image",
        )


def read_sent(path: Path, name: str | None, limits: Limits) -> UInt8[np.ndarray, "h w 3"]:
    """Decode what `check_header` let pass, upright.

    Raises:
        Refused: as `check_header`; also 415 for a damaged file.
    """
    check_header(path, name, limits)
    try:
        return read_image(path, limits.pixels)
    except UserError as error:
        said = str(error).replace(str(path), shown_name(name))
        raise Refused(415, said.replace("replace or remove it", "send another file")) from None
