"""People: figures of capsules and ellipsoids in varied builds, clothes and poses.

A figure stands at the origin and faces +y. Sizes are shares of its height.
"""

import math
from dataclasses import dataclass

from diffusionmtl.data.rooms.geometry import Shape
from diffusionmtl.data.rooms.palette import Style, Surface
from diffusionmtl.data.rooms.parts import PART_CLASSES, Axes, Number, Piece, Solid, Thing, Vector, ball, limb

_HEAD, _TORSO, _UPPER_ARM, _LOWER_ARM, _UPPER_LEG, _LOWER_LEG = range(1, len(PART_CLASSES))


@dataclass(frozen=True)
class Pose:
    """Joint angles in radians; pairs are for the two sides. Positive swings go forward, positive lifts outward."""

    arm_swing: tuple[Number, Number]
    arm_lift: tuple[Number, Number]
    elbow: tuple[Number, Number]
    leg_swing: tuple[Number, Number]
    leg_lift: tuple[Number, Number]
    knee: tuple[Number, Number]
    nod: Number
    look: Number


@dataclass(frozen=True)
class Outfit:
    """What the parts are covered with."""

    skin: Surface
    hair: Surface
    top: Surface
    sleeve: Surface
    thigh: Surface
    shin: Surface
    shoe: Surface
    hair_kind: int
    skirt: bool


def person(style: Style, pose: Pose, hip: Number | None = None) -> Piece:
    """A figure. Standing on the floor, or with its hips at height `hip` when it sits."""
    rng = style.rng
    tall = rng.gauss(1.7, 0.1) if rng.random() < 0.82 else rng.uniform(1.0, 1.4)
    tall, girth = min(max(tall, 1.0), 1.95), rng.uniform(0.88, 1.2)
    outfit = _dress(style)
    legs, low = _legs(pose, outfit, tall, girth)
    root = hip + 0.055 * tall if hip is not None else -low
    solids = [*legs, *_trunk(outfit, tall, girth), *_arms(pose, outfit, tall, girth), *_head(pose, outfit, tall)]
    raised = [solid._replace(centre=(solid.centre[0], solid.centre[1], solid.centre[2] + root)) for solid in solids]
    return Piece([Thing("person", raised, standing=True)], 0.5, 0.5, tall)


def standing(style: Style) -> Pose:
    """Idle, hands on hips, waving, carrying, reaching up or walking."""
    rng = style.rng
    kind = rng.choices(("idle", "hips", "wave", "carry", "reach", "walk"), (4, 1, 1.5, 1.5, 1, 3))[0]
    jitter = lambda low, high: (rng.uniform(low, high), rng.uniform(low, high))  # noqa: E731
    swing, lift, elbow, stride, knee = (
        jitter(-0.2, 0.25),
        jitter(0.08, 0.3),
        jitter(0.05, 0.5),
        jitter(-0.08, 0.12),
        jitter(0, 0.12),
    )
    if kind == "hips":
        swing, lift, elbow = (-0.35, -0.35), (0.75, 0.75), (1.6, 1.6)
    elif kind == "wave":
        swing, lift, elbow = (
            (rng.uniform(-0.2, 0.3), rng.uniform(0.2, 1)),
            (0.15, rng.uniform(1.4, 2.3)),
            (0.3, rng.uniform(0.3, 1.2)),
        )
    elif kind == "carry":
        swing, elbow = jitter(0.1, 0.6), jitter(1.1, 1.7)
    elif kind == "reach":
        swing, elbow = (rng.uniform(1.2, 2.7), rng.uniform(-0.1, 2.7)), jitter(0.1, 0.6)
    elif kind == "walk":
        a = rng.uniform(0.25, 0.6) * rng.choice((-1, 1))
        swing, stride, knee = (-a, a), (a, -a * 0.8), (0.15 + max(0, -a) * 0.8, 0.15 + max(0, a) * 0.8)
    return Pose(swing, lift, elbow, stride, jitter(0.02, 0.12), knee, rng.uniform(-0.3, 0.4), rng.uniform(-0.8, 0.8))


def sitting(style: Style) -> Pose:
    """Seated: thighs forward, shins down, hands in the lap, on the table or at the sides."""
    rng = style.rng
    thigh = rng.uniform(1.4, 1.62)
    arm = rng.uniform(0.1, 0.7)
    shins = (thigh - rng.uniform(-0.15, 0.35), thigh - rng.uniform(-0.15, 0.35))
    spread = rng.uniform(0.05, 0.3)
    elbows = (rng.uniform(0.5, 1.5), rng.uniform(0.5, 1.5))
    return Pose(
        (arm, arm + 0.1),
        (0.15, 0.2),
        elbows,
        (thigh, thigh),
        (spread, spread),
        shins,
        rng.uniform(-0.2, 0.5),
        rng.uniform(-0.7, 0.7),
    )


def lying(style: Style) -> Piece:
    """A figure on its back, head towards -y, its back at height zero and its pillow end at the origin."""
    rng = style.rng
    pose = Pose(
        (0.1, 0.2),
        (0.15, 0.3),
        (0.2, rng.uniform(0.1, 1.6)),
        (0.05, rng.choice((0.05, 0.8))),
        (0.05, 0.1),
        (0.05, 0.05),
        0.15,
        0.0,
    )
    figure = person(style, pose, hip=0.0).things[0]
    reach = max(s.centre[2] for s in figure.solids)
    solids = [
        s._replace(centre=(s.centre[0], reach - s.centre[2], s.centre[1] + 0.13), axes=_fallen(s.axes))
        for s in figure.solids
    ]
    return Piece([Thing("person", solids, standing=True)], 0.5, 1.7, 0.3)


def _fallen(axes: Axes) -> Axes:
    a, b, c = ((x, -z, y) for x, y, z in axes)
    return (a, b, c)


def _dress(style: Style) -> Outfit:
    rng, skin = style.rng, style.skin()
    top, bottom = style.cloth(), style.cloth()
    if rng.random() < 0.15:
        bottom = top
    short_sleeve, shorts = rng.random() < 0.45, rng.random() < 0.25
    skirt = rng.random() < 0.2
    bare = shorts or skirt
    hair_kind = rng.randrange(4)
    return Outfit(
        skin,
        style.hair(),
        top,
        skin if short_sleeve else top,
        bottom,
        skin if bare else bottom,
        style.glazed(),
        hair_kind,
        skirt,
    )


def _reach(start: Vector, swing: Number, lift: Number, side: int, length: Number) -> Vector:
    """Where a bone of the given length ends that hangs down, swung forward and lifted outward."""
    c = math.cos(lift)
    return (
        start[0] + side * math.sin(lift) * length,
        start[1] + math.sin(swing) * c * length,
        start[2] - math.cos(swing) * c * length,
    )


def _legs(pose: Pose, outfit: Outfit, tall: Number, girth: Number) -> tuple[list[Solid], Number]:
    solids, lowest = [], 0.0
    for i, side in enumerate((-1, 1)):
        hip = (side * 0.052 * tall * girth, 0.0, 0.0)
        knee = _reach(hip, pose.leg_swing[i], pose.leg_lift[i], side, 0.245 * tall)
        ankle = _reach(knee, pose.leg_swing[i] - pose.knee[i], pose.leg_lift[i] / 3, side, 0.235 * tall)
        solids.append(limb(hip, knee, 0.047 * tall * girth, outfit.thigh, _UPPER_LEG))
        solids.append(limb(knee, ankle, 0.034 * tall * girth, outfit.shin, _LOWER_LEG))
        foot = (ankle[0], ankle[1] + 0.035 * tall, ankle[2] - 0.022 * tall)
        solids.append(ball(foot, (0.03 * tall, 0.078 * tall, 0.026 * tall), outfit.shoe, part=_LOWER_LEG))
        lowest = min(lowest, foot[2] - 0.026 * tall)
    if outfit.skirt and max(pose.leg_swing) < 1:
        r, h = 0.12 * tall * girth, 0.13 * tall
        centre = (0.0, 0.0, -h + 0.04 * tall)
        solids.append(Solid(Shape.FRUSTUM, centre, (r, 0.8 * r, h), outfit.thigh, profile=0.62, part=_UPPER_LEG))
    return solids, lowest


def _trunk(outfit: Outfit, tall: Number, girth: Number) -> list[Solid]:
    wide, deep = 0.078 * tall * girth, 0.056 * tall * girth
    middle, chest = (0.0, 0.0, 0.16 * tall), (0.0, 0.0, 0.245 * tall)
    return [
        ball((0.0, 0.0, 0.015 * tall), (wide * 1.15, deep * 1.15, 0.062 * tall), outfit.thigh, part=_TORSO),
        Solid(Shape.FRUSTUM, middle, (wide, deep, 0.125 * tall), outfit.top, profile=1.22, part=_TORSO),
        ball(chest, (wide * 1.35, deep * 1.2, 0.075 * tall), outfit.top, part=_TORSO),
        limb((0.0, 0.0, 0.29 * tall), (0.0, 0.006 * tall, 0.36 * tall), 0.03 * tall, outfit.skin, _TORSO),
    ]


def _arms(pose: Pose, outfit: Outfit, tall: Number, girth: Number) -> list[Solid]:
    solids = []
    for i, side in enumerate((-1, 1)):
        shoulder = (side * 0.108 * tall * (0.6 + 0.4 * girth), 0.0, 0.28 * tall)
        swing, lift = pose.arm_swing[i], pose.arm_lift[i]
        elbow = _reach(shoulder, swing, lift, side, 0.168 * tall)
        # A bent elbow also turns the forearm inward, unless the arm is raised sideways.
        inward = lift - 0.45 * pose.elbow[i] if lift < 1.2 else lift + 0.6
        wrist = _reach(elbow, swing + pose.elbow[i], inward, side, 0.15 * tall)
        hand = _reach(wrist, swing + pose.elbow[i], inward, side, 0.035 * tall)
        solids.append(limb(shoulder, elbow, 0.03 * tall * girth, outfit.top, _UPPER_ARM))
        solids.append(limb(elbow, wrist, 0.0235 * tall * girth, outfit.sleeve, _LOWER_ARM))
        solids.append(ball(hand, 0.027 * tall, outfit.skin, part=_LOWER_ARM))
    return solids


def _head(pose: Pose, outfit: Outfit, tall: Number) -> list[Solid]:
    tall = tall * (1 + 0.25 * max(0, 1.5 - tall))
    c, s = math.cos(pose.look), math.sin(pose.look)
    right, ahead = (c, s, 0.0), (-s, c, 0.0)
    bow = math.sin(pose.nod)
    forward = (ahead[0], ahead[1], -bow)
    z = 0.398 * tall
    size = (0.043 * tall, 0.053 * tall, 0.066 * tall)

    def at(sideways: Number, onward: Number, up: Number) -> Vector:
        return (
            (right[0] * sideways + forward[0] * onward) * tall,
            (right[1] * sideways + forward[1] * onward + bow * 0.02) * tall,
            z + (up + forward[2] * onward) * tall,
        )

    axes: Axes = (right, ahead, (0.0, 0.0, 1.0))
    face = ball(at(0, 0, 0), size, outfit.skin, axes=axes, part=_HEAD)
    nose = ball(at(0, 0.053, -0.008), 0.0095 * tall, outfit.skin, part=_HEAD)
    dark = outfit.shoe._replace(a=(0.03, 0.025, 0.025), b=(0.03, 0.025, 0.025))
    eyes = [ball(at(side * 0.018, 0.045, 0.008), 0.0065 * tall, dark, part=_HEAD) for side in (-1, 1)]
    solids = [face, nose, *eyes]
    if outfit.hair_kind:
        cap = (size[0] * 1.08, size[1] * 1.05, size[2] * 0.95)
        solids.append(ball(at(0, -0.012, 0.016), cap, outfit.hair, axes=axes, part=_HEAD))
    if outfit.hair_kind == 2:
        solids.append(limb(at(0, -0.032, 0), at(0, -0.045, -0.11), 0.038 * tall, outfit.hair, _HEAD))
    if outfit.hair_kind == 3:
        solids.append(ball(at(0, -0.055, 0.045), 0.028 * tall, outfit.hair, part=_HEAD))
    return solids
