"""Draw a furnished room with every dense label, exactly and from a seed alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from diffusionmtl.data.rooms.camera import develop, exposure_gain, finish
from diffusionmtl.data.rooms.labels import instance_edges, salient
from diffusionmtl.data.rooms.layout import lay_out
from diffusionmtl.data.rooms.sampling import corner_rays, pairs_among, pairs_in_view, soften
from diffusionmtl.data.rooms.scene import Scene
from diffusionmtl.data.rooms.shading import Hits, concatenate, radiance, trace, unblocked

_RAYS_AT_ONCE = 1 << 16
_VISIBLE_STEP = 0.1  # difference in display value between neighbours from which a pixel is supersampled


@dataclass(frozen=True)
class Room:
    """An image and its labels; all arrays share height and width, and the image alone is anti-aliased.

    `semseg` and `human_parts` index `SEMSEG_CLASSES` and `PART_CLASSES`; `depth` is in metres along the optical axis;
    `normals` are unit vectors in the camera's frame (x right, y up, z to the viewer); `edge` marks pixels whose right
    or lower neighbour is another instance; `saliency` is the people if any, else the most prominent free-standing
    thing.
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
    hits = _centres(scene, size)
    semseg = scene.label[hits.surface].reshape(size)
    instances = scene.instance[hits.surface].reshape(size)
    to_camera = scene.camera.axes.astype(np.float32) * np.array([[1], [1], [-1]], np.float32)
    return Room(
        image=finish(scene.photo, _shown(scene, size, hits).T.reshape(height, width, 3), grain),
        semseg=semseg,
        depth=hits.depth.reshape(size),
        normals=np.ascontiguousarray((to_camera @ hits.normal).T).reshape(height, width, 3),
        edge=instance_edges(instances),
        saliency=salient(semseg, instances, hits.depth.reshape(size), scene.standing),
        human_parts=scene.part[hits.surface].reshape(size),
        instances=instances,
    )


def _centres(scene: Scene, size: tuple[int, int]) -> Hits:
    """Hits of the rays through all pixel centres."""
    rows = max(1, _RAYS_AT_ONCE // size[1])
    parts = []
    for top in range(0, size[0], rows):
        bottom = min(size[0], top + rows)
        row, column = np.divmod(np.arange(top * size[1], bottom * size[1]), size[1])
        direction = scene.camera.directions(size, row + 0.5, column + 0.5)
        parts.append(trace(scene, direction, pairs_in_view(scene.solids, scene.camera, size, top, bottom)))
    return concatenate(parts)


def _shown(scene: Scene, size: tuple[int, int], hits: Hits) -> np.ndarray:
    """Display values `[3 h*w]`: one sample a pixel, four where neighbours differ visibly."""
    pixel = 1 / scene.camera.focal_pixels(size)
    row, column = np.divmod(np.arange(size[0] * size[1]), size[1])
    visible = np.empty((len(scene.lights), len(row)), np.float32)
    for part in _slices(len(row)):
        # Neighbouring pixels ask different points of a light; together they see all four.
        visible[:, part] = unblocked(scene, hits[part], (row[part] & 1) * 2 + (column[part] & 1))
    visible = soften(visible, hits.surface, size)
    light = np.empty((3, len(row)), np.float32)
    for part in _slices(len(row)):
        direction = scene.camera.directions(size, row[part] + 0.5, column[part] + 0.5)
        light[:, part] = radiance(scene, hits[part], direction, visible[:, part], pixel)
    gain, off_axis = exposure_gain(scene.photo, light), _off_axis(size)
    shown = develop(scene.photo, light, gain, off_axis)
    rough = np.flatnonzero(_rough(shown.reshape(3, *size)))
    for part in _slices(len(rough), _RAYS_AT_ONCE // 4):
        index = rough[part]
        direction, neighbours = corner_rays(scene.camera, size, index)
        seen = hits.surface.take(neighbours)
        extra = trace(scene, direction, pairs_among(seen))
        match = neighbours[(seen == extra.surface).argmax(axis=0), np.arange(neighbours.shape[1])]
        fine = radiance(scene, extra, direction, visible.take(match, axis=1), pixel / 2)
        fine = develop(scene.photo, fine, gain, off_axis.take(np.tile(index, 4)))
        shown[:, index] = fine.reshape(3, 4, -1).mean(axis=1)
    return shown


def _slices(length: int, step: int = _RAYS_AT_ONCE) -> list[slice]:
    return [slice(start, start + step) for start in range(0, length, step)]


def _rough(picture: np.ndarray) -> np.ndarray:
    rough = np.zeros(picture.shape[1:], bool)
    down = (np.abs(picture[:, 1:] - picture[:, :-1]) > _VISIBLE_STEP).any(axis=0)
    across = (np.abs(picture[:, :, 1:] - picture[:, :, :-1]) > _VISIBLE_STEP).any(axis=0)
    rough[1:] |= down
    rough[:-1] |= down
    rough[:, 1:] |= across
    rough[:, :-1] |= across
    return rough


def _off_axis(size: tuple[int, int]) -> np.ndarray:
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in size)
    return ((np.square(y)[:, None] + np.square(x)) / 2).ravel()
