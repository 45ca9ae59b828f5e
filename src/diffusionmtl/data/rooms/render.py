"""Draw a furnished room with every dense label, exactly and from a seed alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from diffusionmtl.data.rooms.camera import develop, finish
from diffusionmtl.data.rooms.labels import instance_edges, salient
from diffusionmtl.data.rooms.layout import lay_out
from diffusionmtl.data.rooms.scene import Scene
from diffusionmtl.data.rooms.shading import Hits, radiance, trace

_RAYS_AT_ONCE = 1 << 16
_VISIBLE_STEP = 0.045  # difference in display value between neighbours from which a pixel is supersampled


@dataclass(frozen=True)
class Room:
    """An image and its labels; all arrays share height and width, and the image alone is anti-aliased.

    `semseg` and `human_parts` index `SEMSEG_CLASSES` and `PART_CLASSES`; `depth` is in metres along the optical axis;
    `normals` are unit vectors in the camera's frame (x right, y up, z to the viewer); `edge` marks pixels whose right or
    lower neighbour is another instance; `saliency` is the people if any, else the most prominent free-standing thing.
    """

    image: UInt8[np.ndarray, "h w 3"]
    semseg: UInt8[np.ndarray, "h w"]
    depth: Float32[np.ndarray, "h w"]
    normals: Float32[np.ndarray, "h w 3"]
    edge: Bool[np.ndarray, "h w"]
    saliency: Bool[np.ndarray, "h w"]
    human_parts: UInt8[np.ndarray, "h w"]
    instances: Int32[np.ndarray, "h w"]


def draw_room(seed: int, size: tuple[int, int]) -> Room:
    """The room of a seed at `size` (height, width). The same seed shows the same scene at any size."""
    return render(lay_out(seed), size, np.random.default_rng([seed, *size]))


def draw_rooms(seeds: Sequence[int], size: tuple[int, int]) -> Iterator[Room]:
    """The rooms of the seeds, in order."""
    return (draw_room(seed, size) for seed in seeds)


def render(scene: Scene, size: tuple[int, int], grain: np.random.Generator) -> Room:
    """Image and labels of a scene; `grain` draws the sensor noise."""
    height, width = size
    index = np.arange(height * width)
    pieces = [_sample(scene, size, index[i : i + _RAYS_AT_ONCE]) for i in range(0, len(index), _RAYS_AT_ONCE)]
    surface, depth = (np.concatenate([getattr(hits, name) for hits, _ in pieces]) for name in ("surface", "depth"))
    normal = np.concatenate([hits.normal for hits, _ in pieces], axis=1)
    light = np.concatenate([light for _, light in pieces], axis=1)
    shown = _antialiased(scene, size, light)
    semseg = scene.label[surface].reshape(size)
    instances = scene.instance[surface].reshape(size)
    to_camera = scene.camera.axes.astype(np.float32) * np.array([[1], [1], [-1]], np.float32)
    return Room(
        image=finish(scene.photo, shown.T.reshape(height, width, 3), grain),
        semseg=semseg,
        depth=depth.reshape(size),
        normals=np.ascontiguousarray((to_camera @ normal).T).reshape(height, width, 3),
        edge=instance_edges(instances),
        saliency=salient(semseg, instances, scene.standing),
        human_parts=scene.part[surface].reshape(size),
        instances=instances,
    )


def _sample(
    scene: Scene,
    size: tuple[int, int],
    index: np.ndarray,
    offset: tuple[float, float] = (0.5, 0.5),
    corner: int | None = None,
) -> tuple[Hits, np.ndarray]:
    """Hits and radiance at one point of each of the pixels; neighbouring pixels ask different points of a light."""
    row, column = index // size[1], index % size[1]
    direction = scene.camera.directions(size, row + offset[0], column + offset[1])
    hits = trace(scene, direction)
    sample = (row & 1) * 2 + (column & 1) if corner is None else np.full(len(index), corner)
    return hits, radiance(scene, hits, direction, sample, 1 / scene.camera.focal_pixels(size))


def _antialiased(scene: Scene, size: tuple[int, int], light: np.ndarray) -> np.ndarray:
    """Display values `[3 h*w]`: one sample a pixel, four where neighbours differ visibly."""
    brightness = (np.array([[0.25, 0.6, 0.15]], np.float32) @ light)[0]
    gain = scene.photo.exposure / max(float(np.minimum(brightness, 2 * np.median(brightness)).mean()), 1e-4) * 1.6
    off_axis = _off_axis(size)
    shown = develop(scene.photo, light, gain, off_axis)
    picture = shown.reshape(3, *size)
    rough = np.zeros(size, bool)
    for axis in (1, 2):
        step = (np.abs(np.diff(picture, axis=axis)) > _VISIBLE_STEP).any(axis=0)
        here, there = (slice(None, -1), slice(1, None))
        rough[(here, slice(None)) if axis == 1 else (slice(None), here)] |= step
        rough[(there, slice(None)) if axis == 1 else (slice(None), there)] |= step
    index = np.flatnonzero(rough)
    for start in range(0, len(index), _RAYS_AT_ONCE // 4):
        part = index[start : start + _RAYS_AT_ONCE // 4]
        total = np.zeros((3, len(part)), np.float32)
        for corner in range(4):
            offset = (0.25 + 0.5 * (corner >> 1), 0.25 + 0.5 * (corner & 1))
            _, extra = _sample(scene, size, part, offset, corner)
            total += develop(scene.photo, extra, gain, off_axis[part])
        shown[:, part] = total / 4
    return shown


def _off_axis(size: tuple[int, int]) -> np.ndarray:
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in size)
    return ((np.square(y)[:, None] + np.square(x)) / 2).ravel()
