"""The rooms data set: exact labels, known answers, the same scene at every size."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusionmtl.data.rooms import PART_CLASSES, SEMSEG_CLASSES, Room, draw_room, draw_rooms
from diffusionmtl.data.rooms.camera import Camera
from diffusionmtl.data.rooms.geometry import Shape, blocked, first_hit, make_solids, outward, shell_exit
from diffusionmtl.data.rooms.labels import instance_edges, salient
from diffusionmtl.data.rooms.layout import lay_out
from diffusionmtl.data.rooms.sampling import pairs_in_view
from diffusionmtl.data.rooms.textures import value_noise

SIZE = (48, 64)
PERSON = SEMSEG_CLASSES.index("person")


@pytest.fixture(scope="module")
def rooms() -> list[Room]:
    return list(draw_rooms(range(40), SIZE))


def solid(shape: Shape, centre=(0, 0, 0), half=(1, 1, 1), profile=0.0, axes=None):
    frame = np.eye(3) if axes is None else np.array(axes)
    return make_solids(
        np.array([shape]), np.array([centre], float), frame[None], np.array([half], float), np.array([profile])
    )


def cast(solids, origin, directions):
    """Distances and normals of rays from one origin, each tried with every solid."""
    direction = np.array(directions, np.float32).T
    which, ray = np.divmod(np.arange(len(solids) * direction.shape[1]), direction.shape[1])
    origin = np.array(origin, np.float32)
    t, index = first_hit(solids, origin, direction, which, ray)
    normal = np.full(direction.shape, np.nan, np.float32)
    hit = np.flatnonzero(index >= 0)
    normal[:, hit] = outward(solids, index[hit], origin[:, None] + t[hit] * direction[:, hit])[0]
    return t, normal.T


def test_ray_meets_sphere_where_algebra_says():
    t, normal = cast(
        solid(Shape.ELLIPSOID, (0, 5, 0), (2, 2, 2)), (0, 0, 0), [(0, 1, 0), (0, 2, 0), (0.3, 1, 0), (1, 1, 0)]
    )
    oblique = (10 - math.sqrt(100 - 4 * 1.09 * 21)) / (2 * 1.09)
    np.testing.assert_allclose(t, [3, 1.5, oblique, np.inf], rtol=1e-6)
    np.testing.assert_allclose(normal[0], (0, -1, 0), atol=1e-6)
    np.testing.assert_allclose(normal[2], np.array((0.3 * oblique, oblique - 5, 0)) / 2, atol=1e-5)


def test_ray_meets_turned_box_at_its_edge():
    c = math.sqrt(0.5)
    turned = [(c, c, 0), (-c, c, 0), (0, 0, 1)]
    t, normal = cast(solid(Shape.BOX, (0, 4, 0), (1, 1, 1), axes=turned), (0, 0, 0), [(0.001, 1, 0), (0, -1, 0)])
    np.testing.assert_allclose(t, [4 - math.sqrt(2), np.inf], atol=5e-3)
    np.testing.assert_allclose(normal[0], (c, -c, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("profile", "ray", "distance", "normal"),
    [
        (1.0, ((0, -5, 0), (0, 1, 0)), 4.0, (0, -1, 0)),
        (1.0, ((0, 0, 6), (0, 0, -1)), 4.0, (0, 0, 1)),
        (1.0, ((0, -5, 3), (0, 1, 0)), np.inf, None),
        (0.0, ((0, -5, 0), (0, 1, 0)), 4.5, (0, -4 / math.sqrt(17), 1 / math.sqrt(17))),
    ],
)
def test_ray_meets_cylinder_and_cone(profile, ray, distance, normal):
    t, found = cast(solid(Shape.FRUSTUM, half=(1, 1, 2), profile=profile), ray[0], [ray[1]])
    np.testing.assert_allclose(t, [distance], rtol=1e-5)
    if normal is not None:
        np.testing.assert_allclose(found[0], normal, atol=1e-5)


@pytest.mark.parametrize(
    ("ray", "distance", "normal"),
    [
        (((-3, 0, 0.5), (1, 0, 0)), 2.5, (-1, 0, 0)),
        (((0, 0, 5), (0, 0, -1)), 3.5, (0, 0, 1)),
        (((-3, 0, 1.3), (1, 0, 0)), 3 - 0.4, (-0.8, 0, 0.6)),
    ],
)
def test_ray_meets_capsule(ray, distance, normal):
    t, found = cast(solid(Shape.CAPSULE, half=(0.5, 0.5, 0.5), profile=2.0), ray[0], [ray[1]])
    np.testing.assert_allclose(t, [distance], rtol=1e-5)
    np.testing.assert_allclose(found[0], normal, atol=1e-5)


def test_depth_of_a_wall_is_measured_along_the_optical_axis():
    camera = Camera(np.array((2, 1, 1), np.float32), np.array([(1, 0, 0), (0, 0, 1), (0, 1, 0)], float), 1.0)
    direction = camera.directions((9, 9), np.repeat(np.arange(9) + 0.5, 9), np.tile(np.arange(9) + 0.5, 9))
    t, face = shell_exit(np.array((40, 5, 40), np.float32), camera.position, direction)
    wall = face == 3
    assert wall.sum() > 20
    np.testing.assert_allclose(t[wall], 4, rtol=1e-6)
    floor = face == 4
    np.testing.assert_allclose(t[floor], -1 / direction[2, floor], rtol=1e-6)


def test_shadow_falls_behind_a_ball_only():
    ball = solid(Shape.ELLIPSOID, (0, 0, 1), (0.5, 0.5, 0.5))
    targets = np.array([(0, 0, 0), (3, 0, 0), (0, 0, 1.9), (0.9, 0, 0)], np.float32).T
    lamp = np.array([(0, 0, 2)], np.float32).T
    assert blocked(ball, lamp, np.zeros(4, int), targets).tolist() == [True, False, False, True]
    assert not blocked(ball, lamp, np.zeros(1, int), np.array([[0], [0], [1.5]], np.float32)).any()


def test_solids_must_be_sorted_by_shape():
    two = np.zeros((2, 3))
    with pytest.raises(ValueError, match="sorted"):
        make_solids(np.array([1, 0]), two, np.stack([np.eye(3)] * 2), two + 1, np.zeros(2))


@given(st.integers(0, 300))
def test_projected_bounds_miss_nothing(seed):
    scene = lay_out(seed)
    row, column = np.divmod(np.arange(12 * 16), 16)
    direction = scene.camera.directions((12, 16), row + 0.5, column + 0.5)
    some = pairs_in_view(scene.solids, scene.camera, (12, 16), 0, 12)
    every = np.divmod(np.arange(len(scene.solids) * len(row)), len(row))
    assert np.all(np.diff(some[0]) >= 0)
    for bounded, full in zip(
        first_hit(scene.solids, scene.camera.position, direction, *some),
        first_hit(scene.solids, scene.camera.position, direction, *every),
        strict=True,
    ):
        np.testing.assert_array_equal(bounded, full)


def test_same_seed_same_bits_and_other_seed_other_room():
    first, again, other = draw_room(7, SIZE), draw_room(7, SIZE), draw_room(8, SIZE)
    for field in fields(Room):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(again, field.name))
    assert np.mean(first.image != other.image) > 0.5
    assert not np.array_equal(first.depth, other.depth)


@pytest.mark.parametrize("seed", [3, 11])
def test_same_scene_at_another_size(seed):
    small, large = draw_room(seed, (32, 48)), draw_room(seed, (96, 144))
    # The centre of pixel i is the centre of pixel 3 i + 1 of an image three times as large.
    np.testing.assert_allclose(small.depth, large.depth[1::3, 1::3], rtol=1e-4)
    np.testing.assert_array_equal(small.semseg, large.semseg[1::3, 1::3])
    np.testing.assert_array_equal(small.human_parts, large.human_parts[1::3, 1::3])
    blocks = large.image.reshape(32, 3, 48, 3, 3).mean(axis=(1, 3))
    assert np.abs(small.image - blocks).mean() < 12


def test_shapes_types_and_ranges(rooms):
    for room in rooms:
        assert room.image.shape == (*SIZE, 3) and room.image.dtype == np.uint8
        assert room.depth.dtype == np.float32 and room.normals.dtype == np.float32
        assert room.edge.dtype == bool and room.saliency.dtype == bool
        assert room.semseg.dtype == np.uint8 and room.human_parts.dtype == np.uint8 and room.instances.dtype == np.int32
        assert room.semseg.max() < len(SEMSEG_CLASSES) and room.human_parts.max() < len(PART_CLASSES)
        assert np.isfinite(room.depth).all() and room.depth.min() > 0.05 and room.depth.max() < 12
        assert 20 < room.image.mean() < 235 and room.image.std() > 10


def test_normals_are_unit_and_face_the_viewer(rooms):
    rays = lens(0, SIZE)
    for seed, room in enumerate(rooms):
        np.testing.assert_allclose(np.linalg.norm(room.normals, axis=2), 1, atol=1e-5)
        assert ((room.normals * -lens(seed, SIZE)).sum(axis=2) > -1e-5).all()
    assert rays.shape == (*SIZE, 3)


def lens(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Rays in the camera's frame (x right, y up, z to the viewer), one unit deep."""
    focal = lay_out(seed).camera.focal_pixels(size)
    x = (np.arange(size[1]) + 0.5 - size[1] / 2) / focal
    y = (size[0] / 2 - np.arange(size[0]) - 0.5) / focal
    return np.stack([*np.broadcast_arrays(x[None], y[:, None]), -np.ones(size)], axis=2)


@pytest.mark.parametrize("seed", [1, 5, 9])
def test_normals_agree_with_the_depth_they_come_with(seed):
    size = (96, 128)
    room = draw_room(seed, size)
    points = room.depth[:, :, None] * lens(seed, size)
    across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    measured = np.cross(down, across)
    measured /= np.linalg.norm(measured, axis=2, keepdims=True)
    normals = room.normals
    middle = normals[1:-1, 1:-1]
    around = (normals[1:-1, 2:], normals[1:-1, :-2], normals[2:, 1:-1], normals[:-2, 1:-1])
    instances = room.instances
    same = [instances[1:-1, 1:-1] == instances[a, b] for a, b in neighbours()]
    smooth = np.all([np.abs(n - middle).max(axis=2) < 1e-3 for n in around] + same, axis=0)
    # One flat surface in the interior: two parallel ones of an instance at different depths would show as a step.
    shell = smooth & (instances[1:-1, 1:-1] < 6)
    assert shell.mean() > 0.2
    np.testing.assert_allclose(measured[shell], middle[shell], atol=5e-3)
    agree = (measured * middle).sum(axis=2)[smooth] > 0.99
    assert agree.mean() > 0.97


def neighbours():
    inner = slice(1, -1)
    return (inner, slice(2, None)), (inner, slice(None, -2)), (slice(2, None), inner), (slice(None, -2), inner)


def test_parts_are_on_people_and_everywhere_on_them(rooms):
    for room in rooms:
        np.testing.assert_array_equal(room.human_parts > 0, room.semseg == PERSON)
    assert np.unique(np.concatenate([room.human_parts.ravel() for room in rooms])).tolist() == list(
        range(len(PART_CLASSES))
    )


def test_edges_are_exactly_where_instances_differ(rooms):
    for room in rooms[:8]:
        expected = np.zeros(SIZE, bool)
        for y, x in np.ndindex(*SIZE):
            for v, u in ((y, x + 1), (y + 1, x)):
                if v < SIZE[0] and u < SIZE[1] and room.instances[y, x] != room.instances[v, u]:
                    expected[y, x] = True
        np.testing.assert_array_equal(room.edge, expected)
        assert 0.02 < room.edge.mean() < 0.5


def test_edge_marks_the_upper_left_side():
    assert instance_edges(np.array([[1, 2], [1, 2], [3, 3]], np.int32)).tolist() == [
        [True, False],
        [True, True],
        [False, False],
    ]


def test_an_instance_has_one_class(rooms):
    for room in rooms:
        pairs = np.unique(np.stack([room.instances.ravel(), room.semseg.ravel()]), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1]


def test_salient_are_the_people_if_any(rooms):
    with_people = [room for room in rooms if (room.semseg == PERSON).any()]
    assert 0.25 < len(with_people) / len(rooms) < 0.75
    for room in with_people:
        np.testing.assert_array_equal(room.saliency, room.semseg == PERSON)
    for room in rooms:
        assert room.saliency.any()
        if not (room.semseg == PERSON).any():
            assert len(np.unique(room.instances[room.saliency])) == 1


def test_salient_prefers_what_is_central_near_and_stands_free():
    instances = np.zeros((30, 30), np.int32)
    instances[:3, :] = 1
    instances[12:18, 12:18] = 2
    semseg, level = np.zeros((30, 30), np.uint8), np.ones((30, 30), np.float32)
    near = np.where(instances == 1, np.float32(0.1), level)
    both = np.array([False, True, True])
    assert (salient(semseg, instances, level, both) == (instances == 2)).all()
    assert (salient(semseg, instances, near, both) == (instances == 1)).all()
    assert (salient(semseg, instances, level, np.array([False, True, False])) == (instances == 1)).all()
    assert not salient(semseg, instances, level, np.zeros(3, bool)).any()


def test_every_class_occurs(rooms):
    present = np.zeros(len(SEMSEG_CLASSES))
    for room in rooms:
        present[np.unique(room.semseg)] += 1
    assert (present / len(rooms) >= 0.1).all(), dict(zip(SEMSEG_CLASSES, present, strict=True))


@pytest.mark.parametrize("size", [(32, 32), (33, 71), (80, 40)])
def test_any_size(size):
    room = draw_room(4, size)
    assert room.image.shape == (*size, 3) and room.depth.shape == size and room.normals.shape == (*size, 3)


def test_value_noise_passes_through_its_table():
    table = np.random.default_rng(0).random((64, 64), np.float32)
    x, y = np.array([3.0, 70.0, -1.0], np.float32), np.array([5.0, 2.0, -2.0], np.float32)
    np.testing.assert_allclose(value_noise(table, x, y), table[[5, 2, 62], [3, 6, 63]], atol=1e-6)


def test_photo_settings_leave_the_labels_alone():
    from diffusionmtl.data.rooms.render import render

    scene = lay_out(2)
    dark = replace(scene, photo=replace(scene.photo, exposure=0.05, blur=1.5, noise=0.0))
    plain, changed = (render(s, SIZE, np.random.default_rng(0)) for s in (scene, dark))
    assert changed.image.mean() < plain.image.mean()
    np.testing.assert_array_equal(plain.depth, changed.depth)
    np.testing.assert_array_equal(plain.semseg, changed.semseg)
