"""What belongs to the walls, the ceiling and the floor: windows, doors, pictures, skirting, beams, rugs.

Wall pieces are built flat against the plane y = 0 and face +y; x runs along the wall, z is up.
"""

from diffusionmtl.data.rooms import things
from diffusionmtl.data.rooms.palette import Style, Surface, Texture
from diffusionmtl.data.rooms.parts import Casts, Number, Piece, Solid, Thing, ball, block, box, drum


def window(style: Style, width: Number, low: Number, high: Number, brightness: Number) -> Piece:
    """A window between the heights `low` and `high`; `brightness` is how much its view glows."""
    rng = style.rng
    frame = (
        style.joinery() if rng.random() < 0.5 else Surface(Texture.PLAIN, (0.8, 0.8, 0.78), (0.8, 0.8, 0.78), gloss=0.1)
    )
    w, t = width / 2, rng.uniform(0.03, 0.055)
    pane = style.painted(Texture.VIEW, high - low, glow=brightness)._replace(angle=brightness)
    solids = [box((-w, w), (0, 0.012), (low, high), pane, casts=Casts.NOTHING)]
    solids += [box((s * w - t / 2, s * w + t / 2), (0, 0.05), (low - t / 2, high + t / 2), frame) for s in (-1, 1)]
    solids += [box((-w, w), (0, 0.05), (z - t / 2, z + t / 2), frame) for z in (low, high)]
    across, up = rng.choice(((1, 0), (1, 1), (2, 1), (0, 0), (2, 0)))
    for i in range(across):
        x = -w + width * (i + 1) / (across + 1)
        solids.append(box((x - t / 3, x + t / 3), (0, 0.04), (low, high), frame))
    if up:
        z = low + (high - low) * rng.choice((0.5, 0.66))
        solids.append(box((-w, w), (0, 0.04), (z - t / 3, z + t / 3), frame))
    if low > 0.3:
        solids.append(box((-w - 0.06, w + 0.06), (0, 0.14), (low - t / 2 - 0.03, low - t / 2), frame))
    # Bars and curtains only draw their pattern into the sun's light.
    solids = [solids[0], *(solid._replace(casts=Casts.SUN) for solid in solids[1:])]
    parts = [Thing("window", solids)]
    if rng.random() < 0.55:
        parts.append(Thing("window", _curtains(style, w, low, high)))
    return Piece(parts, width + 0.2, 0.15, high)


def _curtains(style: Style, w: Number, low: Number, high: Number) -> list[Solid]:
    rng, cloth = style.rng, style.cloth()
    foot = 0.03 if rng.random() < 0.5 else low - 0.12
    drawn = rng.uniform(0.12, 0.5) * w
    solids = [box((-w - 0.3, w + 0.3), (0.085, 0.11), (high + 0.1, high + 0.125), style.metal(), casts=Casts.NOTHING)]
    folds = 3
    for side in (-1, 1):
        inner, outer = side * (w + 0.08 - drawn), side * (w + 0.2)
        for i in range(folds):
            x = inner + (outer - inner) * (i + 0.5) / folds
            r = abs(outer - inner) / folds * 0.62
            half = (r, 0.035, (high + 0.1 - foot) / 2)
            pole = drum(x, 0.095, (foot, high + 0.1), r, cloth)
            solids.append(pole._replace(half=half, casts=Casts.SUN))
    return solids


def door(style: Style, height: Number) -> Piece:
    """A panelled or flush door in its frame."""
    rng, leaf, frame = style.rng, style.joinery(), style.joinery()
    w = rng.uniform(0.4, 0.47)
    solids = [box((-w, w), (0, 0.03), (0, height), leaf)]
    solids += [box((s * w - 0.04, s * w + 0.04), (0, 0.05), (0, height + 0.05), frame) for s in (-1, 1)]
    solids.append(box((-w - 0.04, w + 0.04), (0, 0.05), (height, height + 0.08), frame))
    if rng.random() < 0.7:
        edges = ((0.15, height * 0.42), (height * 0.5, height - 0.15))
        solids += [
            box((-w + 0.14, w - 0.14), (0.02, 0.042), span, leaf._replace(a=style.nudge(leaf.a))) for span in edges
        ]
    knob = rng.choice((-1, 1)) * (w - 0.07)
    solids.append(ball((knob, 0.06, 1.02), 0.028, style.metal()))
    solids = [solid._replace(casts=Casts.NOTHING) for solid in solids]
    return Piece([Thing("wall", solids)], 2 * w + 0.1, 0.06, height)


def picture(style: Style, width: Number, height: Number, middle: Number) -> Piece:
    """A framed picture, poster or canvas."""
    rng = style.rng
    w, h, rim = width / 2, height / 2, rng.choice((0.0, 0.015, 0.03, 0.05))
    solids = [box((-w, w), (0, 0.018), (middle - h, middle + h), style.painted(Texture.ART, height))]
    if rim:
        frame = style.joinery() if rng.random() < 0.6 else style.metal()
        solids += [box((s * w - rim / 2, s * w + rim / 2), (0, 0.03), (middle - h, middle + h), frame) for s in (-1, 1)]
        solids += [
            box((-w - rim / 2, w + rim / 2), (0, 0.03), (z - rim / 2, z + rim / 2), frame)
            for z in (middle - h, middle + h)
        ]
    solids = [solid._replace(casts=Casts.NOTHING) for solid in solids]
    return Piece([Thing("picture", solids)], width, 0.04, middle + h)


def hung_screen(style: Style, width: Number, middle: Number) -> Piece:
    """A television on the wall."""
    parts = things.screen(style, 0, 0.035, middle, width, hung=True)
    return Piece(parts, width, 0.1, middle + 0.4)


def wall_shelf(style: Style, width: Number, height: Number) -> Piece:
    """A board on the wall with books and ornaments."""
    w = width / 2
    board = box((-w, w), (0, 0.22), (height - 0.025, height), style.joinery())
    parts = [Thing("furniture", [board])]
    for thing in things.tabletop(style, w * 0.9, 0.07, height, 4):
        solids = [s._replace(centre=(s.centre[0], s.centre[1] + 0.12, s.centre[2])) for s in thing.solids]
        parts.append(thing._replace(solids=solids, standing=False))
    if style.rng.random() < 0.7:
        run = style.rng.uniform(0.2, 0.9) * width
        books = style.painted(Texture.SPINES, style.rng.uniform(0.025, 0.045))
        row = box((-w, -w + run), (0.01, 0.16), (height, height + style.rng.uniform(0.18, 0.26)), books)
        parts = [parts[0], Thing("books", [row])]
    return Piece(parts, width, 0.22, height + 0.3)


def clock(style: Style, middle: Number) -> Piece:
    """A round clock or mirror."""
    r = style.rng.uniform(0.12, 0.28)
    across = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))
    rim, face = drum(0, 0.012, (middle - 0.012, middle + 0.012), r, style.metal()), style.glazed()
    dial = drum(0, 0.026, (middle - 0.003, middle + 0.003), r * 0.86, face)
    return Piece([Thing("objects", [rim._replace(axes=across), dial._replace(axes=across)])], 2 * r, 0.04, middle + r)


def radiator(style: Style, width: Number) -> Piece:
    """A ribbed radiator."""
    w, ribs = width / 2, max(4, round(width / 0.12))
    paint = style.paint()
    solids = [box((-w, w), (0.05, 0.08), (0.15, 0.62), paint)]
    solids += [
        block((-w + width * (i + 0.5) / ribs, 0.075, 0.385), (width / ribs * 0.6, 0.09, 0.5), paint)
        for i in range(ribs)
    ]
    return Piece([Thing("objects", solids)], width, 0.13, 0.64)


def skirting(wood: Surface, width: Number, height: Number) -> Piece:
    """A board along the foot of a wall."""
    board = box((-width / 2, width / 2), (0, 0.015), (0, height), wood, casts=Casts.NOTHING)
    return Piece([Thing("wall", [board])], width, 0.02, height)


def rug(style: Style, width: Number, depth: Number) -> Piece:
    """A rug: a rectangle with a border, or a disc."""
    cloth, border = style.cloth(), style.cloth()
    if style.rng.random() < 0.3:
        r = min(width, depth) / 2
        solids = [
            drum(0, 0, (0, 0.012), r, border, casts=Casts.NOTHING),
            drum(0, 0, (0, 0.0125), r * 0.86, cloth, casts=Casts.NOTHING),
        ]
    else:
        w, d = width / 2, depth / 2
        solids = [box((-w, w), (-d, d), (0, 0.012), border, casts=Casts.NOTHING)]
        solids.append(box((-w + 0.1, w - 0.1), (-d + 0.1, d - 0.1), (0, 0.0125), cloth, casts=Casts.NOTHING))
    return Piece([Thing("floor", solids)], width, depth, 0.02)


def pendant(style: Style, ceiling: Number, drop: Number, glow: Number) -> Piece:
    """A lamp that hangs from the ceiling."""
    rng, shade = style.rng, style.glazed()._replace(glow=glow)
    r, z = rng.uniform(0.14, 0.3), ceiling - drop
    cord = drum(0, 0, (z, ceiling), 0.008, style.metal(), casts=Casts.NOTHING)
    kind = rng.randrange(3)
    if kind == 0:
        body = ball((0, 0, z), r * 0.8, shade, casts=Casts.NOTHING)
    elif kind == 1:
        body = drum(0, 0, (z - 0.1, z + 0.14), r, shade, rng.uniform(0.2, 0.9), casts=Casts.NOTHING)
    else:
        body = ball((0, 0, z), (r * 1.1, r * 1.1, r * 0.6), shade, casts=Casts.NOTHING)
    return Piece([Thing("objects", [cord, body])], 2 * r, 2 * r, ceiling)


def beams(style: Style, width: Number, depth: Number, height: Number) -> Piece:
    """Beams across the ceiling."""
    wood, count = style.wood(), style.rng.randint(2, 4)
    thick = style.rng.uniform(0.1, 0.18)
    spots = [depth * (i + 0.5) / count - depth / 2 for i in range(count)]
    solids = [
        box(
            (-width / 2, width / 2), (y - thick / 2, y + thick / 2), (height - thick, height), wood, casts=Casts.NOTHING
        )
        for y in spots
    ]
    return Piece([Thing("ceiling", solids)], width, depth, height)


def pillar(style: Style, height: Number, surface: Surface) -> Piece:
    """A pillar or chimney breast of the wall's own stuff."""
    w, d = style.rng.uniform(0.3, 1.2), style.rng.uniform(0.2, 0.45)
    return Piece([Thing("wall", [box((-w / 2, w / 2), (0, d), (0, height), surface)])], w, d, height)
