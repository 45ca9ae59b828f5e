"""The records that furniture and people are made of, and short ways to write them."""

import math
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from diffusionmtl.data.rooms.geometry import Shape
from diffusionmtl.data.rooms.palette import Surface

Number: TypeAlias = float | int
Span: TypeAlias = tuple[Number, Number]
Vector: TypeAlias = tuple[Number, Number, Number]
Axes: TypeAlias = tuple[Vector, Vector, Vector]

SEMSEG_CLASSES: tuple[str, ...] = (
    "bed",
    "books",
    "ceiling",
    "chair",
    "floor",
    "furniture",
    "objects",
    "picture",
    "sofa",
    "table",
    "tv",
    "wall",
    "window",
    "person",
)
"""Classes of `Room.semseg`. Doors are wall, rugs are floor, curtains are window, cushions go with their seat."""

PART_CLASSES: tuple[str, ...] = ("background", "head", "torso", "upper_arms", "lower_arms", "upper_legs", "lower_legs")
"""Classes of `Room.human_parts`. The neck goes with the torso, hands with the lower arms, feet with the lower legs."""

UPRIGHT: Axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


class Casts(IntEnum):
    """Which lights' rays a solid stops: none, the sun's (what frames a window), or all."""

    NOTHING = 0
    SUN = 1
    ALL = 2


class Solid(NamedTuple):
    """One solid in the coordinates of its piece; see `geometry` for what `half`, `axes` and `profile` mean."""

    shape: Shape
    centre: Vector
    half: Vector
    surface: Surface
    axes: Axes = UPRIGHT
    profile: Number = 0.0
    part: int = 0
    casts: Casts = Casts.ALL


class Thing(NamedTuple):
    """Solids that are one object: one class, one instance. `standing` things may be the salient one."""

    label: str
    solids: list[Solid]
    standing: bool = False


@dataclass
class Piece:
    """Things placed together. Local x is the width, the front faces +y, z is up, the origin is on the floor."""

    things: list[Thing]
    width: Number
    depth: Number
    height: Number
    seats: list[tuple[Number, Number, Number]] = field(default_factory=list)
    """Places to sit: x, y of the seat's middle and its height."""
    couch: tuple[Number, Number] | None = None
    """Height and y of the pillow if one can lie on it."""


def turned(yaw: Number) -> Axes:
    """Axes turned about the vertical."""
    c, s = math.cos(yaw), math.sin(yaw)
    return ((c, s, 0.0), (-s, c, 0.0), (0.0, 0.0, 1.0))


def box(x: Span, y: Span, z: Span, surface: Surface, **more) -> Solid:
    """A box from its ranges."""
    centre = ((x[0] + x[1]) / 2, (y[0] + y[1]) / 2, (z[0] + z[1]) / 2)
    half = (max((x[1] - x[0]) / 2, 1e-3), max((y[1] - y[0]) / 2, 1e-3), max((z[1] - z[0]) / 2, 1e-3))
    return Solid(Shape.BOX, centre, half, surface, **more)


def block(centre: Vector, size: Vector, surface: Surface, **more) -> Solid:
    """A box from its middle and full size."""
    return Solid(Shape.BOX, centre, (size[0] / 2, size[1] / 2, size[2] / 2), surface, **more)


def ball(centre: Vector, radius: Number | Vector, surface: Surface, **more) -> Solid:
    """A ball, or an ellipsoid from three radii."""
    half = radius if isinstance(radius, tuple) else (radius, radius, radius)
    return Solid(Shape.ELLIPSOID, centre, half, surface, **more)


def drum(x: Number, y: Number, z: Span, radius: Number, surface: Surface, top: Number = 1.0, **more) -> Solid:
    """An upright cylinder whose radius at the top is `top` times that at the bottom."""
    half = (radius, radius, max((z[1] - z[0]) / 2, 1e-3))
    return Solid(Shape.FRUSTUM, (x, y, (z[0] + z[1]) / 2), half, surface, profile=top, **more)


def limb(start: Vector, end: Vector, radius: Number, surface: Surface, part: int = 0) -> Solid:
    """A capsule between two points."""
    along = (end[0] - start[0], end[1] - start[1], end[2] - start[2])
    length = math.sqrt(along[0] ** 2 + along[1] ** 2 + along[2] ** 2)
    centre = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, (start[2] + end[2]) / 2)
    axes = axes_along((along[0] / length, along[1] / length, along[2] / length))
    return Solid(Shape.CAPSULE, centre, (radius, radius, radius), surface, axes, length / 2 / radius, part)


def axes_along(z: Vector) -> Axes:
    """Orthonormal axes whose third is the given unit vector."""
    hint = (1.0, 0.0, 0.0) if abs(z[0]) < 0.9 else (0.0, 1.0, 0.0)
    x = _unit(cross(hint, z))
    return (x, cross(z, x), z)


def cross(a: Vector, b: Vector) -> Vector:
    """Vector product."""
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def _unit(a: Vector) -> Vector:
    length = math.sqrt(a[0] ** 2 + a[1] ** 2 + a[2] ** 2)
    return (a[0] / length, a[1] / length, a[2] / length)
