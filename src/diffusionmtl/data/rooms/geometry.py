"""Ray casting against batches of convex solids, in struct-of-arrays form.

Every solid is a unit shape seen through an affine map, so that one ray test per shape serves them all:

* box: the cube `[-1, 1]^3`;
* ellipsoid: the unit ball;
* frustum: the axis is z in `[-1, 1]`, the radius runs from 1 (bottom) to `profile` (top); 1 is a cylinder, 0 a cone;
* capsule: the points within 1 of the segment `|z| <= profile` (the map must scale uniformly).

Vectors are `[3 r]` arrays (one row per axis) because each formula then runs over contiguous memory. The world is
right-handed with z up, in metres. Directions need not have unit length: distances are in units of the direction given.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float, Int

_RAYS_AT_ONCE = 1 << 14
_CULLED_AT_ONCE = 1024  # keeps the [solids rays] culling matrix inside a processor cache
_TINY = np.float32(1e-9)


class Shape(IntEnum):
    """The four unit shapes; solids are stored in this order."""

    BOX = 0
    ELLIPSOID = 1
    FRUSTUM = 2
    CAPSULE = 3


@dataclass(frozen=True)
class Solids:
    """n solids sorted by shape; `to_local` maps an offset from `centre` to the unit shape's coordinates."""

    shape: Int[np.ndarray, " n"]
    centre: Float[np.ndarray, "3 n"]
    to_local: Float[np.ndarray, "9 n"]
    profile: Float[np.ndarray, " n"]
    radius: Float[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.shape)

    def select(self, chosen: Bool[np.ndarray, " n"]) -> "Solids":
        """Only the solids where `chosen` is true, in the same order."""
        return Solids(
            self.shape[chosen],
            self.centre[:, chosen],
            self.to_local[:, chosen],
            self.profile[chosen],
            self.radius[chosen],
        )


def make_solids(
    shape: Int[np.ndarray, " n"],
    centre: Float[np.ndarray, "n 3"],
    axes: Float[np.ndarray, "n 3 3"],
    half: Float[np.ndarray, "n 3"],
    profile: Float[np.ndarray, " n"],
) -> Solids:
    """Solids from half extents along orthonormal `axes` (row i of `axes[k]` is local axis i in world coordinates).

    Raises:
        ValueError: if the solids are not sorted by shape, which the grouped ray tests rely on.
    """
    if np.any(np.diff(shape) < 0):
        raise ValueError("solids must be sorted by shape")
    to_local = (axes / half[:, :, None]).reshape(-1, 9).T
    across = np.maximum(half[:, 0], half[:, 1])
    reach = np.stack(
        [
            np.linalg.norm(half, axis=1),
            half.max(axis=1, initial=0),
            np.hypot(across * np.maximum(profile, 1), half[:, 2]),
            across * (1 + profile),
        ]
    )
    radius = reach[shape, np.arange(len(shape))]
    as_float = [np.ascontiguousarray(a, dtype=np.float32) for a in (centre.T, to_local, profile, radius)]
    return Solids(np.asarray(shape), *as_float)


def dot(a: Float[np.ndarray, "3 #r"], b: Float[np.ndarray, "3 #r"]) -> Float[np.ndarray, " r"]:
    """Scalar products of columns; three products beat a reduction over an axis of length three."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def corners(solids: Solids) -> Float[np.ndarray, "3 8 n"]:
    """World corners of a box around each solid, aligned with its own axes."""
    to_world = np.linalg.inv(solids.to_local.T.reshape(-1, 3, 3))
    wide = np.where(solids.shape == Shape.FRUSTUM, np.maximum(solids.profile, 1), 1)
    tall = np.where(solids.shape == Shape.CAPSULE, 1 + solids.profile, 1)
    reach = to_world * np.stack([wide, wide, tall], axis=1)[:, None, :].astype(np.float32)
    signs = np.array([(a, b, c) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)], np.float32)
    return np.einsum("nij,kj->ikn", reach, signs) + solids.centre[:, None, :]


def first_hit(
    solids: Solids,
    origin: Float[np.ndarray, " 3"],
    direction: Float[np.ndarray, "3 r"],
    solid: Int[np.ndarray, " p"],
    ray: Int[np.ndarray, " p"],
) -> tuple[Float[np.ndarray, " r"], Int[np.ndarray, " r"]]:
    """Nearest entry of rays that share one origin: distance (inf for a miss) and index of the solid (-1 for a miss).

    Only the pairs (`solid[i]`, `ray[i]`) are tried; they must be sorted by solid.
    """
    local_origin = _apply(solids.to_local, origin[:, None] - solids.centre)
    local_direction = _apply(solids.to_local.take(solid, axis=1), direction.take(ray, axis=1))
    t = _entry(solids, solid, local_origin.take(solid, axis=1), local_direction)
    return _closest(t, solid, ray, direction.shape[1])


def blocked(
    solids: Solids,
    source: Float[np.ndarray, "3 k"],
    chosen: Int[np.ndarray, " r"],
    target: Float[np.ndarray, "3 r"],
    clearance: float = 2e-3,
) -> Bool[np.ndarray, " r"]:
    """Whether a solid stands between each target and its own one of k sources, which lie close together.

    `clearance` (a fraction of the way) is skipped at the target, so that a surface does not shadow itself.
    """
    result = np.zeros(target.shape[1], bool)
    hub = source.mean(axis=1, keepdims=True)
    spread = np.sqrt(dot(source - hub, source - hub).max())
    offset, reach = solids.centre - hub, solids.radius + spread
    count = source.shape[1]
    local_source = np.stack(
        [_apply(solids.to_local, source[:, k : k + 1] - solids.centre) for k in range(count)], axis=2
    )
    local_source = local_source.reshape(3, -1)
    for start in range(0, target.shape[1], _RAYS_AT_ONCE):
        part = slice(start, start + _RAYS_AT_ONCE)
        from_hub = target[:, part] - hub
        solid, ray = _inside_cones(offset, reach, from_hub / np.sqrt(dot(from_hub, from_hub)))
        way = target[:, part] - source.take(chosen[part], axis=1)
        direction = _apply(solids.to_local.take(solid, axis=1), way.take(ray, axis=1))
        origin = local_source.take(solid * count + chosen[part].take(ray), axis=1)
        result[start + ray[_entry(solids, solid, origin, direction) < 1 - clearance]] = True
    return result


def outward(
    solids: Solids, solid: Int[np.ndarray, " r"], point: Float[np.ndarray, "3 r"]
) -> tuple[Float[np.ndarray, "3 r"], Float[np.ndarray, "3 r"], Float[np.ndarray, "3 r"]]:
    """Unit normals (world), gradients (local) and local coordinates of surface points, point i lying on `solid[i]`."""
    frame = solids.to_local.take(solid, axis=1)
    local = _apply(frame, point - solids.centre.take(solid, axis=1))
    shape, profile = solids.shape.take(solid), solids.profile.take(solid)
    gradient = local.copy()
    for kind, function in ((Shape.BOX, _box_gradient), (Shape.FRUSTUM, _frustum_gradient)):
        chosen = np.flatnonzero(shape == kind)
        gradient[:, chosen] = function(local[:, chosen], profile[chosen])
    capsule = np.flatnonzero(shape == Shape.CAPSULE)
    gradient[2, capsule] -= np.clip(local[2, capsule], -profile[capsule], profile[capsule])
    normal = np.stack(
        [frame[i] * gradient[0] + frame[3 + i] * gradient[1] + frame[6 + i] * gradient[2] for i in range(3)]
    )
    return normal / np.sqrt(dot(normal, normal)), gradient, local


def shell_exit(
    extent: Float[np.ndarray, " 3"], origin: Float[np.ndarray, " 3"], direction: Float[np.ndarray, "3 r"]
) -> tuple[Float[np.ndarray, " r"], Int[np.ndarray, " r"]]:
    """Where rays leave the room `[0, extent]` they start in: distance and face (2 * axis, + 1 for the far side)."""
    with np.errstate(divide="ignore"):
        ahead = direction > 0
        t = (np.where(ahead, extent[:, None], np.float32(0)) - origin[:, None]) / direction
    t[direction == 0] = np.inf
    axis = t.argmin(axis=0)
    rays = np.arange(direction.shape[1])
    return t[axis, rays], 2 * axis + ahead[axis, rays]


def _apply(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    x, y, z = vector
    result = np.empty((3, max(matrix.shape[1], len(x))), np.float32)
    for i, row in enumerate(result):
        np.multiply(matrix[3 * i], x, out=row)
        row += matrix[3 * i + 1] * y
        row += matrix[3 * i + 2] * z
    return result


def _inside_cones(offset: np.ndarray, radius: np.ndarray, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (solid, ray), sorted by solid, whose ray lies in the cone around the solid's bounding ball."""
    distance = np.sqrt(dot(offset, offset))
    sine = np.minimum(radius / np.maximum(distance, _TINY), 1)
    cosine = np.where(sine < 1, np.sqrt(1 - sine * sine), np.float32(-2))
    # Far, small balls have cosines so close to one that rounding would lose their rim.
    limit = (cosine - np.float32(1e-6))[:, None]
    axis = np.ascontiguousarray((offset / np.maximum(distance, _TINY)).T)
    inside = np.empty((len(radius), unit.shape[1]), bool)
    product = np.empty((len(radius), _CULLED_AT_ONCE), np.float32)
    for start in range(0, unit.shape[1], _CULLED_AT_ONCE):
        some = unit[:, start : start + _CULLED_AT_ONCE]
        towards = np.matmul(axis, some, out=product[:, : some.shape[1]])
        np.greater(towards, limit, out=inside[:, start : start + _CULLED_AT_ONCE])
    flat = np.flatnonzero(inside)
    solid = np.repeat(np.arange(len(radius)), np.count_nonzero(inside, axis=1))
    return solid, flat - solid * unit.shape[1]


def _closest(t: np.ndarray, solid: np.ndarray, ray: np.ndarray, rays: int) -> tuple[np.ndarray, np.ndarray]:
    hit = np.flatnonzero(t < np.inf)
    # The bits of positive floats sort like the floats, so distance and index reduce as one integer.
    key = (t[hit].view(np.uint32).astype(np.uint64) << np.uint64(32)) | solid[hit].astype(np.uint64)
    best = np.full(rays, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(best, ray[hit], key)
    missed = best == np.iinfo(np.uint64).max
    nearest = (best >> np.uint64(32)).astype(np.uint32).view(np.float32)
    index = (best & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return np.where(missed, np.float32(np.inf), nearest), np.where(missed, -1, index)


def _entry(solids: Solids, solid: np.ndarray, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Distance at which each local ray enters its solid from outside; inf for a miss or an entry behind the origin."""
    t = np.empty(len(solid), np.float32)
    borders = np.searchsorted(solid, np.searchsorted(solids.shape, np.arange(len(Shape) + 1)))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for kind, function in enumerate((_enter_box, _enter_ellipsoid, _enter_frustum, _enter_capsule)):
            part = slice(borders[kind], borders[kind + 1])
            t[part] = function(origin[:, part], direction[:, part], solids.profile.take(solid[part]))
        return np.where(t > 0, t, np.float32(np.inf))


def _enter_box(o: np.ndarray, d: np.ndarray, _profile: np.ndarray) -> np.ndarray:
    inverse = 1 / np.where(d == 0, np.float32(1e-20), d)
    middle, spread = -o * inverse, np.abs(inverse)
    near, far = middle - spread, middle + spread
    enter = np.maximum(np.maximum(near[0], near[1]), near[2])
    leave = np.minimum(np.minimum(far[0], far[1]), far[2])
    return np.where(enter <= leave, enter, np.float32(np.inf))


def _enter_ball(o: np.ndarray, d: np.ndarray) -> np.ndarray:
    square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    closest = -(o[0] * d[0] + o[1] * d[1] + o[2] * d[2]) / square
    # Measured from the closest point, the miss keeps its digits; the usual discriminant cancels for far, small balls.
    x, y, z = o[0] + closest * d[0], o[1] + closest * d[1], o[2] + closest * d[2]
    room = 1 - (x * x + y * y + z * z)
    return np.where(room >= 0, closest - np.sqrt(np.maximum(room, 0) / square), np.float32(np.inf))


def _enter_ellipsoid(o: np.ndarray, d: np.ndarray, _profile: np.ndarray) -> np.ndarray:
    return _enter_ball(o, d)


def _enter_capsule(o: np.ndarray, d: np.ndarray, profile: np.ndarray) -> np.ndarray:
    square = np.maximum(d[0] * d[0] + d[1] * d[1], _TINY)
    closest = -(o[0] * d[0] + o[1] * d[1]) / square
    x, y = o[0] + closest * d[0], o[1] + closest * d[1]
    room = 1 - (x * x + y * y)
    t = closest - np.sqrt(np.maximum(room, 0) / square)
    z = o[2] + t * d[2]
    end = np.clip(z, -profile, profile)
    capped = np.flatnonzero((room >= 0) & (end != z))
    centre = o[:, capped]
    centre[2] -= end[capped]
    t[capped] = _enter_ball(centre, d[:, capped])
    return np.where(room >= 0, t, np.float32(np.inf))


def _enter_frustum(o: np.ndarray, d: np.ndarray, profile: np.ndarray) -> np.ndarray:
    slope, middle = (profile - 1) / 2, (profile + 1) / 2
    rim, grow = middle + slope * o[2], slope * d[2]
    a = d[0] * d[0] + d[1] * d[1] - grow * grow
    a = np.where(np.abs(a) < _TINY, _TINY, a)
    b = o[0] * d[0] + o[1] * d[1] - grow * rim
    root = np.sqrt(b * b - a * (o[0] * o[0] + o[1] * o[1] - rim * rim))
    best = np.full(len(a), np.inf, np.float32)
    for t in ((-b - root) / a, (-b + root) / a):
        z = o[2] + t * d[2]
        valid = (np.abs(z) <= 1) & (middle + slope * z >= 0) & (t > 0)
        best = np.where(valid, np.minimum(best, t), best)
    for side in (-1, 1):
        t = (side - o[2]) / d[2]
        x, y = o[0] + t * d[0], o[1] + t * d[1]
        valid = (x * x + y * y <= np.square(middle + side * slope)) & (t > 0)
        best = np.where(valid, np.minimum(best, t), best)
    return best


def _box_gradient(local: np.ndarray, _profile: np.ndarray) -> np.ndarray:
    axis = np.abs(local).argmax(axis=0)
    return np.where(axis == np.arange(3)[:, None], np.sign(local), np.float32(0))


def _frustum_gradient(local: np.ndarray, profile: np.ndarray) -> np.ndarray:
    slope = (profile - 1) / 2
    rim = (profile + 1) / 2 + slope * local[2]
    on_cap = 1 - np.abs(local[2]) < np.abs(rim - np.hypot(local[0], local[1]))
    side = np.stack([local[0], local[1], -slope * rim])
    cap = np.stack([np.zeros_like(rim), np.zeros_like(rim), np.sign(local[2])])
    return np.where(on_cap, cap, side)
