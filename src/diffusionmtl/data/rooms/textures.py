"""Procedural textures, evaluated for many points at once.

A pattern is a function of a `Patch` that returns how much of colour b there is (0 to 1) and a brightness factor; the
painted kinds return colours. `blur` is the size of a pixel on the surface in repeats of the pattern: edges are softened
by it and patterns finer than a pixel fade to their mean, which is what keeps far floors from flickering.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from diffusionmtl.data.rooms.palette import Texture
from diffusionmtl.data.rooms.scene import Materials, Scene


@dataclass(frozen=True)
class Coordinates:
    """Metric surface coordinates (u along, v up or across) and the half extents of the surface in u and v."""

    u: Float32[np.ndarray, " r"]
    v: Float32[np.ndarray, " r"]
    half_u: Float32[np.ndarray, " r"]
    half_v: Float32[np.ndarray, " r"]


@dataclass(frozen=True)
class Patch:
    """Points of one texture: pattern coordinates in repeats, and relative ones in [-1, 1] for painted surfaces."""

    x: Float32[np.ndarray, " r"]
    y: Float32[np.ndarray, " r"]
    blur: Float32[np.ndarray, " r"]
    across: Float32[np.ndarray, " r"]
    up: Float32[np.ndarray, " r"]
    phase: Float32[np.ndarray, " r"]
    angle: Float32[np.ndarray, " r"]
    noise: Float[np.ndarray, "64 64"]
    colours: Float[np.ndarray, "3 c"]


def albedo(
    scene: Scene, surface: Int[np.ndarray, " r"], where: Coordinates, footprint: Float32[np.ndarray, " r"]
) -> Float32[np.ndarray, "3 r"]:
    """Reflected share of red, green and blue at points on surfaces; `footprint` is a pixel's size in metres."""
    materials = scene.materials
    a, b = materials.a.take(surface, axis=1), materials.b.take(surface, axis=1)
    kinds = materials.texture.take(surface)
    mix, shade = np.empty((2, len(surface)), np.float32)
    painted = []
    for kind in np.flatnonzero(np.bincount(kinds)).tolist():
        chosen = np.flatnonzero(kinds == kind)
        patch = _patch(scene, materials, surface[chosen], where, footprint, chosen)
        if kind in _PATTERNS:
            mix[chosen], shade[chosen] = _PATTERNS[kind](patch)
        else:
            mix[chosen], shade[chosen] = 0, 1
            painted.append((chosen, _PAINTED[kind](patch, a.take(chosen, axis=1), b.take(chosen, axis=1))))
    b -= a
    b *= mix * materials.contrast.take(surface)
    a += b
    a *= shade
    for chosen, colour in painted:
        a[:, chosen] = colour
    return a


def _patch(
    scene: Scene, m: Materials, surface: np.ndarray, where: Coordinates, footprint: np.ndarray, chosen: np.ndarray
) -> Patch:
    u, v = where.u[chosen], where.v[chosen]
    angle, scale, phase = m.angle.take(surface), m.scale.take(surface), m.phase.take(surface)
    c, s = np.cos(angle), np.sin(angle)
    return Patch(
        x=(u * c + v * s) / scale + phase,
        y=(v * c - u * s) / scale + phase,
        blur=footprint[chosen] / scale + np.float32(1e-3),
        across=u / where.half_u[chosen],
        up=v / where.half_v[chosen],
        phase=phase,
        angle=angle,
        noise=scene.noise,
        colours=scene.colours,
    )


def value_noise(table: Float[np.ndarray, "64 64"], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth noise in [0, 1] with one random value per unit square, repeating every 64."""
    left, low = np.floor(x), np.floor(y)
    fx, fy = x - left, y - low
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    i, j = left.astype(np.int32), low.astype(np.int32)
    values = table.ravel()
    row, above = (j & 63) << 6, ((j + 1) & 63) << 6
    i, right = i & 63, (i + 1) & 63
    bottom = values.take(row + i) * (1 - fx) + values.take(row + right) * fx
    top = values.take(above + i) * (1 - fx) + values.take(above + right) * fx
    return bottom * (1 - fy) + top * fy


def _cell(table: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return table.ravel().take(((np.floor(y).astype(np.int32) & 63) << 6) + (np.floor(x).astype(np.int32) & 63))


def _fade(blur: np.ndarray) -> np.ndarray:
    return np.clip(1.3 - 1.6 * blur, 0, 1)


def _square(x: np.ndarray, blur: np.ndarray) -> np.ndarray:
    """A soft square wave of period 1."""
    to_middle = np.abs(x - np.floor(x) - np.float32(0.5))
    return 0.5 + (np.clip((to_middle - 0.25) / blur + 0.5, 0, 1) - 0.5) * _fade(blur)


def _line(x: np.ndarray, blur: np.ndarray, half: float) -> np.ndarray:
    """Coverage of thin lines at the integers."""
    return np.clip((half + blur / 2 - np.abs(x - np.round(x))) / blur, 0, np.minimum(1, 2 * half / blur))


def _plain(p: Patch) -> tuple[np.ndarray, np.ndarray]:
    mottle = 0.95 + 0.1 * value_noise(p.noise, p.x * 2.3, p.y * 2.3)
    return np.zeros_like(p.x), mottle


def _stripes(p: Patch) -> tuple[np.ndarray, np.ndarray]:
    return _square(p.x, p.blur), np.ones_like(p.x)


def _checker(p: Patch) -> tuple[np.ndarray, np.ndarray]:
    mix = 0.5 + 0.5 * (2 * _square(p.x / 2, p.blur) - 1) * (2 * _square(p.y / 2, p.blur) - 1)
    return mix, 0.9 + 0.2 * value_noise(p.noise, p.x * 3, p.y * 3)


def _tiles(p: Patch) -> tuple[np.ndarray, np.ndarray]:
    grout = np.maximum(_line(p.x, p.blur, 0.025), _line(p.y, p.blur, 0.025))
    tone = 0.35 * _cell(p.noise, p.x + 0.5, p.y + 0.5) * _fade(p.blur / 2)
    return np.maximum(tone, grout), 1 - 0.25 * grout


def _planks(p: Patch) -> tuple[np.ndarray, np.ndarray]:
    row = np.floor(p.y)
    along = p.x / 9 + 7 * _cell(p.noise, row, row * 0 + 3)
    tone = _cell(p.noise, np.floor(along) * 5 + 0.5, row + 0.5)
    grain = value_noise(p.noise, p.x * 0.8 + 9 * tone, p.y * 7)
    seam = np.maximum(_line(p.y, p.blur, 0.025), _line(along, p.blur / 9, 0.003))
    mix = 0.65 * tone + 0.35 * (0.5 + (grain - 0.5) * _fade(p.blur * 3))
    return mix, 1 - 0.55 * seam


def _wood(p: Patch) -> tuple[np.ndarray, np.ndarray]:
    bend = value_noise(p.noise, p.x * 0.35, p.y * 0.5)
    rings = 0.5 + 0.5 * np.sin(6.2832 * (p.y * 0.9 + 2.2 * bend))
    fibre = value_noise(p.noise, p.x * 0.7, p.y * 9)
    mix = 0.5 + (0.55 * rings + 0.45 * fibre - 0.5) * _fade(p.blur)
    return mix, np.ones_like(mix)


def _cloud(p: Patch) -> tuple[np.ndarray, np.ndarray]:
    mix = 0.6 * value_noise(p.noise, p.x, p.y) + 0.4 * value_noise(p.noise, p.x * 2.7 + 11, p.y * 2.7 + 5)
    return 0.5 + (np.clip(2.2 * mix - 0.6, 0, 1) - 0.5) * _fade(p.blur), np.ones_like(mix)


def _dots(p: Patch) -> tuple[np.ndarray, np.ndarray]:
    shifted = p.x + 0.5 * (np.floor(p.y).astype(np.int32) & 1)
    distance = np.hypot(shifted - np.floor(shifted) - 0.5, p.y - np.floor(p.y) - 0.5)
    mix = np.clip((0.27 - distance) / p.blur + 0.5, 0, 1)
    return 0.23 + (mix - 0.23) * _fade(p.blur), np.ones_like(mix)


def _plaid(p: Patch) -> tuple[np.ndarray, np.ndarray]:
    fine = _line(p.x + 0.5, p.blur, 0.03) + _line(p.y + 0.5, p.blur, 0.03)
    mix = 0.45 * (_square(p.x, p.blur) + _square(p.y, p.blur)) + 0.3 * fine
    return np.minimum(mix, 1), np.ones_like(mix)


def _damask(p: Patch) -> tuple[np.ndarray, np.ndarray]:
    wave = np.sin(6.2832 * p.x) * np.sin(6.2832 * p.y) + 0.45 * np.cos(12.5664 * p.x) * np.cos(6.2832 * p.y)
    mix = np.clip(wave / (0.12 + 4 * p.blur) + 0.3, 0, 1)
    return 0.45 + (mix - 0.45) * _fade(p.blur), np.ones_like(mix)


def _leafy(p: Patch) -> tuple[np.ndarray, np.ndarray]:
    """Leaves strewn one to a cell, each turned its own way."""
    turn = 6.2832 * _cell(p.noise, p.x, p.y)
    dx, dy = p.x - np.floor(p.x) - 0.5, p.y - np.floor(p.y) - 0.5
    c, s = np.cos(turn), np.sin(turn)
    along, across = dx * c + dy * s, dy * c - dx * s
    leaf = 1 - np.square(along / 0.44) - np.abs(across) / 0.17
    mix = np.clip(leaf / (0.1 + 5 * p.blur) + 0.5, 0, 1) * (1 - 0.6 * _line(across, p.blur, 0.012))
    return 0.25 + (mix - 0.25) * _fade(p.blur), np.ones_like(mix)


def _pick(p: Patch, draw: np.ndarray) -> np.ndarray:
    return p.colours.take((draw * p.colours.shape[1]).astype(np.int32), axis=1, mode="clip")


def _spines(p: Patch, _a: np.ndarray, _b: np.ndarray) -> np.ndarray:
    """A row of book spines of uneven width, some with a title band."""
    cell = np.floor(p.x)
    border = 0.7 * _cell(p.noise, cell, p.phase)
    book = cell - (p.x - cell < border)
    draw, other = _cell(p.noise, book * 3 + 1, p.phase), _cell(p.noise, book * 5 + 2, p.phase + 7)
    colour = _pick(p, draw) * (0.55 + 0.7 * other)
    band = (np.abs(p.up - 1.4 * other + 0.4) < 0.12) & (draw * 7 % 1 > 0.4)
    colour = np.where(band, 0.25 + 0.6 * colour[::-1], colour)
    gap = np.clip((0.08 + p.blur - np.abs(p.x - cell - border)) / (2 * p.blur), 0, np.minimum(1, 0.08 / p.blur))
    return np.minimum(colour * (1 - 0.7 * gap), 0.95)


def _art(p: Patch, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A landscape or an abstract: a graded ground and up to five discs, slabs or hills."""
    ground = a + (b - a) * np.clip(0.5 + 0.5 * p.up, 0, 1)
    for layer in range(5):
        draws = [_cell(p.noise, p.phase + 8 * layer, p.phase * 3 + k) for k in range(6)]
        colour = _pick(p, draws[0]) * (0.6 + 0.6 * draws[5])
        dx, dy = p.across - (1.6 * draws[1] - 0.8), p.up - (1.6 * draws[2] - 0.8)
        disc = 0.15 + 0.5 * draws[3] - np.hypot(dx, dy)
        slab = np.minimum(0.1 + 0.5 * draws[3] - np.abs(dx), 0.08 + 0.6 * draws[4] - np.abs(dy))
        hill = 0.25 * np.sin(4 * draws[3] * p.across + 6 * draws[4]) - dy - 0.35
        shape = np.where(draws[5] < 0.35, disc, np.where(draws[5] < 0.65, slab, hill))
        cover = np.clip(shape / (p.blur * 2 + 0.01) + 0.5, 0, 1)
        ground = ground + (np.minimum(colour, 0.95) - ground) * cover
    return ground


def _view(p: Patch, _a: np.ndarray, _b: np.ndarray) -> np.ndarray:
    """What a window shows: sky, clouds, and trees or roofs; `angle` tells day from night."""
    height = 0.5 + 0.5 * p.up
    day = np.clip(p.angle, 0, 1)
    cloud = np.clip(2.5 * value_noise(p.noise, p.x * 2.2, p.y * 5) - 1.1, 0, 1)
    low, high = np.array([[0.75], [0.8], [0.85]], np.float32), np.array([[0.3], [0.5], [0.82]], np.float32)
    sky = low + (high - low) * height
    sky = sky + (np.float32(0.9) - sky) * cloud
    town = _cell(p.noise, p.phase, p.phase) < 0.45
    roofs = 0.15 + 0.4 * _cell(p.noise, p.x * 5, p.phase)
    trees = 0.12 + 0.4 * value_noise(p.noise, p.x * 2.5, p.phase) + 0.08 * value_noise(p.noise, p.x * 14, p.phase)
    line = np.where(town, roofs, trees)
    cover = np.clip((line - height) / (p.blur * 2 + 0.02) + 0.5, 0, 1)
    leaves = value_noise(p.noise, p.x * 15, p.y * 15)
    wood = np.array([[0.12], [0.2], [0.07]], np.float32) * (0.5 + leaves)
    stone = np.array([[0.4], [0.33], [0.28]], np.float32) * (0.6 + 0.6 * _cell(p.noise, p.x * 5, p.phase + 9))
    shown = sky + (np.where(town, stone, wood) - sky) * cover
    dusk = np.array([[1.0], [0.6], [0.35]], np.float32)
    return shown * (day + (1 - day) * (dusk * (1 - height) + 0.3 * height))


_PATTERNS: dict[int, Callable[[Patch], tuple[np.ndarray, np.ndarray]]] = {
    Texture.PLAIN: _plain,
    Texture.STRIPES: _stripes,
    Texture.CHECKER: _checker,
    Texture.TILES: _tiles,
    Texture.PLANKS: _planks,
    Texture.WOOD: _wood,
    Texture.CLOUD: _cloud,
    Texture.DOTS: _dots,
    Texture.PLAID: _plaid,
    Texture.DAMASK: _damask,
    Texture.LEAFY: _leafy,
}
_PAINTED: dict[int, Callable[[Patch, np.ndarray, np.ndarray], np.ndarray]] = {
    Texture.SPINES: _spines,
    Texture.ART: _art,
    Texture.VIEW: _view,
}
