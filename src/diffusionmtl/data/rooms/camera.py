"""The pinhole camera, and what a real one does to a picture: exposure, white balance, vignette, blur, noise."""

import functools
import math
import random
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8


@dataclass(frozen=True)
class Camera:
    """`axes` rows are right, up and forward in the world; `focal` is in units of half the longer image side."""

    position: Float[np.ndarray, " 3"]
    axes: Float[np.ndarray, "3 3"]
    focal: float

    def focal_pixels(self, size: tuple[int, int]) -> float:
        """Focal length in pixels for an image of `size` (height, width); the principal point is the image's middle."""
        return self.focal * max(size) / 2

    def directions(
        self, size: tuple[int, int], row: Float[np.ndarray, " r"], column: Float[np.ndarray, " r"]
    ) -> Float32[np.ndarray, "3 r"]:
        """World directions through image points (pixel centres lie at + 0.5), one unit long along the optical axis.

        With that length, a ray's distance IS the z-depth.
        """
        focal = self.focal_pixels(size)
        x = ((column - size[1] / 2) / focal).astype(np.float32)
        y = ((size[0] / 2 - row) / focal).astype(np.float32)
        right, up, forward = self.axes.astype(np.float32)
        return np.stack([right[i] * x + up[i] * y + forward[i] for i in range(3)])


@dataclass(frozen=True)
class Photo:
    """How the picture is taken: `exposure` is the wanted mean brightness, `gains` the white balance."""

    exposure: float
    gains: tuple[float, float, float]
    vignette: float
    blur: float
    noise: float
    contrast: float


def look_from(
    position: tuple[float, float, float], target: tuple[float, float, float], roll: float, fov: float
) -> Camera:
    """A camera that looks at a target; `fov` is the angle over the longer image side, in radians."""
    eye = np.array(position)
    forward = np.array(target) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, (0, 0, 1))
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    c, s = math.cos(roll), math.sin(roll)
    return Camera(
        eye.astype(np.float32), np.stack([c * right + s * up, c * up - s * right, forward]), 1 / math.tan(fov / 2)
    )


def draw_photo(rng: random.Random) -> Photo:
    """A plausible way of taking the picture."""
    warm, tint = rng.gauss(0, 0.07), rng.gauss(0, 0.025)
    return Photo(
        exposure=rng.uniform(0.12, 0.28),
        gains=(1 + warm, 1 + tint, 1 - warm),
        vignette=rng.uniform(0, 0.4) if rng.random() < 0.7 else 0.0,
        blur=rng.uniform(0, 0.5) if rng.random() < 0.4 else 0.0,
        noise=rng.uniform(0.003, 0.024),
        contrast=rng.uniform(0.9, 1.25),
    )


def exposure_gain(photo: Photo, radiance: Float32[np.ndarray, "3 r"]) -> float:
    """The gain that gives a picture its wanted brightness; what is far brighter than the rest hardly counts."""
    brightness = (np.array([[0.25, 0.6, 0.15]], np.float32) @ radiance)[0]
    typical = float(np.minimum(brightness, 2 * np.median(brightness)).mean())
    return 1.6 * photo.exposure / max(typical, 1e-4)


def develop(
    photo: Photo, radiance: Float32[np.ndarray, "3 r"], gain: float, off_axis: Float32[np.ndarray, " r"]
) -> Float32[np.ndarray, "3 r"]:
    """Display values in [0, 1] of linear radiance; `off_axis` is the squared distance from the middle (corners: 1)."""
    scale = np.array(photo.gains, np.float32)[:, None] * np.float32(gain)
    light = np.maximum(radiance, 0) * scale * (1 - np.float32(photo.vignette) * off_axis)
    # A soft shoulder keeps bright windows from clipping to flat white.
    shown = (1 - np.exp(-1.25 * light)) ** np.float32(1 / 2.2)
    middle = np.float32(0.5)
    return np.clip(middle + (shown - middle) * np.float32(photo.contrast), 0, 1)


def finish(photo: Photo, shown: Float32[np.ndarray, "h w 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Lens blur (a share of the width, so that it looks alike at any size) and sensor noise, then 8 bits."""
    picture = _blurred(shown, photo.blur * shown.shape[1] / 256) if photo.blur else shown
    grain = rng.standard_normal(picture.shape, np.float32)
    grain += 0.5 * rng.standard_normal(picture.shape[:2], np.float32)[:, :, None]
    picture = picture + np.float32(photo.noise) * (0.5 + 0.5 * np.sqrt(picture)) * grain
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    reach = max(1, math.ceil(2 * sigma))
    weight = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / max(sigma, 0.15)))
    weight = (weight / weight.sum()).astype(np.float32)
    for axis in (0, 1):
        padding = [(0, 0)] * 3
        padding[axis] = (reach, reach)
        padded = np.pad(picture, padding, mode="edge")
        length = picture.shape[axis]
        shifted = (w * padded.take(range(i, i + length), axis=axis) for i, w in enumerate(weight))
        picture = functools.reduce(np.add, shifted)
    return picture
