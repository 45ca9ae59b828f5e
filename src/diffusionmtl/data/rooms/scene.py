"""A scene: everything the renderer needs, as arrays."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from diffusionmtl.data.rooms.camera import Camera, Photo
from diffusionmtl.data.rooms.geometry import Solids, make_solids
from diffusionmtl.data.rooms.palette import Colour, Surface
from diffusionmtl.data.rooms.parts import SEMSEG_CLASSES, Casts, Piece

SHELL = 6
"""The room's faces come first in every per-surface array: x = 0, x = width, y = 0, y = depth, floor, ceiling."""

_SHELL_LABELS = [SEMSEG_CLASSES.index(name) for name in ("wall", "wall", "wall", "wall", "floor", "ceiling")]


@dataclass(frozen=True)
class Opening:
    """A rectangle in a wall that lets light in: the wall's axis and plane, and ranges along it and in height."""

    axis: int
    plane: float
    along: tuple[float, float]
    height: tuple[float, float]


@dataclass(frozen=True)
class Light:
    """A ball of light of radius `spread` metres.

    `facing`: it shines into a half space by the cosine law. `opening`: it stands outside and reaches what it sees
    through the opening; `even`: its strength does not fall off with distance (the sun).
    """

    position: Float[np.ndarray, " 3"]
    colour: Float[np.ndarray, " 3"]
    spread: float
    facing: Float[np.ndarray, " 3"] | None = None
    opening: Opening | None = None
    even: bool = False


@dataclass(frozen=True)
class Materials:
    """Per-surface numbers, one column per surface: 6 faces of the room, then the solids."""

    texture: Int[np.ndarray, " s"]
    a: Float[np.ndarray, "3 s"]
    b: Float[np.ndarray, "3 s"]
    scale: Float[np.ndarray, " s"]
    angle: Float[np.ndarray, " s"]
    contrast: Float[np.ndarray, " s"]
    phase: Float[np.ndarray, " s"]
    gloss: Float[np.ndarray, " s"]
    glow: Float[np.ndarray, " s"]


@dataclass(frozen=True)
class Scene:
    """One room. Per-surface arrays hold the 6 faces of the room, then the solids; `half` is zero for the faces."""

    extent: Float[np.ndarray, " 3"]
    camera: Camera
    photo: Photo
    solids: Solids
    casters: Solids
    sun_casters: Solids
    materials: Materials
    half: Float[np.ndarray, "3 s"]
    label: UInt8[np.ndarray, " s"]
    part: UInt8[np.ndarray, " s"]
    instance: Int[np.ndarray, " s"]
    standing: Bool[np.ndarray, " i"]
    lights: tuple[Light, ...]
    ambient: Float[np.ndarray, " 3"]
    footprints: Float[np.ndarray, "f 6"]
    colours: Float[np.ndarray, "3 c"]
    noise: Float[np.ndarray, "64 64"]


@dataclass(frozen=True)
class Placed:
    """A piece and where it stands: its origin in the room and its turn about the vertical."""

    piece: Piece
    x: float
    y: float
    z: float
    yaw: float


def assemble(
    extent: tuple[float, float, float],
    faces: Sequence[Surface],
    placed: Sequence[Placed],
    camera: Camera,
    photo: Photo,
    lights: tuple[Light, ...],
    ambient: Colour,
    colours: Sequence[Colour],
    noise: Float[np.ndarray, "64 64"],
) -> Scene:
    """Scene arrays from placed pieces. Instances count from 0: the six faces, then the things in order."""
    things = [(thing, place) for place in placed for thing in place.piece.things if thing.solids]
    rows = [
        (solid, place, SEMSEG_CLASSES.index(thing.label), SHELL + number)
        for number, (thing, place) in enumerate(things)
        for solid in thing.solids
    ]
    rows.sort(key=lambda row: row[0].shape)
    solids = _solids(rows)
    casts = np.array([row[0].casts for row in rows], int)
    return Scene(
        extent=np.array(extent, np.float32),
        camera=camera,
        photo=photo,
        solids=solids,
        casters=solids.select(casts == Casts.ALL),
        sun_casters=solids.select(casts > Casts.NOTHING),
        materials=_materials([*faces, *(row[0].surface for row in rows)]),
        half=np.array([(0, 0, 0)] * SHELL + [row[0].half for row in rows], np.float32).T.copy(),
        label=np.array([*_SHELL_LABELS, *(row[2] for row in rows)], np.uint8),
        part=np.array([0] * SHELL + [row[0].part for row in rows], np.uint8),
        instance=np.array([*range(SHELL), *(row[3] for row in rows)], np.int32),
        standing=np.array([False] * SHELL + [thing.standing for thing, _ in things]),
        lights=lights,
        ambient=np.array(ambient, np.float32),
        footprints=_footprints(placed),
        colours=np.array(colours, np.float32).T.copy(),
        noise=noise,
    )


def _solids(rows: list) -> Solids:
    centre = np.array([row[0].centre for row in rows]).reshape(-1, 3)
    axes = np.array([row[0].axes for row in rows]).reshape(-1, 3, 3)
    half = np.array([row[0].half for row in rows]).reshape(-1, 3)
    place = np.array([(row[1].x, row[1].y, row[1].z, row[1].yaw) for row in rows]).reshape(-1, 4)
    turn = _about_vertical(place[:, 3])
    shape = np.array([row[0].shape for row in rows], int)
    profile = np.array([row[0].profile for row in rows], float)
    where = np.einsum("nij,nj->ni", turn, centre) + place[:, :3]
    return make_solids(shape, where, np.einsum("nij,nkj->nki", turn, axes), half, profile)


def _about_vertical(yaw: np.ndarray) -> np.ndarray:
    c, s, zero, one = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw), np.ones_like(yaw)
    return np.stack([c, -s, zero, s, c, zero, zero, zero, one], axis=1).reshape(-1, 3, 3)


def _materials(surfaces: list[Surface]) -> Materials:
    table = np.array([(s.texture, *s.a, *s.b, *s[3:]) for s in surfaces], np.float32).T.copy()
    return Materials(table[0].astype(np.int64), table[1:4], table[4:7], *table[7:13])


def _footprints(placed: Sequence[Placed]) -> np.ndarray:
    """Rows (x, y, half width, half depth, cos yaw, sin yaw) of what stands on the floor."""
    rows = [
        (p.x, p.y, p.piece.width / 2, p.piece.depth / 2, math.cos(p.yaw), math.sin(p.yaw))
        for p in placed
        if p.z == 0 and p.piece.height > 0.05 and any(thing.standing for thing in p.piece.things)
    ]
    return np.array(rows, np.float32).reshape(-1, 6)
