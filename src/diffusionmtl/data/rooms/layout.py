"""Random rooms: proportions, camera, what stands where, who is there, and the light."""

import math
import random
from collections.abc import Callable

import numpy as np

from diffusionmtl.data.rooms import fixtures, furniture, lighting, people
from diffusionmtl.data.rooms.camera import Camera, draw_photo, look_from
from diffusionmtl.data.rooms.palette import Style, Surface, Texture
from diffusionmtl.data.rooms.parts import Piece
from diffusionmtl.data.rooms.scene import Placed, Scene, assemble

_BACK, _LEFT, _RIGHT = range(3)
_TRIES = 12


class Plan:
    """A room being furnished: what is placed, and which floor and wall is taken."""

    def __init__(self, rng: random.Random, extent: tuple[float, float, float], camera: Camera) -> None:
        self.rng, self.extent, self.camera = rng, extent, camera
        self.placed: list[Placed] = []
        self._floor: list[tuple[float, float, float, float]] = []
        self._walls: list[tuple[int, float, float, float, float]] = []

    def put(self, piece: Piece, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> Placed:
        """Place without asking."""
        self.placed.append(Placed(piece, x, y, z, yaw))
        return self.placed[-1]

    def against_wall(self, piece: Piece, low: float = 0.0, fixture: bool = False) -> Placed | None:
        """Place with the back to a free stretch of wall, from height `low` up; None if there is no room."""
        for _ in range(_TRIES):
            wall = self.rng.choices((_BACK, _LEFT, _RIGHT), (5, 2, 2))[0]
            length = self.extent[0] if wall == _BACK else self.extent[1]
            first = 0.1 if wall == _BACK else float(self.camera.position[1]) + 0.7
            half = piece.width / 2 + 0.03
            if first + half > length - half:
                continue
            along = self.rng.uniform(first + half, length - half)
            off = 0.0 if fixture else piece.depth / 2 + self.rng.uniform(0.03, 0.08)
            x, y, yaw = self.at_wall(wall, along, off)
            span = (wall, along - half, along + half, low, piece.height)
            if self._wall_taken(span) or not self.in_view(x, y):
                continue
            if not fixture and not self._claim(piece, x, y, yaw):
                continue
            self._walls.append(span)
            return self.put(piece, x, y, 0.0, yaw)
        return None

    def on_floor(
        self, piece: Piece, yaw: float | None = None, margin: float = 0.0, reach: float = math.inf
    ) -> Placed | None:
        """Place anywhere free in view and not deeper than `reach` into the room; None if there is no room."""
        first = float(self.camera.position[1]) + 1.3
        for _ in range(_TRIES):
            x = self.rng.uniform(0.3, self.extent[0] - 0.3)
            y = self.rng.uniform(first, min(self.extent[1] - 0.3, first + reach))
            turn = self.rng.uniform(-math.pi, math.pi) if yaw is None else yaw
            if self.in_view(x, y, 0.85) and self._claim(piece, x, y, turn, margin):
                return self.put(piece, x, y, 0.0, turn)
        return None

    def near(self, piece: Piece, anchor: Placed, x: float, y: float, yaw: float) -> Placed | None:
        """Place at a spot of another piece's own coordinates, turned by `yaw` relative to it; None if taken."""
        c, s = math.cos(anchor.yaw), math.sin(anchor.yaw)
        wx, wy = anchor.x + c * x - s * y, anchor.y + s * x + c * y
        if not self._claim(piece, wx, wy, anchor.yaw + yaw, -0.12):
            return None
        return self.put(piece, wx, wy, 0.0, anchor.yaw + yaw)

    def in_view(self, x: float, y: float, share: float = 1.05) -> bool:
        """Whether a floor spot lies in front of the camera, within a share of the view's half angle."""
        offset = np.array((x, y, 1.0)) - self.camera.position
        right, _, forward = self.camera.axes @ offset
        return bool(forward > 1.0 and abs(right) < share * forward / self.camera.focal)

    def at_wall(self, wall: int, along: float, off: float) -> tuple[float, float, float]:
        """Position and turn of a piece `along` a wall and `off` it, facing the room."""
        if wall == _BACK:
            return along, self.extent[1] - off, math.pi
        if wall == _LEFT:
            return off, along, -math.pi / 2
        return self.extent[0] - off, along, math.pi / 2

    def _wall_taken(self, span: tuple[int, float, float, float, float]) -> bool:
        wall, a, b, low, high = span
        return any(
            w == wall and a < q and b > p and low < top and high > bottom for w, p, q, bottom, top in self._walls
        )

    def _claim(self, piece: Piece, x: float, y: float, yaw: float, margin: float = 0.0) -> bool:
        c, s = abs(math.cos(yaw)), abs(math.sin(yaw))
        w, d = c * piece.width / 2 + s * piece.depth / 2 + margin, s * piece.width / 2 + c * piece.depth / 2 + margin
        rect = (x - w, x + w, y - d, y + d)
        width, depth, _ = self.extent
        inside = rect[0] > 0 and rect[1] < width and rect[2] > 0 and rect[3] < depth
        eye_x, eye_y = (float(v) for v in self.camera.position[:2])
        keep = 1.9 if piece.height > 1.3 and piece.width > 0.7 else 1.0
        close = math.hypot(max(rect[0] - eye_x, eye_x - rect[1], 0), max(rect[2] - eye_y, eye_y - rect[3], 0)) < keep
        clash = any(rect[0] < b and rect[1] > a and rect[2] < d2 and rect[3] > c2 for a, b, c2, d2 in self._floor)
        if not inside or close or clash:
            return False
        self._floor.append(rect)
        return True


def lay_out(seed: int) -> Scene:
    """The scene of a seed; everything random in it is drawn here, at no particular image size."""
    rng = random.Random(seed)
    style = Style(rng)
    extent = (rng.uniform(3.0, 6.2), rng.uniform(3.6, 6.6), rng.uniform(2.35, 3.1))
    camera = _camera(rng, extent)
    plan = Plan(rng, extent, camera)
    setting = lighting.draw_setting(rng)
    faces = _finishes(style)
    panes = _fixtures(plan, style, setting)
    _furnish(plan, style)
    _people(plan, style)
    _decorate(plan, style, faces)
    lights = lighting.lights(rng, setting, extent, panes)
    if setting.lamp is not None:
        plan.put(
            fixtures.pendant(style, extent[2], extent[2] - setting.lamp[2], 0.9),
            extent[0] * setting.lamp[0],
            extent[1] * setting.lamp[1],
        )
    noise = np.random.default_rng(seed).random((64, 64), np.float32)
    return assemble(extent, faces, plan.placed, camera, draw_photo(rng), lights, setting.ambient, style.colours, noise)


def _camera(rng: random.Random, extent: tuple[float, float, float]) -> Camera:
    width, depth, height = extent
    eye = (rng.uniform(0.2, 0.8) * width, rng.uniform(0.12, 0.5), rng.uniform(1.0, min(1.8, height - 0.6)))
    across = rng.uniform(0.15, 0.85) if rng.random() < 0.6 else 1 - eye[0] / width
    target = (across * width, rng.uniform(0.75, 1) * depth, rng.uniform(0.55, 1.25))
    return look_from(eye, target, rng.gauss(0, 0.02), math.radians(rng.uniform(58, 84)))


def _finishes(style: Style) -> list[Surface]:
    rng, wall = style.rng, style.walling()
    walls = [wall, wall, wall, wall]
    if rng.random() < 0.4:
        walls[rng.choice((0, 1, 3))] = style.walling()
    ceiling = style.paint()
    if rng.random() < 0.7:
        ceiling = Surface(Texture.PLAIN, style.nudge((0.82, 0.81, 0.78)), (0.8, 0.8, 0.8))
    elif rng.random() < 0.4:
        ceiling = style.walling()
    return [*walls, style.flooring(), ceiling]


def _fixtures(plan: Plan, style: Style, setting: lighting.Setting) -> list[tuple[Placed, float, float, float]]:
    """Windows first, as furniture must not cover them; gives them back as (place, width, low, high)."""
    rng, panes = plan.rng, []
    for _ in range(rng.choices((0, 1, 2), (1.5, 5, 2))[0]):
        width, low = rng.uniform(0.8, 2.0), rng.choice((0.1, 0.85, 0.95, 1.1))
        high = min(plan.extent[2] - 0.25, rng.uniform(2.0, 2.4))
        place = plan.against_wall(fixtures.window(style, width, low, high, setting.sky), low - 0.1, fixture=True)
        if place:
            panes.append((place, width, low, high))
    if rng.random() < 0.4:
        plan.against_wall(fixtures.door(style, rng.uniform(1.98, 2.12)), fixture=True)
    if rng.random() < 0.6:
        wood, height = style.joinery(), rng.uniform(0.06, 0.14)
        for wall, length in ((_BACK, plan.extent[0]), (_LEFT, plan.extent[1]), (_RIGHT, plan.extent[1])):
            x, y, yaw = plan.at_wall(wall, length / 2, 0.0)
            plan.put(fixtures.skirting(wood, length, height), x, y, 0.0, yaw)
    return panes


def _furnish(plan: Plan, style: Style) -> None:
    rooms: tuple[Callable[[Plan, Style], None], ...] = (_bedroom, _living_room, _dining_room, _study, _anything)
    plan.rng.choices(rooms, (3, 3, 2.5, 2.5, 3))[0](plan, style)
    for _ in range(plan.rng.randint(0, 3)):
        plan.on_floor(plan.rng.choice((furniture.clutter, furniture.plant, furniture.clutter))(style))


def _bedroom(plan: Plan, style: Style) -> None:
    place = plan.against_wall(furniture.bed(style))
    if place:
        for side in (-1, 1):
            if plan.rng.random() < 0.6:
                table = furniture.table(style, "side")
                plan.near(table, place, side * (place.piece.width / 2 + table.width / 2 + 0.2), -0.65, 0.0)
    _some(
        plan,
        style,
        (furniture.cupboard, furniture.cupboard, furniture.bookshelf, furniture.chair, furniture.floor_lamp),
        3,
    )


def _living_room(plan: Plan, style: Style) -> None:
    place = (
        plan.against_wall(furniture.sofa(style)) if plan.rng.random() < 0.7 else plan.on_floor(furniture.sofa(style))
    )
    if place and plan.rng.random() < 0.75:
        low = furniture.table(style, "coffee")
        plan.near(low, place, 0.0, place.piece.depth / 2 + low.depth / 2 + 0.4, 0.0)
    wishes = (
        furniture.tv_stand,
        furniture.bookshelf,
        _armchair,
        furniture.floor_lamp,
        furniture.plant,
        furniture.cupboard,
    )
    _some(plan, style, wishes, 4)


def _dining_room(plan: Plan, style: Style) -> None:
    rng = plan.rng
    place = plan.on_floor(furniture.table(style), yaw=rng.gauss(rng.choice((0, math.pi / 2)), 0.15), margin=0.35)
    if place:
        w, d = place.piece.width / 2, place.piece.depth / 2
        seat = furniture.chair(style)
        for x, y, yaw in (
            (-w / 2, d, math.pi),
            (w / 2, d, math.pi),
            (-w / 2, -d, 0.0),
            (w / 2, -d, 0.0),
            (w, 0.0, math.pi / 2),
            (-w, 0.0, -math.pi / 2),
        ):
            if rng.random() < 0.3:
                continue
            out = rng.uniform(0.05, 0.3)
            spot = (x + math.copysign(out, x) if y == 0 else x, y + math.copysign(out, y) if y else 0.0)
            _at_table(plan, seat, place, spot, yaw + rng.gauss(0, 0.15))
    _some(
        plan,
        style,
        (furniture.cupboard, furniture.bookshelf, furniture.plant, furniture.tv_stand, furniture.floor_lamp),
        3,
    )


def _at_table(plan: Plan, seat: Piece, table: Placed, spot: tuple[float, float], yaw: float) -> None:
    """A chair may stand partly under its table, so it asks for no floor of its own."""
    c, s = math.cos(table.yaw), math.sin(table.yaw)
    x, y = table.x + c * spot[0] - s * spot[1], table.y + s * spot[0] + c * spot[1]
    far = math.hypot(x - float(plan.camera.position[0]), y - float(plan.camera.position[1])) > 1.1
    if far and 0.3 < x < plan.extent[0] - 0.3 and 0.3 < y < plan.extent[1] - 0.3:
        plan.put(seat, x, y, 0.0, table.yaw + yaw)


def _study(plan: Plan, style: Style) -> None:
    place = plan.against_wall(furniture.table(style, "desk"))
    if place:
        _at_table(
            plan, furniture.chair(style), place, (0.0, place.piece.depth / 2 + 0.2), math.pi + plan.rng.gauss(0, 0.3)
        )
    _some(
        plan,
        style,
        (furniture.bookshelf, furniture.bookshelf, furniture.cupboard, furniture.bed, _armchair, furniture.plant),
        4,
    )


def _anything(plan: Plan, style: Style) -> None:
    makers = (
        furniture.bed,
        furniture.sofa,
        furniture.chair,
        furniture.table,
        furniture.cupboard,
        furniture.bookshelf,
        furniture.tv_stand,
    )
    _some(plan, style, (*makers, _armchair, furniture.chair, furniture.plant, furniture.floor_lamp), 6)


def _armchair(style: Style) -> Piece:
    return furniture.sofa(style, 0.85)


def _some(plan: Plan, style: Style, makers: tuple[Callable[[Style], Piece], ...], most: int) -> None:
    """Up to `most` different pieces, big ones against walls, seats and plants also free in the room."""
    for maker in plan.rng.sample(makers, min(most, len(makers))):
        piece = maker(style)
        loose = maker in (furniture.chair, _armchair, furniture.floor_lamp, furniture.plant, furniture.table)
        if not (loose and plan.rng.random() < 0.6 and plan.on_floor(piece)):
            plan.against_wall(piece)


def _people(plan: Plan, style: Style) -> None:
    rng = plan.rng
    seats = [(place, seat) for place in plan.placed for seat in place.piece.seats if plan.in_view(place.x, place.y)]
    couches = [place for place in plan.placed if place.piece.couch]
    rng.shuffle(seats)
    for _ in range(rng.choices((0, 1, 2, 3), (48, 30, 15, 7))[0]):
        pick = rng.random()
        if couches and pick < 0.2:
            place = couches.pop()
            height, pillow = place.piece.couch or (0, 0)
            _onto(plan, people.lying(style), place, (0.0, pillow - 0.05), height + 0.04, 0.0)
        elif seats and pick < 0.6:
            place, (x, y, height) = seats.pop()
            _onto(
                plan,
                people.person(style, people.sitting(style), hip=height),
                place,
                (x, y - 0.08),
                0.0,
                rng.gauss(0, 0.15),
            )
        else:
            plan.on_floor(people.person(style, people.standing(style)), margin=0.02, reach=1.8)


def _onto(plan: Plan, figure: Piece, place: Placed, spot: tuple[float, float], z: float, yaw: float) -> None:
    c, s = math.cos(place.yaw), math.sin(place.yaw)
    x, y = place.x + c * spot[0] - s * spot[1], place.y + s * spot[0] + c * spot[1]
    plan.put(figure, x, y, z, place.yaw + yaw)


def _decorate(plan: Plan, style: Style, faces: list[Surface]) -> None:
    rng = plan.rng
    if rng.random() < 0.18:
        plan.against_wall(fixtures.pillar(style, plan.extent[2], faces[3]), fixture=True)
    if rng.random() < 0.2:
        plan.against_wall(fixtures.hung_screen(style, rng.uniform(0.8, 1.3), 1.45), 0.95, fixture=True)
    if rng.random() < 0.2:
        plan.against_wall(fixtures.wall_shelf(style, rng.uniform(0.6, 1.3), 1.35), 1.3, fixture=True)
    for _ in range(rng.randint(0, 4)):
        width, height = rng.uniform(0.25, 1.1), rng.uniform(0.25, 0.85)
        middle = rng.uniform(1.4, 1.75)
        plan.against_wall(fixtures.picture(style, width, height, middle), middle - height / 2, fixture=True)
    if rng.random() < 0.2:
        middle = rng.uniform(1.5, 2.0)
        plan.against_wall(fixtures.clock(style, middle), middle - 0.3, fixture=True)
    if rng.random() < 0.2:
        plan.against_wall(fixtures.radiator(style, rng.uniform(0.6, 1.2)), fixture=True)
    if rng.random() < 0.5:
        x, y = rng.uniform(0.35, 0.65) * plan.extent[0], rng.uniform(0.45, 0.65) * plan.extent[1]
        plan.put(
            fixtures.rug(style, rng.uniform(1.2, 2.4), rng.uniform(0.9, 1.7)),
            x,
            y,
            0.0,
            rng.choice((0.0, 0.0, rng.uniform(-0.4, 0.4))),
        )
    if rng.random() < 0.12:
        plan.put(
            fixtures.beams(style, plan.extent[0], plan.extent[1], plan.extent[2]),
            plan.extent[0] / 2,
            plan.extent[1] / 2,
        )
