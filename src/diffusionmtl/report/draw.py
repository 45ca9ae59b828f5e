"""Pictures for pages: the right size for a screen, few bytes, no file beside the page."""

import base64
import io

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from diffusionmtl import colour

PANEL_WIDTH = 256
LARGEST = 384
_PALETTE = 256
_LOSSY_PIXELS = 60_000
_QUALITY = 88


def enlarged(pixels: UInt8[np.ndarray, "h w 3"], width: int = PANEL_WIDTH) -> UInt8[np.ndarray, "H W 3"]:
    """A picture repeated pixel by pixel, by the largest whole factor that keeps it within `width`; never shrunk."""
    factor = max(1, width // pixels.shape[1])
    return np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1)


def shrunk(
    pixels: UInt8[np.ndarray, "h w 3"], largest: int = LARGEST, smooth: bool = False
) -> UInt8[np.ndarray, "H W 3"]:
    """A picture whose longer side is at most `largest`: every n-th pixel, or averages if `smooth` (photographs)."""
    height, width = pixels.shape[:2]
    if max(height, width) <= largest:
        return pixels
    scale = largest / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = Image.Resampling.BOX if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, method))


def heat(values: Float[np.ndarray, "h w"], top: float) -> UInt8[np.ndarray, "h w 3"]:
    """A heat map from 0 (dark) to `top` (bright) in at most 256 colours, so that it packs well."""
    share = np.clip(np.nan_to_num(values, nan=0.0) / max(top, 1e-12), 0.0, 1.0)
    return colour.ramp(np.rint(share * (_PALETTE - 1)), 0.0, float(_PALETTE - 1), "heat")


def photo_uri(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """A photograph as the text of a `data:` address: shrunk if large, JPEG."""
    stream = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(shrunk(pixels, smooth=True)))
    picture.save(stream, format="JPEG", quality=_QUALITY, optimize=True, progressive=True)
    return _uri("jpeg", stream.getvalue())


def panel_uri(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """A drawn label or prediction as the text of a `data:` address: sharp pixels, PNG where that is small."""
    picture = Image.fromarray(np.ascontiguousarray(enlarged(shrunk(pixels))))
    stream = io.BytesIO()
    colours = picture.getcolors(_PALETTE)
    if colours is None and pixels.shape[0] * pixels.shape[1] > _LOSSY_PIXELS:
        picture.save(stream, format="JPEG", quality=_QUALITY, subsampling=0, optimize=True)
        return _uri("jpeg", stream.getvalue())
    if colours is not None:
        picture = picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=len(colours))
    # `optimize` would save a twentieth of the bytes for ten times the time.
    picture.save(stream, format="PNG")
    return _uri("png", stream.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
