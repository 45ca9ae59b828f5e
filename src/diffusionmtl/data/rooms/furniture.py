"""Furniture: each function builds one piece in the given style."""

import math

from diffusionmtl.data.rooms import things
from diffusionmtl.data.rooms.palette import Style, Texture
from diffusionmtl.data.rooms.parts import Casts, Number, Piece, Solid, Thing, ball, block, box, drum, limb


def bed(style: Style) -> Piece:
    """A single or double bed with blanket and pillows; the pillow end is the back."""
    rng = style.rng
    width, depth = rng.choice((0.9, 1.2, 1.4, 1.6, 1.8)), rng.uniform(1.95, 2.1)
    base, top = rng.uniform(0.18, 0.32), rng.uniform(0.42, 0.6)
    w, d = width / 2, depth / 2
    frame, sheet, blanket = style.joinery(), style.cloth(), style.cloth()
    solids = [
        box((-w, w), (-d, d), (0.06, base), frame),
        box((-w + 0.02, w - 0.02), (-d + 0.05, d - 0.03), (base, top), sheet),
    ]
    solids.append(box((-w - 0.02, w + 0.02), (-d + rng.uniform(0.5, 1.1), d), (base - 0.08, top + 0.035), blanket))
    if rng.random() < 0.8:
        solids.append(
            box(
                (-w, w),
                (-d - 0.02, -d + 0.05),
                (0, rng.uniform(0.75, 1.25)),
                style.cloth() if rng.random() < 0.4 else frame,
            )
        )
    if rng.random() < 0.35:
        solids.append(box((-w, w), (d, d + 0.04), (0, rng.uniform(0.45, 0.7)), frame))
    cloth = style.cloth()
    pillows = []
    for x in (0.0,) if width < 1.3 else (-width / 4, width / 4):
        pillows.append(ball((x, -d + 0.3, top + 0.07), (min(0.33, width * 0.22), 0.2, 0.09), cloth))
    parts = [Thing("bed", solids, standing=True)] + [Thing("bed", [pillow]) for pillow in pillows]
    seats = [(rng.uniform(-w / 2, w / 2), d - 0.1, top)]
    return Piece(parts, width, depth + 0.06, top, seats, couch=(top + 0.04, -d + 0.3))


def sofa(style: Style, width: Number | None = None) -> Piece:
    """A sofa, or an armchair when narrow."""
    rng = style.rng
    width = width or rng.choice((0.85, 1.5, 1.8, 2.1))
    depth, seat, back = rng.uniform(0.8, 0.95), rng.uniform(0.38, 0.46), rng.uniform(0.72, 0.95)
    w, d, arm, rest = width / 2, depth / 2, rng.uniform(0.1, 0.22), rng.uniform(0.52, 0.68)
    cover = style.cloth()
    cushion = cover if rng.random() < 0.6 else style.cloth()
    foot = rng.choice((0.0, 0.06, 0.14))
    solids = [
        box((-w, w), (-d, d - 0.04), (foot, seat - 0.13), cover),
        box((-w, w), (-d, -d + 0.2), (foot, back), cover),
    ]
    round_arms = rng.random() < 0.4
    for side in (-1, 1):
        x = side * (w - arm / 2)
        solids.append(block((x, 0, (foot + rest) / 2), (arm, depth, rest - foot), cover))
        if round_arms:
            solids.append(limb((x, -d + 0.08, rest), (x, d - 0.08, rest), arm / 2 + 0.02, cover))
    places = max(1, round((width - 2 * arm) / 0.65))
    pitch = (width - 2 * arm) / places
    middles = [-w + arm + pitch * (i + 0.5) for i in range(places)]
    for x in middles:
        solids.append(block((x, 0.08, seat - 0.06), (pitch - 0.015, depth - 0.18, 0.14), cushion))
    if foot > 0:
        solids += _legs(w - 0.06, d - 0.06, foot + 0.01, 0.025, style.metal())
    parts = [Thing("sofa", solids, standing=True)]
    for x in middles:
        if rng.random() < 0.35:
            parts.append(Thing("sofa", [_cushion(style, x, -d + 0.3, seat + 0.2)]))
    return Piece(parts, width, depth, back, [(x, 0.1, seat) for x in middles])


def _cushion(style: Style, x: Number, y: Number, z: Number) -> Solid:
    tilt = style.rng.uniform(0.15, 0.4)
    c, s = math.cos(tilt), math.sin(tilt)
    return ball((x, y, z), (0.21, 0.085, 0.2), style.cloth(), axes=((1, 0, 0), (0, c, s), (0, -s, c)))


def _legs(x: Number, y: Number, height: Number, radius: Number, surface, top: Number = 1.3) -> list[Solid]:
    return [drum(a * x, b * y, (0, height), radius, surface, top) for a in (-1, 1) for b in (-1, 1)]


def chair(style: Style) -> Piece:
    """A dining chair, stool, shell chair or office chair."""
    rng = style.rng
    kind = rng.choices(("dining", "shell", "office", "stool"), (5, 2, 2, 1))[0]
    seat, back = rng.uniform(0.43, 0.49), rng.uniform(0.8, 1.05)
    wood = style.joinery() if rng.random() < 0.7 else style.metal()
    cover = style.cloth() if rng.random() < 0.5 else wood
    size = rng.uniform(0.4, 0.48)
    h = size / 2
    solids: list[Solid] = []
    if kind == "stool":
        solids += [drum(0, 0, (seat, seat + 0.05), h * 0.85, cover), *_legs(h * 0.55, h * 0.55, seat, 0.02, wood)]
        back = seat
    elif kind == "office":
        solids += [drum(0, 0, (0.02, 0.07), 0.28, style.metal(), 0.3), drum(0, 0, (0.06, seat), 0.03, style.metal())]
        solids += [
            drum(0, 0, (seat - 0.03, seat + 0.05), h, cover),
            block((0, -h, (seat + back) / 2 + 0.1), (0.42, 0.07, 0.5), cover),
        ]
        solids.append(limb((0, -h, seat), (0, -h - 0.04, seat + 0.2), 0.025, wood))
    elif kind == "shell":
        solids += [ball((0, 0, seat), (h, h, 0.05), cover), ball((0, -h + 0.03, seat + 0.22), (h, 0.05, 0.25), cover)]
        solids += _legs(h * 0.7, h * 0.7, seat, 0.014, wood)
        back = seat + 0.45
    else:
        solids += [
            block((0, 0, seat - 0.02), (size, size, rng.choice((0.04, 0.08))), cover),
            *_legs(h - 0.03, h - 0.03, seat, 0.017, wood),
        ]
        solids += [
            limb((s * (h - 0.03), -h + 0.03, seat), (s * (h - 0.03), -h - 0.03, back), 0.018, wood) for s in (-1, 1)
        ]
        solids += _chair_back(style, h, seat, back, wood, cover)
    return Piece([Thing("chair", solids, standing=True)], size, size + 0.08, back, [(0.0, 0.02, seat + 0.04)])


def _chair_back(style: Style, h: Number, seat: Number, back: Number, wood, cover) -> list[Solid]:
    kind = style.rng.choice(("panel", "ladder", "slats"))
    if kind == "panel":
        return [block((0, -h - 0.01, back - 0.16), (2 * h - 0.05, 0.03, 0.32), cover)]
    if kind == "ladder":
        heights = (back - 0.04, back - 0.18, back - 0.32)
        return [block((0, -h, z), (2 * h - 0.05, 0.022, 0.06), wood) for z in heights if z > seat + 0.08]
    slats = [limb((x * h, -h + 0.02, seat), (x * h, -h - 0.02, back - 0.03), 0.011, wood) for x in (-0.5, 0, 0.5)]
    return [*slats, block((0, -h - 0.02, back - 0.03), (2 * h, 0.03, 0.07), wood)]


def table(style: Style, kind: str = "dining") -> Piece:
    """A table with things on it; `kind` is dining, coffee, desk or side."""
    rng = style.rng
    low, high = {"dining": (0.72, 0.77), "coffee": (0.34, 0.46), "desk": (0.71, 0.77), "side": (0.45, 0.6)}[kind]
    z = rng.uniform(low, high)
    w, d = {"dining": (1.5, 0.85), "coffee": (1.0, 0.58), "desk": (1.3, 0.65), "side": (0.48, 0.45)}[kind]
    w, d = w * rng.uniform(0.75, 1.2) / 2, d * rng.uniform(0.85, 1.1) / 2
    top, under = style.joinery(), style.joinery() if rng.random() < 0.6 else style.metal()
    round_top = kind != "desk" and rng.random() < 0.35
    if round_top:
        w = d = max(d, w * 0.75)
        solids = [drum(0, 0, (z - 0.04, z), w, top)]
        if rng.random() < 0.6:
            solids += [drum(0, 0, (0.03, z), 0.04, under), drum(0, 0, (0, 0.05), w * 0.5, under, 0.6)]
        else:
            solids += _legs(w * 0.6, w * 0.6, z, 0.022, under)
    else:
        solids = [box((-w, w), (-d, d), (z - rng.uniform(0.025, 0.06), z), top)]
        solids += _table_feet(style, w, d, z, under, kind)
    spread = 0.6 if round_top else 0.85
    parts = [
        Thing("table", solids, standing=True),
        *things.tabletop(style, w * spread, d * spread, z, 1 if kind == "side" else 4),
    ]
    if kind == "desk" and rng.random() < 0.45:
        parts += things.screen(style, 0, -d + 0.15, z, rng.uniform(0.5, 0.65))
    return Piece(parts, 2 * w, 2 * d, z)


def _table_feet(style: Style, w: Number, d: Number, z: Number, under, kind: str) -> list[Solid]:
    rng = style.rng
    if kind == "desk" and rng.random() < 0.5:
        drawers = box((w - 0.42, w - 0.02), (-d + 0.03, d - 0.03), (0.04, z - 0.02), under)
        lines = [block((w - 0.22, d - 0.025, 0.2 + i * 0.2), (0.12, 0.03, 0.02), style.metal()) for i in range(3)]
        return [drawers, *lines, *_legs(w - 0.05, d - 0.05, z, 0.025, under)[:2]]
    if rng.random() < 0.3:
        return [
            box((s * (w - 0.06) - 0.02, s * (w - 0.06) + 0.02), (-d + 0.04, d - 0.04), (0, z - 0.02), under)
            for s in (-1, 1)
        ]
    if rng.random() < 0.5:
        return _legs(w - 0.06, d - 0.06, z, rng.uniform(0.018, 0.04), under)
    leg = rng.uniform(0.025, 0.04)
    return [
        block((a * (w - 0.05), b * (d - 0.05), z / 2), (2 * leg, 2 * leg, z - 0.02), under)
        for a in (-1, 1)
        for b in (-1, 1)
    ]


def cupboard(style: Style) -> Piece:
    """A wardrobe, sideboard, chest of drawers or bedside cabinet."""
    rng = style.rng
    width, depth, height = rng.choice(
        ((1.2, 0.58, 2.05), (0.9, 0.55, 1.9), (1.5, 0.42, 0.78), (0.9, 0.45, 0.85), (0.8, 0.42, 1.2), (0.45, 0.4, 0.5))
    )
    width, height = width * rng.uniform(0.85, 1.2), height * rng.uniform(0.92, 1.08)
    w, d, foot = width / 2, depth / 2, rng.choice((0.0, 0.05, 0.15))
    body = style.joinery()
    front = body if rng.random() < 0.6 else style.joinery()
    solids = [box((-w, w), (-d, d - 0.02), (foot, height), body)]
    if foot:
        solids += _legs(w - 0.05, d - 0.06, foot + 0.01, 0.02, style.metal())
    solids += _fronts(style, w, d, foot, height, front)
    parts = [Thing("furniture", solids, standing=True)]
    if height < 1.35:
        parts += things.tabletop(style, w * 0.85, d * 0.6, height, 3)
    return Piece(parts, width, depth, height)


def _fronts(style: Style, w: Number, d: Number, foot: Number, height: Number, front) -> list[Solid]:
    columns = max(1, round(2 * w / 0.55))
    rows = 1 if height > 1.5 else style.rng.randint(1, 4)
    knob, solids = style.metal(), []
    wide, tall = 2 * w / columns, (height - foot - 0.04) / rows
    for i in range(columns):
        for j in range(rows):
            x, z = -w + wide * (i + 0.5), foot + 0.02 + tall * (j + 0.5)
            solids.append(block((x, d - 0.012, z), (wide - 0.03, 0.02, tall - 0.025), front, casts=Casts.NOTHING))
            off = (wide / 2 - 0.07) * (1 if i % 2 == 0 else -1) if rows == 1 else 0.0
            solids.append(
                block(
                    (x + off, d + 0.01, z),
                    (0.02, 0.025, 0.14) if rows == 1 else (0.12, 0.025, 0.02),
                    knob,
                    casts=Casts.NOTHING,
                )
            )
    return solids


def bookshelf(style: Style) -> Piece:
    """An open shelf with rows of books and a few objects."""
    rng = style.rng
    width, height, depth = rng.uniform(0.6, 1.4), rng.choice((0.85, 1.25, 1.8, 2.0)), rng.uniform(0.26, 0.36)
    w, d, board = width / 2, depth / 2, 0.022
    wood = style.joinery()
    rows = max(2, round(height / 0.36))
    tall = (height - 0.05) / rows
    solids = [box((s * w - board, s * w + board), (-d, d), (0, height), wood) for s in (-1, 1)]
    if rng.random() < 0.7:
        solids.append(box((-w, w), (-d, -d + 0.015), (0, height), style.joinery()))
    solids += [block((0, 0, 0.05 + i * tall), (width, depth, 2 * board), wood) for i in range(rows + 1)]
    parts = [Thing("furniture", solids, standing=True)]
    for i in range(rows):
        parts += _shelf_row(style, w - 2 * board, d, 0.05 + i * tall + board, tall - 2 * board)
    if height < 1.4:
        parts += things.tabletop(style, w * 0.8, d * 0.6, height + board + 0.03, 2)
    return Piece(parts, width + 2 * board, depth, height)


def _shelf_row(style: Style, w: Number, d: Number, z: Number, room: Number) -> list[Thing]:
    rng = style.rng
    x = -w + rng.choice((0, 0, 0.1, 0.3)) * w
    books: list[Solid] = []
    parts: list[Thing] = []
    while x < w - 0.08:
        run = min(rng.uniform(0.1, 0.4), w - x)
        pick = rng.random()
        if pick < 0.75:
            high, back = room * rng.uniform(0.6, 0.95), rng.uniform(0.0, 0.07)
            spines = style.painted(Texture.SPINES, rng.uniform(0.025, 0.05))
            books.append(box((x, x + run - 0.004), (-d + 0.02, d - 0.02 - back), (z, z + high), spines))
        elif pick < 0.88 and run > 0.14:
            parts += things.ornament(style, x + run / 2, 0, z, min(run * 0.4, room * 0.3, d * 0.8), room * 0.85)
        x += run
    return [Thing("books", books), *parts] if books else parts


def tv_stand(style: Style) -> Piece:
    """A low cabinet with a television on it."""
    rng = style.rng
    width, depth, height = rng.uniform(1.1, 1.8), 0.4, rng.uniform(0.4, 0.6)
    w, d = width / 2, depth / 2
    solids = [
        box((-w, w), (-d, d - 0.02), (0.05, height), style.joinery()),
        *_fronts(style, w, d, 0.05, height, style.joinery()),
    ]
    screen = things.screen(style, 0, 0, height, min(width * 0.8, rng.uniform(0.8, 1.35)))
    return Piece([Thing("furniture", solids, standing=True), *screen], width, depth, height + 0.7)


def floor_lamp(style: Style) -> Piece:
    """A standing lamp; its shade glows."""
    rng = style.rng
    height, radius = rng.uniform(1.35, 1.75), rng.uniform(0.14, 0.24)
    pole = style.metal()
    shade = style.cloth()._replace(glow=rng.choice((0, 0.5, 1.2)))
    solids = [drum(0, 0, (0, 0.03), 0.14, pole), drum(0, 0, (0.02, height), 0.014, pole)]
    solids.append(drum(0, 0, (height - 0.1, height + 0.2), radius, shade, rng.uniform(0.5, 0.95), casts=Casts.NOTHING))
    return Piece([Thing("objects", solids, standing=True)], 0.4, 0.4, height)


def plant(style: Style) -> Piece:
    """A pot plant: leafy, spiky or a small tree."""
    parts, reach = things.plant(style, 0, 0, 0, style.rng.uniform(0.6, 1.5))
    return Piece(parts, reach, reach, 1.2)


def clutter(style: Style) -> Piece:
    """Something on the floor: boxes, a ball, a basket, a suitcase, a pouffe, a toy or a pile of books."""
    return things.floor_object(style)
