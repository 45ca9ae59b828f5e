"""Colours for values: palettes for classes, ramps for numbers."""

from functools import lru_cache

import numpy as np

GREY = np.array([128, 128, 128], dtype=np.uint8)

_RAMPS = {
    # Anchor colours from dark to bright, interpolated linearly; lightness rises monotonically, so that the picture
    # still reads in greyscale.
    "depth": ["#13052e", "#3b1265", "#6b1f7b", "#a02f76", "#d4486a", "#f4735a", "#fdaa6b", "#fde29a", "#fffbe0"],
    "heat": ["#000004", "#2a0a4a", "#6a176e", "#a52c60", "#dd513a", "#fb9b06", "#f6e659", "#fcffa4"],
    "grey": ["#000000", "#ffffff"],
}


@lru_cache(maxsize=64)
def palette(classes: int) -> np.ndarray:
    """`classes` colours as far from each other as they can be, uint8 [classes 3]; the same every time.

    The first colours of a longer palette are those of a shorter one.
    """
    levels = np.arange(20, 256, 21)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    place = _perceived(candidates)
    strength = np.hypot(place[:, 1], place[:, 2])
    # Strong enough not to be taken for the grey of unknown pixels, mild enough to look at for long.
    mild = (strength > 24) & (strength < 58) & (place[:, 0] > 32) & (place[:, 0] < 86)
    candidates, place = candidates[mild], place[mild]
    chosen = [int(np.abs(candidates - [75, 126, 178]).sum(axis=1).argmin())]
    distance = np.full(len(candidates), np.inf)
    while len(chosen) < min(classes, len(candidates)):
        distance = np.minimum(distance, ((place - place[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    colours = candidates[np.resize(chosen, classes)].astype(np.uint8)
    colours.setflags(write=False)
    return colours


def _perceived(rgb: np.ndarray) -> np.ndarray:
    """CIE Lab (D65), in which distances are about as large as they look."""
    linear = np.where(rgb <= 10, rgb / 3294.6, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.array(matrix).T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def ramp(values: np.ndarray, low: float, high: float, name: str = "depth") -> np.ndarray:
    """Colour numbers [H W] from `low` (dark) to `high` (bright); uint8 [H W 3]. Names: depth, heat, grey."""
    anchors = np.array([[int(h[i : i + 2], 16) for i in (1, 3, 5)] for h in _RAMPS[name]], dtype=np.float64)
    span = max(high - low, 1e-12)
    position = np.clip((np.nan_to_num(values.astype(np.float64), nan=low) - low) / span, 0.0, 1.0)
    knots = np.linspace(0.0, 1.0, len(anchors))
    channels = [np.interp(position, knots, anchors[:, c]) for c in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
