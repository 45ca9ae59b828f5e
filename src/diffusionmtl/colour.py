"""Colours for values: palettes for classes, ramps for numbers."""

import colorsys

import numpy as np

GREY = np.array([128, 128, 128], dtype=np.uint8)

_RAMPS = {
    # Anchor colours from dark to bright, interpolated linearly; lightness rises monotonically, so that the picture
    # still reads in greyscale.
    "depth": ["#13052e", "#3b1265", "#6b1f7b", "#a02f76", "#d4486a", "#f4735a", "#fdaa6b", "#fde29a", "#fffbe0"],
    "heat": ["#000004", "#2a0a4a", "#6a176e", "#a52c60", "#dd513a", "#fb9b06", "#f6e659", "#fcffa4"],
    "grey": ["#000000", "#ffffff"],
}


def palette(classes: int) -> np.ndarray:
    """`classes` colours that differ well from their neighbours, uint8 [classes 3]; the same every time."""
    colours = []
    for i in range(classes):
        hue = (0.58 + i * 0.61803398875) % 1.0
        saturation = (0.55, 0.75, 0.40)[i % 3]
        brightness = (0.92, 0.70, 0.84, 0.55)[i % 4]
        colours.append([round(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, brightness)])
    return np.array(colours, dtype=np.uint8).reshape(classes, 3)


def ramp(values: np.ndarray, low: float, high: float, name: str = "depth") -> np.ndarray:
    """Colour numbers [H W] from `low` (dark) to `high` (bright); uint8 [H W 3]. Names: depth, heat, grey."""
    anchors = np.array([[int(h[i : i + 2], 16) for i in (1, 3, 5)] for h in _RAMPS[name]], dtype=np.float64)
    span = max(high - low, 1e-12)
    position = np.clip((np.nan_to_num(values.astype(np.float64), nan=low) - low) / span, 0.0, 1.0)
    knots = np.linspace(0.0, 1.0, len(anchors))
    channels = [np.interp(position, knots, anchors[:, c]) for c in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
