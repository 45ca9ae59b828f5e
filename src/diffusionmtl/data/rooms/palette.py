"""Colours and materials: what a scene's things may be made of.

Nothing here knows a class: a bed, a curtain and a shirt draw from the same cloth, a wall may be as red as a sofa.
Colours are linear RGB in [0, 1]; they are listed as sRGB hex because that is how people pick them.
"""

import colorsys
import random
from enum import IntEnum
from typing import NamedTuple, TypeAlias

Colour: TypeAlias = tuple[float, float, float]


class Texture(IntEnum):
    """Pattern of a surface; each mixes the surface's colours `a` and `b`, save the last four, which paint pictures."""

    PLAIN = 0
    STRIPES = 1
    CHECKER = 2
    TILES = 3
    PLANKS = 4
    WOOD = 5
    CLOUD = 6
    DOTS = 7
    PLAID = 8
    DAMASK = 9
    SPINES = 10
    ART = 11
    VIEW = 12
    LEAFY = 13


class Surface(NamedTuple):
    """Material of one solid or one face of the room.

    `scale` is the size of one repeat in metres, `angle` turns the pattern (radians), `contrast` blends it in, `phase`
    shifts it (and seeds the painted kinds), `gloss` is the strength of the highlight, `glow` the light given off.
    """

    texture: Texture
    a: Colour
    b: Colour
    scale: float = 1.0
    angle: float = 0.0
    contrast: float = 1.0
    phase: float = 0.0
    gloss: float = 0.0
    glow: float = 0.0


_PALETTES = (
    ("e8e4dc", "c9b79c", "8a9a8b", "4a5a63", "d98f6c", "2f3437"),
    ("e3c9a0", "b5651d", "37605e", "d9a441", "8c3b2a", "f1ead9"),
    ("f4f1ea", "a7c4c9", "52798c", "e6c79c", "24465c", "d96c4f"),
    ("ece2d0", "d5b9b2", "a26769", "6d2e46", "582c4d", "c8b8a0"),
    ("fefae0", "dda15e", "bc6c25", "606c38", "283618", "e9c9a1"),
    ("f7ede2", "f5cac3", "84a59d", "f28482", "f6bd60", "5b6c7d"),
    ("edf2f4", "8d99ae", "2b2d42", "c1292e", "e0a458", "bfc6cf"),
    ("e0e1dd", "778da9", "415a77", "1b263b", "c9ada7", "b08968"),
    ("faf3dd", "c8d5b9", "8fc0a9", "68b0ab", "4a7c59", "d08c60"),
    ("f2e9e4", "c9ada7", "9a8c98", "4a4e69", "22223b", "e5b181"),
    ("fff8e8", "f7b267", "f4845f", "b23a48", "5c3d5e", "cfd8c0"),
    ("e9ecef", "adb5bd", "6c757d", "343a40", "e9c46a", "2a9d8f"),
    ("f3e9dc", "c08552", "895737", "5e3023", "9caf88", "36454f"),
    ("eae4f2", "b8a1d9", "7d6b91", "3e3657", "e8a87c", "9fc2b2"),
)
_WOODS = (
    ("d8b98a", "b08958"),
    ("e8cfa0", "c79a5b"),
    ("7a5236", "4e3323"),
    ("9c5a3c", "6e3826"),
    ("4a3a32", "2c211c"),
    ("b9b0a3", "8f867a"),
    ("e5ddd0", "cfc4b3"),
    ("b5834a", "8a5a2b"),
)
_SKINS = ("f1c9a8", "e8b48f", "d49a6a", "b97a4b", "8d5a3a", "633f2a", "4a2f21", "f4d6c0")
_HAIRS = ("1c1512", "2e1f17", "4a2f1d", "70492a", "a3713d", "d0a867", "8d8a87", "d8d5d0", "7b3320")
_WHITE: Colour = (0.85, 0.84, 0.82)


def linear(code: str) -> Colour:
    """An sRGB hex code as linear RGB."""
    r, g, b = (((int(code[i : i + 2], 16) / 255 + 0.055) / 1.055) ** 2.4 for i in (0, 2, 4))
    return r, g, b


class Style:
    """The taste of one scene: a palette, a few woods, and draws of materials from them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.colours = [linear(code) for code in rng.choice(_PALETTES)]
        if rng.random() < 0.5:
            self.colours += [linear(code) for code in rng.sample(rng.choice(_PALETTES), 3)]
        self.woods = rng.sample(_WOODS, 2)

    def colour(self) -> Colour:
        """A colour of the palette, nudged; one in six comes from anywhere."""
        rng = self.rng
        if rng.random() < 0.16:
            return colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.05, 0.75), rng.uniform(0.05, 0.8))
        return self.nudge(rng.choice(self.colours))

    def nudge(self, colour: Colour, amount: float = 0.12) -> Colour:
        """The colour, a little lighter or darker, warmer or cooler."""
        uniform = self.rng.uniform
        gain, warm = 1 + uniform(-2 * amount, amount), uniform(-amount, amount) / 2
        r, g, b = colour
        return min(r * gain * (1 + warm), 0.95), min(g * gain, 0.95), min(b * gain * (1 - warm), 0.95)

    def wood(self, grain: Texture = Texture.WOOD) -> Surface:
        """Timber of one of the scene's kinds, with its grain along the longer side."""
        rng = self.rng
        light, dark = (self.nudge(linear(code)) for code in rng.choice(self.woods))
        scale = rng.uniform(0.05, 0.12) if grain is Texture.WOOD else rng.uniform(0.09, 0.2)
        return Surface(grain, light, dark, scale, 0, rng.uniform(0.4, 1), rng.random() * 64, rng.choice((0, 0.1, 0.3)))

    def paint(self) -> Surface:
        """One colour, matt or lacquered."""
        return Surface(
            Texture.PLAIN,
            self.colour(),
            self.colour(),
            phase=self.rng.random() * 64,
            gloss=self.rng.choice((0, 0.05, 0.25)),
        )

    def cloth(self) -> Surface:
        """Fabric: plain, striped, dotted, checked or mottled."""
        rng = self.rng
        kinds = (
            Texture.PLAIN,
            Texture.CLOUD,
            Texture.STRIPES,
            Texture.PLAID,
            Texture.DOTS,
            Texture.DAMASK,
            Texture.CHECKER,
        )
        kind = rng.choices(kinds, (8, 5, 3, 2, 1.5, 1, 0.7))[0]
        angle = rng.choice((0, 0, 1.5708, 0.785))
        return Surface(
            kind, self.colour(), self.colour(), rng.uniform(0.04, 0.22), angle, rng.uniform(0.25, 1), rng.random() * 64
        )

    def joinery(self) -> Surface:
        """What furniture is built of: timber or paint."""
        pick = self.rng.random()
        if pick < 0.55:
            return self.wood()
        return self.paint() if pick < 0.85 else Surface(Texture.PLAIN, self.nudge(_WHITE), _WHITE, gloss=0.1)

    def metal(self) -> Surface:
        """Steel, brass or black iron."""
        shade = self.rng.choice(((0.45, 0.45, 0.47), (0.5, 0.36, 0.16), (0.03, 0.03, 0.035), (0.7, 0.7, 0.72)))
        return Surface(Texture.PLAIN, shade, shade, gloss=0.9)

    def glazed(self) -> Surface:
        """Ceramic, plastic or glass in any colour."""
        return Surface(Texture.PLAIN, self.colour(), self.colour(), gloss=self.rng.uniform(0.2, 0.8))

    def walling(self) -> Surface:
        """Wall finish: paint of any colour, wallpaper, tiles, brick or panelling."""
        rng = self.rng
        kinds = (
            Texture.PLAIN,
            Texture.CLOUD,
            Texture.STRIPES,
            Texture.DAMASK,
            Texture.DOTS,
            Texture.TILES,
            Texture.PLANKS,
            Texture.LEAFY,
        )
        kind = rng.choices(kinds, (9, 3, 2.5, 2, 1, 1, 1.2, 1.2))[0]
        a = _WHITE if rng.random() < 0.25 else self.colour()
        b = self.nudge(a, 0.25) if rng.random() < 0.6 else self.colour()
        scale, contrast = rng.uniform(0.12, 0.5), rng.uniform(0.15, 0.35 if kind is Texture.CLOUD else 0.9)
        if kind is Texture.PLANKS:
            return (
                self.wood(kind)
                if rng.random() < 0.5
                else Surface(kind, a, b, rng.uniform(0.07, 0.2), 0, 1, rng.random() * 64)
            )
        return Surface(kind, self.nudge(a), b, scale, 0, contrast, rng.random() * 64)

    def flooring(self) -> Surface:
        """Floor finish: boards, tiles, chequered stone, carpet or concrete."""
        rng = self.rng
        kind = rng.choices(
            (Texture.PLANKS, Texture.TILES, Texture.CHECKER, Texture.CLOUD, Texture.PLAIN), (6, 3, 1.2, 2, 1)
        )[0]
        if kind is Texture.PLANKS:
            return self.wood(kind)._replace(angle=rng.choice((0, 1.5708)))
        a = self.colour()
        b = self.nudge(a, 0.3) if rng.random() < 0.6 else self.colour()
        angle = rng.choice((0, 0, 0.785))
        return Surface(
            kind, a, b, rng.uniform(0.25, 0.6), angle, rng.uniform(0.3, 1), rng.random() * 64, rng.choice((0, 0.2, 0.5))
        )

    def painted(self, kind: Texture, scale: float = 1.0, glow: float = 0.0) -> Surface:
        """A surface that shows a picture of its own: book spines, art, a view."""
        return Surface(kind, self.colour(), self.colour(), scale, phase=self.rng.random() * 64, glow=glow)

    def skin(self) -> Surface:
        """Human skin."""
        tone = self.nudge(linear(self.rng.choice(_SKINS)), 0.08)
        return Surface(Texture.PLAIN, tone, tone, gloss=0.06)

    def hair(self) -> Surface:
        """Human hair."""
        tone = self.nudge(linear(self.rng.choice(_HAIRS)), 0.1)
        return Surface(Texture.WOOD, tone, tone, 0.03, gloss=0.1)
