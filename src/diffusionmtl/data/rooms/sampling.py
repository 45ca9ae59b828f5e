"""Which rays are cast, which solids each of them may meet, and how neighbouring samples help each other."""

import numpy as np
from jaxtyping import Float32, Int

from diffusionmtl.data.rooms.camera import Camera
from diffusionmtl.data.rooms.geometry import Solids, corners
from diffusionmtl.data.rooms.scene import SHELL

_NEAR = 0.02


def pairs_in_view(
    solids: Solids, camera: Camera, size: tuple[int, int], top: int, bottom: int
) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """Pairs (solid, ray), sorted by solid, for the pixels of rows top to bottom that lie in a solid's projected bounds.

    Rays count from the first pixel of row `top`.
    """
    right, up, forward = np.tensordot(
        camera.axes.astype(np.float32), corners(solids) - camera.position[:, None, None], axes=1
    )
    focal = camera.focal_pixels(size)
    behind = (forward < _NEAR).any(axis=0)
    x = size[1] / 2 + focal * right / np.maximum(forward, _NEAR)
    y = size[0] / 2 - focal * up / np.maximum(forward, _NEAR)
    # A solid that reaches behind the camera has no finite projection: try it everywhere, unless all of it is behind.
    left, end = (np.where(behind, whole, edge) for whole, edge in ((0, x.min(axis=0)), (size[1], x.max(axis=0))))
    high, low = (np.where(behind, whole, edge) for whole, edge in ((0, y.min(axis=0)), (size[0], y.max(axis=0))))
    left, end = (np.clip(edge, 0, size[1]).astype(np.int64) for edge in (left - 0.5, end + 1.5))
    high, low = (np.clip(edge, top, bottom).astype(np.int64) for edge in (high - 0.5, low + 1.5))
    wide = end - left
    count = np.where((forward < _NEAR).all(axis=0), 0, wide * (low - high))
    solid = np.repeat(np.arange(len(solids)), count)
    step = np.arange(len(solid)) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(step, wide.take(solid))
    return solid, (row + (high - top).take(solid)) * size[1] + column + left.take(solid)


def corner_rays(
    camera: Camera, size: tuple[int, int], index: Int[np.ndarray, " n"]
) -> tuple[Float32[np.ndarray, "3 4*n"], Int[np.ndarray, "4 4*n"]]:
    """Four rays for each pixel, and for each ray the four pixels whose centres surround it, its own first."""
    row, column = np.divmod(np.tile(index, 4), size[1])
    down, along = (np.repeat(np.array(side), len(index)) for side in ((-1, -1, 1, 1), (-1, 1, -1, 1)))
    direction = camera.directions(size, row + 0.5 + 0.25 * down, column + 0.5 + 0.25 * along)
    beside, below = np.clip(column + along, 0, size[1] - 1), np.clip(row + down, 0, size[0] - 1)
    pixels = [row * size[1] + column, row * size[1] + beside, below * size[1] + column, below * size[1] + beside]
    return direction, np.stack(pixels)


def pairs_among(seen: Int[np.ndarray, "4 r"]) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """Pairs (solid, ray), sorted by solid, of each ray with the surfaces that its neighbours see."""
    new = seen >= SHELL
    for i in range(1, 4):
        for j in range(i):
            new[i] &= seen[i] != seen[j]
    solid, ray = seen[new] - SHELL, np.nonzero(new)[1]
    order = np.argsort(solid, kind="stable")
    return solid[order], ray[order]


def soften(
    visible: Float32[np.ndarray, "l r"], surface: Int[np.ndarray, " r"], size: tuple[int, int]
) -> Float32[np.ndarray, "l r"]:
    """Means over two-by-two pixels of one surface, which turns four questions to a light into a half shadow."""
    shares, same = visible.reshape(-1, *size), surface.reshape(size)
    total, count = shares.copy(), np.ones(size, np.float32)
    for down, along in ((0, 1), (1, 0), (1, 1)):
        here = (slice(None, size[0] - down), slice(None, size[1] - along))
        there = (slice(down, None), slice(along, None))
        alike = (same[here] == same[there]).astype(np.float32)
        total[:, here[0], here[1]] += alike * shares[:, there[0], there[1]]
        count[here] += alike
    return (total / count).reshape(visible.shape)
