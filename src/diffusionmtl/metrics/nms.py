"""Non-maximum suppression of boundary maps, as in the structured edge detector (Dollár and Zitnick, 2015)."""

import numpy as np
from jaxtyping import Float, Float32, Int
from scipy.ndimage import correlate1d

_TRIANGLE_RADIUS = 4
_BORDER = 5
_MULTIPLIER = np.float32(1.01)
# The published code samples no nearer than this to the last row and column.
_SAMPLING_MARGIN = 1.001


def suppress_non_maxima(probability: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Keep a pixel where 1.01 times its value reaches both neighbours one pixel away across the boundary.

    Pixels closer than five to the image border are then scaled down, the outermost ring to 0. Maps with a side of one
    pixel come out as they are but for that.
    """
    if min(probability.shape) < 2:
        return probability * _border_ramp(probability.shape)
    rows, columns = np.nonzero(probability)
    along_x, along_y = _normal_direction(probability, rows, columns)
    value = _MULTIPLIER * probability[rows, columns]
    kept = np.ones(len(rows), dtype=bool)
    for side in (-1, 1):
        kept &= value >= _bilinear(probability, rows + side * along_y, columns + side * along_x)
    out = np.zeros_like(probability)
    out[rows[kept], columns[kept]] = probability[rows[kept], columns[kept]]
    return out * _border_ramp(probability.shape)


def _normal_direction(
    probability: Float32[np.ndarray, "h w"], rows: Int[np.ndarray, "p"], columns: Int[np.ndarray, "p"]
) -> tuple[Float32[np.ndarray, "p"], Float32[np.ndarray, "p"]]:
    """Unit vector (x, y) across the boundary at each pixel, from second derivatives of the smoothed map.

    Its sign is arbitrary.
    """
    ramp = np.arange(1, _TRIANGLE_RADIUS + 1)
    triangle = np.concatenate([ramp, [_TRIANGLE_RADIUS + 1], ramp[::-1]]).astype(np.float32)
    triangle /= triangle.sum()
    smooth = correlate1d(correlate1d(probability, triangle, axis=0, mode="reflect"), triangle, axis=1, mode="reflect")
    d_y, d_x = np.gradient(smooth)
    d_yx, d_xx = np.gradient(d_x)
    d_yy = np.gradient(d_y, axis=0)
    # atan(y / x) of the published code without the angle: only the direction is needed.
    x = d_xx[rows, columns] + np.float32(1e-5)
    y = d_yy[rows, columns] * np.sign(-d_yx[rows, columns])
    length = np.maximum(np.hypot(x, y), np.finfo(np.float32).tiny)
    return x / length, y / length


def _bilinear(
    image: Float32[np.ndarray, "h w"], rows: Float[np.ndarray, "p"], columns: Float[np.ndarray, "p"]
) -> Float32[np.ndarray, "p"]:
    rows = np.clip(rows, 0, image.shape[0] - _SAMPLING_MARGIN)
    columns = np.clip(columns, 0, image.shape[1] - _SAMPLING_MARGIN)
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    down, right = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    corner = top * image.shape[1] + left
    flat = image.ravel()
    above = flat[corner] * (1 - right) + flat[corner + 1] * right
    below = flat[corner + image.shape[1]] * (1 - right) + flat[corner + image.shape[1] + 1] * right
    return above * (1 - down) + below * down


def _border_ramp(shape: tuple[int, ...]) -> Float32[np.ndarray, "h w"]:
    ramps = []
    for size in shape:
        band = min(_BORDER, size // 2)
        ramp = np.ones(size, dtype=np.float32)
        # An odd side shorter than two bands has its middle pixel in both, hence the product.
        ramp[:band] *= np.arange(band, dtype=np.float32) / max(band, 1)
        ramp[size - band :] *= np.arange(band, dtype=np.float32)[::-1] / max(band, 1)
        ramps.append(ramp)
    return ramps[0][:, None] * ramps[1]
