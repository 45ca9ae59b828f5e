"""Small things: what stands on tables, shelves and floors."""

import math

from diffusionmtl.data.rooms.palette import Style, Surface, Texture
from diffusionmtl.data.rooms.parts import Axes, Casts, Number, Piece, Solid, Thing, ball, block, box, drum, limb, turned

_LEAVES = ((0.05, 0.16, 0.03), (0.09, 0.22, 0.06), (0.03, 0.1, 0.05), (0.16, 0.24, 0.05), (0.2, 0.06, 0.08))


def tabletop(style: Style, w: Number, d: Number, z: Number, most: int) -> list[Thing]:
    """Up to `most` things within |x| <= w, |y| <= d at height z."""
    rng = style.rng
    found: list[Thing] = []
    slots = max(1, min(most, int(w / 0.14)))
    for i in range(slots):
        if rng.random() < 0.35:
            continue
        x, y = -w + 2 * w * (i + rng.uniform(0.3, 0.7)) / slots, rng.uniform(-d, d) * 0.7
        size = min(w / slots, d, 0.16)
        pick = rng.random()
        if pick < 0.2:
            found.append(Thing("books", book_pile(style, x, y, z)))
        elif pick < 0.3 and size > 0.1:
            found += table_lamp(style, x, y, z)
        elif pick < 0.4 and size > 0.1:
            found.append(Thing("objects", laptop(style, x, y, z)))
        elif pick < 0.5:
            found += plant(style, x, y, z, rng.uniform(0.2, 0.4))[0]
        else:
            found += ornament(style, x, y, z, size * 0.7, 0.35)
    return found


def ornament(style: Style, x: Number, y: Number, z: Number, radius: Number, room: Number) -> list[Thing]:
    """A vase, bowl, cup, ball, bottle or box no wider than `radius` and no taller than `room`."""
    rng = style.rng
    skin = style.glazed() if rng.random() < 0.7 else style.wood()
    r, h = radius * rng.uniform(0.6, 1), min(room, rng.uniform(0.12, 0.34))
    kind = rng.randrange(6)
    if kind == 0:
        solids = [
            ball((x, y, z + h * 0.35), (r * 0.8, r * 0.8, h * 0.35), skin),
            drum(x, y, (z + h * 0.6, z + h), r * 0.35, skin, 1.3),
        ]
    elif kind == 1:
        solids = [drum(x, y, (z, z + h * 0.4), r * 0.5, skin, 2.0)]
        fruit = style.glazed()
        solids += [
            ball((x + r * 0.45 * math.cos(a), y + r * 0.45 * math.sin(a), z + h * 0.42), r * 0.36, fruit)
            for a in (0, 2.1, 4.2)
        ]
    elif kind == 2:
        solids = [
            drum(x, y, (z, z + 0.1), 0.045, skin, 1.15),
            block((x + 0.055, y, z + 0.05), (0.02, 0.012, 0.06), skin),
        ]
    elif kind == 3:
        solids = [ball((x, y, z + min(r, h / 2)), min(r, h / 2), skin)]
    elif kind == 4:
        solids = [drum(x, y, (z, z + h * 0.6), 0.04, skin), drum(x, y, (z + h * 0.6, z + h), 0.036, skin, 0.4)]
    else:
        solids = [block((x, y, z + h * 0.3), (1.3 * r, r, h * 0.6), style.cloth(), axes=turned(rng.uniform(-0.6, 0.6)))]
    return [Thing("objects", solids)]


def book_pile(style: Style, x: Number, y: Number, z: Number) -> list[Solid]:
    """A pile of lying books."""
    rng, solids = style.rng, []
    for _ in range(rng.randint(1, 4)):
        thick = rng.uniform(0.018, 0.045)
        cover = style.painted(Texture.ART, 0.2) if rng.random() < 0.3 else style.paint()
        size = (rng.uniform(0.15, 0.24), rng.uniform(0.12, 0.18), thick)
        solids.append(block((x, y, z + thick / 2), size, cover, axes=turned(rng.uniform(-0.5, 0.5))))
        z += thick
    return solids


def laptop(style: Style, x: Number, y: Number, z: Number) -> list[Solid]:
    """An open laptop computer that faces +y."""
    case, shown = style.metal(), style.painted(Texture.ART, 0.2, glow=0.4)
    tilt = style.rng.uniform(0.1, 0.4)
    c, s = math.cos(tilt), math.sin(tilt)
    lean: Axes = ((1, 0, 0), (0, c, s), (0, -s, c))
    lid = block((x, y - 0.11 - s * 0.1, z + c * 0.11), (0.3, 0.012, 0.21), case, axes=lean)
    panel = block((x, y - 0.103 - s * 0.1, z + c * 0.11), (0.28, 0.01, 0.19), shown, axes=lean)
    return [block((x, y, z + 0.01), (0.3, 0.21, 0.02), case), lid, panel]


def screen(style: Style, x: Number, y: Number, z: Number, width: Number, hung: bool = False) -> list[Thing]:
    """A television or monitor `width` metres wide, on a foot at height z or hung with its middle there."""
    rng, case = style.rng, Surface(Texture.PLAIN, (0.02, 0.02, 0.022), (0.02, 0.02, 0.022), gloss=0.4)
    tall = width * 0.58
    middle = z if hung else z + 0.08 + tall / 2
    dark = Surface(Texture.PLAIN, (0.012, 0.013, 0.016), (0.03, 0.03, 0.03), gloss=0.8)
    shown = style.painted(Texture.ART, width / 2, glow=rng.uniform(0.4, 1.0)) if rng.random() < 0.5 else dark
    solids = [
        block((x, y, middle), (width, 0.05, tall), case),
        block((x, y + 0.021, middle), (width - 0.04, 0.014, tall - 0.04), shown),
    ]
    if not hung:
        solids += [
            block((x, y, z + 0.05), (0.06, 0.03, 0.1), case),
            block((x, y, z + 0.008), (width * 0.4, 0.16, 0.016), case),
        ]
    return [Thing("tv", solids, standing=True)]


def table_lamp(style: Style, x: Number, y: Number, z: Number) -> list[Thing]:
    """A lamp on a ceramic or metal foot."""
    rng = style.rng
    foot = style.glazed() if rng.random() < 0.6 else style.metal()
    shade = style.cloth()._replace(glow=rng.choice((0, 0.6, 1.2)))
    stem = rng.uniform(0.16, 0.26)
    solids = [ball((x, y, z + stem * 0.4), (0.06, 0.06, stem * 0.4), foot), drum(x, y, (z, z + stem), 0.015, foot)]
    solids.append(
        drum(x, y, (z + stem - 0.02, z + stem + 0.16), 0.12, shade, rng.uniform(0.5, 0.9), casts=Casts.NOTHING)
    )
    return [Thing("objects", solids)]


def plant(style: Style, x: Number, y: Number, z: Number, height: Number) -> tuple[list[Thing], Number]:
    """A plant in a pot and how wide it is."""
    rng = style.rng
    pot, tone = style.glazed(), style.nudge(rng.choice(_LEAVES), 0.2)
    leaf = Surface(Texture.CLOUD, tone, style.nudge(tone, 0.4), 0.05, contrast=0.9, phase=rng.random() * 64, gloss=0.1)
    base, r = z + height * 0.25, height * 0.13
    solids = [drum(x, y, (z, base), r, pot, rng.uniform(1.1, 1.5))]
    kind, turn = rng.randrange(3), rng.random() * 6.28
    for i in range(9 if kind == 0 else 7):
        a, out = turn + i * 2.4, rng.uniform(0.5, 1)
        cx, cy = math.cos(a), math.sin(a)
        if kind == 0:
            tip = (x + cx * height * 0.3 * out, y + cy * height * 0.3 * out, z + height * rng.uniform(0.6, 1))
            solids.append(limb((x, y, base), tip, height * 0.022, leaf))
        else:
            reach, tall = height * (0.16 if kind == 1 else 0.12), z + height * rng.uniform(0.5, 0.92)
            centre = (x + cx * reach * out, y + cy * reach * out, tall)
            solids.append(
                ball(centre, (height * 0.14, height * 0.09, height * rng.uniform(0.08, 0.15)), leaf, axes=turned(a))
            )
    if kind:
        solids.append(drum(x, y, (base, z + height * 0.6), height * 0.015, style.wood()))
    return [Thing("objects", solids, standing=height > 0.5)], height * 0.62


def floor_object(style: Style) -> Piece:
    """Something on the floor."""
    rng, kind = style.rng, style.rng.randrange(6)
    if kind == 0:
        r = rng.uniform(0.1, 0.32)
        return _alone([ball((0, 0, r), r, style.cloth())], 2 * r)
    if kind == 1:
        r, h = rng.uniform(0.15, 0.28), rng.uniform(0.25, 0.5)
        return _alone(
            [drum(0, 0, (0, h), r, style.wood() if rng.random() < 0.5 else style.cloth(), rng.uniform(0.9, 1.3))], 2 * r
        )
    if kind == 2:
        w, d, h = rng.uniform(0.25, 0.5), rng.uniform(0.2, 0.4), rng.uniform(0.2, 0.5)
        lower = block((0, 0, h / 2), (w, d, h), style.cloth())
        upper = block(
            (0.03, 0, h + h * 0.3), (w * 0.7, d * 0.8, h * 0.6), style.paint(), axes=turned(rng.uniform(-0.7, 0.7))
        )
        return _alone([lower, upper][: rng.randint(1, 2)], max(w, d))
    if kind == 3:
        w, h = rng.uniform(0.35, 0.5), rng.uniform(0.5, 0.7)
        handle = box((-0.1, 0.1), (-0.01, 0.01), (h, h + 0.1), style.metal())
        return _alone([box((-w / 2, w / 2), (-0.11, 0.11), (0.03, h), style.glazed()), handle], w)
    if kind == 4:
        r, h = rng.uniform(0.22, 0.32), rng.uniform(0.3, 0.45)
        return _alone([ball((0, 0, h / 2), (r, r, h / 2), style.cloth())], 2 * r)
    return Piece([Thing("books", book_pile(style, 0, 0, 0), standing=True)], 0.3, 0.3, 0.15)


def _alone(solids: list[Solid], width: Number) -> Piece:
    return Piece([Thing("objects", solids, standing=True)], width, width, 0.5)
