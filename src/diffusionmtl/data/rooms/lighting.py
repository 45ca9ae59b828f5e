"""The light of a scene: the hour, the sun, the sky in the windows, lamps."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffusionmtl.data.rooms.palette import Colour
from diffusionmtl.data.rooms.scene import Light, Opening, Placed

_SUN_DISTANCE = 18.0


@dataclass(frozen=True)
class Setting:
    """The hour: how bright the sky in a window is, the light from everywhere, and where a lamp hangs, if one does.

    `lamp` is (share of the width, share of the depth, height in metres).
    """

    sky: float
    ambient: Colour
    lamp: tuple[float, float, float] | None
    warmth: float
    sunny: bool


def draw_setting(rng: random.Random) -> Setting:
    """Day, dusk or night."""
    hour = rng.choices(("day", "dusk", "night"), (6, 2, 2))[0]
    sky = {"day": rng.uniform(0.9, 2.0), "dusk": rng.uniform(0.3, 0.6), "night": 0.04}[hour]
    fill = rng.uniform(0.22, 0.5)
    warm = rng.uniform(-0.12, 0.15) if hour == "day" else rng.uniform(0.0, 0.3)
    ambient = (fill * (1 + warm / 2), fill, fill * (1 - warm / 2))
    lit = rng.random() < (0.35 if hour == "day" else 1.0)
    lamp = (rng.uniform(0.25, 0.75), rng.uniform(0.35, 0.75), rng.uniform(1.95, 2.2)) if lit else None
    return Setting(sky, ambient, lamp, warm, hour == "day" and rng.random() < 0.6)


def lights(
    rng: random.Random,
    setting: Setting,
    extent: tuple[float, float, float],
    panes: Sequence[tuple[Placed, float, float, float]],
) -> tuple[Light, ...]:
    """At most two soft lights, and the sun through one window on a sunny day."""
    found: list[Light] = []
    if setting.lamp is not None:
        x, y, z = setting.lamp
        power = rng.uniform(2.0, 3.2)
        tone = (power * (1 + setting.warmth), power * 0.95, power * (1 - setting.warmth))
        found.append(Light(_vector(x * extent[0], y * extent[1], z - 0.05), _vector(*tone), 0.12))
    if panes and setting.sky > 0.2:
        place, width, low, high = panes[0]
        found.append(_skylight(setting, place, width, low, high))
        if setting.sunny:
            found.append(_sun(rng, place, width, low, high))
    if not found:
        where = _vector(rng.uniform(0.2, 0.8) * extent[0], rng.uniform(0.1, 0.6) * extent[1], extent[2] - 0.15)
        found.append(Light(where, _vector(2.6, 2.5, 2.3), 0.25))
    return tuple(found[:3])


def _inward(place: Placed) -> np.ndarray:
    return _vector(-math.sin(place.yaw), math.cos(place.yaw), 0.0)


def _skylight(setting: Setting, place: Placed, width: float, low: float, high: float) -> Light:
    inward = _inward(place)
    position = _vector(place.x, place.y, (low + high) / 2 + 0.2) + np.float32(0.2) * inward
    power = 4.0 * min(setting.sky, 1.5) * width * (high - low)
    return Light(position, _vector(0.93 * power, power, 1.08 * power), 0.16, facing=inward)


def _sun(rng: random.Random, place: Placed, width: float, low: float, high: float) -> Light:
    inward, middle = _inward(place), (low + high) / 2
    sideways, rise = rng.uniform(-0.9, 0.9), rng.uniform(0.45, 1.1)
    along = np.array((-inward[1], inward[0], 0), np.float32)
    out = -inward + np.float32(sideways) * along + _vector(0.0, 0.0, rise)
    position = _vector(place.x, place.y, middle) + np.float32(_SUN_DISTANCE) * out / np.linalg.norm(out)
    axis = 0 if abs(inward[0]) > 0.5 else 1
    centre, plane = (place.y, place.x) if axis == 0 else (place.x, place.y)
    opening = Opening(axis, plane, (centre - width / 2, centre + width / 2), (low, high))
    power = rng.uniform(2.5, 4.5)
    return Light(
        position.astype(np.float32), _vector(power, 0.9 * power, 0.72 * power), 0.08, opening=opening, even=True
    )


def _vector(x: float, y: float, z: float) -> np.ndarray:
    return np.array((x, y, z), np.float32)
