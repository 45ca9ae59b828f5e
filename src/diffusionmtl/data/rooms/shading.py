"""What rays see, and how brightly: hits, shadows, ambient light that dims in corners and beside furniture."""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float32, Int

from diffusionmtl.data.rooms.geometry import Shape, blocked, dot, first_hit, outward, shell_exit
from diffusionmtl.data.rooms.palette import Texture
from diffusionmtl.data.rooms.scene import SHELL, Light, Opening, Scene
from diffusionmtl.data.rooms.textures import Coordinates, albedo

_CORNER = np.float32(0.4)  # metres over which a corner darkens
_DIM = np.float32(1e-3)  # weaker light than this casts no shadow worth a ray
_LIGHT_POINTS = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)], np.float32) / np.float32(3**0.5)


@dataclass(frozen=True)
class Hits:
    """What rays meet: z-depth, surface index, world point and normal, and where on the surface."""

    depth: Float32[np.ndarray, " r"]
    surface: Int[np.ndarray, " r"]
    point: Float32[np.ndarray, "3 r"]
    normal: Float32[np.ndarray, "3 r"]
    where: Coordinates

    def __getitem__(self, part: slice) -> "Hits":
        w = self.where
        where = Coordinates(w.u[part], w.v[part], w.half_u[part], w.half_v[part])
        return Hits(self.depth[part], self.surface[part], self.point[:, part], self.normal[:, part], where)


def concatenate(parts: list[Hits]) -> Hits:
    """Hits one after another."""
    if len(parts) == 1:
        return parts[0]
    where = Coordinates(*(np.concatenate([getattr(p.where, f.name) for p in parts]) for f in fields(Coordinates)))
    depth, surface = np.concatenate([p.depth for p in parts]), np.concatenate([p.surface for p in parts])
    point = np.concatenate([p.point for p in parts], axis=1)
    return Hits(depth, surface, point, np.concatenate([p.normal for p in parts], axis=1), where)


def trace(
    scene: Scene,
    direction: Float32[np.ndarray, "3 r"],
    tried: tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]],
) -> Hits:
    """First surfaces along camera rays that have unit length along the optical axis.

    `tried` are the pairs (solid, ray) that may meet, sorted by solid; the room's faces are always tried.
    """
    eye = scene.camera.position
    depth, face = shell_exit(scene.extent, eye, direction)
    near, solid = first_hit(scene.solids, eye, direction, *tried)
    found = near < depth
    depth = np.where(found, near, depth)
    surface = np.where(found, SHELL + solid, face)
    point = eye[:, None] + depth * direction
    axis = face >> 1
    side = np.where(face & 1, np.float32(-1), np.float32(1))
    normal = np.where(np.arange(3)[:, None] == axis, side, np.float32(0))
    u, v = np.where(axis == 0, point[1], point[0]), np.where(axis == 2, point[1], point[2])
    half_u, half_v = np.ones_like(u), np.ones_like(v)
    on = np.flatnonzero(found)
    normal[:, on], gradient, local = outward(scene.solids, solid[on], point[:, on])
    where = _solid_coordinates(scene, surface[on], gradient, local)
    u[on], v[on], half_u[on], half_v[on] = where.u, where.v, where.half_u, where.half_v
    # Rounding may tilt the normal of a grazed rim just past the horizon.
    facing = dot(normal, direction)
    normal -= np.maximum(facing, 0) / dot(direction, direction) * direction
    return Hits(depth, surface, point, normal / np.sqrt(dot(normal, normal)), Coordinates(u, v, half_u, half_v))


def _solid_coordinates(scene: Scene, surface: np.ndarray, gradient: np.ndarray, local: np.ndarray) -> Coordinates:
    """Flat faces are measured along their edges, round sides around and along their axis; grain runs the longer way."""
    half = scene.half.take(surface, axis=1)
    x, y, z = local * half
    axis = np.abs(gradient).argmax(axis=0)
    is_round = scene.solids.shape.take(surface - SHELL) != Shape.BOX
    reach = np.maximum(half[0], half[1])
    u = np.where(is_round, np.arctan2(local[1], local[0]) * reach, np.where(axis == 0, y, x))
    v = np.where(~is_round & (axis == 2), y, z)
    half_u = np.where(is_round, reach, np.where(axis == 0, half[1], half[0]))
    half_v = np.where(~is_round & (axis == 2), half[1], half[2])
    texture = scene.materials.texture.take(surface)
    swap = ((texture == Texture.WOOD) | (texture == Texture.PLANKS)) & (half_v > half_u)
    u, v = np.where(swap, v, u), np.where(swap, u, v)
    return Coordinates(u, v, np.where(swap, half_v, half_u), np.where(swap, half_u, half_v))


def radiance(
    scene: Scene,
    hits: Hits,
    direction: Float32[np.ndarray, "3 r"],
    visible: Float32[np.ndarray, "l r"],
    pixel: float,
) -> Float32[np.ndarray, "3 r"]:
    """Linear light towards the camera; `visible` is each light's unblocked share, `pixel` a pixel's size at 1 m."""
    length = np.sqrt(dot(direction, direction))
    view = -direction / length
    slant = np.maximum(dot(hits.normal, view), np.float32(0.12))
    colour = albedo(scene, hits.surface, hits.where, hits.depth * np.float32(pixel) / np.sqrt(slant))
    light = scene.ambient[:, None] * _ambient(scene, hits) + scene.materials.glow.take(hits.surface)
    gloss = scene.materials.gloss.take(hits.surface)
    glossy = np.flatnonzero(gloss > 0)
    shine = np.zeros((3, len(glossy)), np.float32)
    for source, share in zip(scene.lights, visible, strict=True):
        strength, towards = arriving(source, hits, source.position[:, None])
        strength = strength * share
        light += source.colour[:, None] * strength
        middle = towards[:, glossy] + view[:, glossy]
        middle /= np.sqrt(dot(middle, middle))
        mirror = np.maximum(dot(middle, hits.normal[:, glossy]), 0) ** 40
        shine += source.colour[:, None] * (gloss[glossy] * mirror * strength[glossy])
    result = colour * light
    result[:, glossy] += shine
    return result


def arriving(
    source: Light, hits: Hits, target: Float32[np.ndarray, "3 #r"]
) -> tuple[Float32[np.ndarray, " r"], Float32[np.ndarray, "3 r"]]:
    """Strength of a light at the hits (cosine and fall-off, nothing in the way), and unit directions to it."""
    way = target - hits.point
    square = dot(way, way)
    towards = way / np.sqrt(square)
    strength = np.maximum(dot(towards, hits.normal), 0)
    if not source.even:
        strength /= np.float32(0.6) + square
    if source.facing is not None:
        strength *= np.maximum(-dot(source.facing[:, None], towards), 0)
    if source.opening is not None:
        strength *= _through(source.opening, hits.point, way)
    return strength, towards


def unblocked(scene: Scene, hits: Hits, sample: Int[np.ndarray, " r"]) -> Float32[np.ndarray, "l r"]:
    """One where nothing stands between hit and light, else zero; `sample` (0 to 3) picks the point of the light."""
    visible = np.ones((len(scene.lights), len(sample)), np.float32)
    for row, source in zip(visible, scene.lights, strict=True):
        points = source.position[:, None] + np.float32(source.spread) * _LIGHT_POINTS.T
        strength, _ = arriving(source, hits, points.take(sample, axis=1))
        if source.opening is not None:
            row[:] = strength > 0
        lit = np.flatnonzero(strength > _DIM)
        target = hits.point[:, lit] + np.float32(2e-3) * hits.normal[:, lit]
        casters = scene.casters if source.opening is None else scene.sun_casters
        clearance = 2e-3 if source.opening is None else 1e-4
        row[lit[blocked(casters, points, sample[lit], target, clearance)]] = 0
    return visible


def _ambient(scene: Scene, hits: Hits) -> np.ndarray:
    """Sky-like fill: less from below, less near corners, less beside what stands on the floor."""
    fill = 0.82 + 0.18 * hits.normal[2]
    to_walls = np.minimum(hits.point, scene.extent[:, None] - hits.point)
    corner = np.exp(-np.maximum(to_walls, 0) / _CORNER) * (1 - np.square(hits.normal))
    fill = fill * (1 - 0.38 * corner).prod(axis=0)
    flat = np.flatnonzero((hits.point[2] < 0.9) & ((hits.surface < SHELL) | (hits.point[2] < 0.03)))
    if len(scene.footprints) and len(flat):
        fill[flat] *= _contact(scene, hits.point[:, flat])
    return fill


def _contact(scene: Scene, point: np.ndarray) -> np.ndarray:
    x0, y0, w, d, c, s = (scene.footprints[:, i : i + 1] for i in range(6))
    dx, dy = point[0] - x0, point[1] - y0
    out_x = np.maximum(np.abs(c * dx + s * dy) - w, 0)
    out_y = np.maximum(np.abs(c * dy - s * dx) - d, 0)
    near = np.exp(-np.hypot(out_x, out_y) / np.float32(0.16))
    return (1 - 0.42 * near * np.exp(-point[2] / np.float32(0.5))).prod(axis=0)


def _through(opening: Opening, point: np.ndarray, way: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (opening.plane - point[opening.axis]) / way[opening.axis]
    along = point[1 - opening.axis] + share * way[1 - opening.axis]
    height = point[2] + share * way[2]
    inside = (along > opening.along[0]) & (along < opening.along[1])
    return inside & (height > opening.height[0]) & (height < opening.height[1]) & (share > 1e-5)
