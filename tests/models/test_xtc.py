"""Cross-task consistency, part by part: which pairs, which columns, what is alike, and what may influence it."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from diffusionmtl.models.xtc import FINER, FiLM, JointSpace, consistency, distance, joint_labels, pairs_of
from diffusionmtl.tasks import (
    Boundary,
    Depth,
    Disparity,
    Saliency,
    SemanticSegmentation,
    SurfaceNormals,
    task_kinds,
)
from diffusionmtl.types import Canvas, TaskLabels

KINDS = (
    SemanticSegmentation("semseg", classes=("a", "b", "c")),
    Depth("depth"),
    Disparity("disparity"),
    SurfaceNormals("normals"),
    Saliency("saliency"),
    Boundary("edge"),
)
UNDRAWN = tuple(task for task in KINDS if task.kind not in ("segmentation", "saliency"))
B, GRID, FEATURE, WIDTH = 3, (2, 3), 8, 4
CANVAS = Canvas(size=(14, 20), padded=(16, 24))
JOINT_GRID = (FINER * GRID[0], FINER * GRID[1])
masks = st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def label(task, n: int, seed: int = 0) -> Tensor:
    """Labels [n C H W] that the task can have."""
    size, g = (n, task.label_channels, *CANVAS.size), generator(seed)
    if isinstance(task, SemanticSegmentation):
        return torch.randint(task.channels, size, generator=g).to(task.label_dtype)
    if isinstance(task, SurfaceNormals):
        return F.normalize(torch.randn(size, generator=g), dim=1)
    return torch.rand(size, generator=g) < 0.5 if task.label_dtype == torch.bool else torch.rand(size, generator=g) + 1


def given_labels(tasks, labelled, invalid: int = 0, garbage: int = 0) -> dict[str, TaskLabels]:
    """Labels of the (image, task) pairs of a mask; not valid in so many columns at the left, other values there."""
    labels = {}
    for number, task in enumerate(tasks):
        rows = torch.tensor(labelled)[:, number].nonzero()[:, 0]
        value = label(task, len(rows), seed=number)
        valid = torch.ones(len(rows), *CANVAS.size, dtype=torch.bool)
        valid[..., :invalid] = False
        if garbage:
            other = label(task, len(rows), seed=garbage)
            other = other * torch.inf if other.is_floating_point() else 255 - other.long()
            value = torch.where(valid[:, None], value, other.to(value.dtype))
        labels[task.name] = TaskLabels(value, valid, rows)
    return labels


def predictions(tasks, images: int = B, seed: int = 1) -> dict[str, Tensor]:
    """Raw outputs; depths in front of the camera, since one behind it learns nothing."""
    g = generator(seed)
    raw = {task.name: torch.randn(images, task.channels, *GRID, generator=g) for task in tasks}
    ahead = {task.name: raw[task.name].abs() + 0.1 for task in tasks if isinstance(task, Depth)}
    return {task: x.requires_grad_() for task, x in {**raw, **ahead}.items()}


def space_for(tasks) -> JointSpace:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return JointSpace({task.name: task.joint_channels for task in tasks}, FEATURE, WIDTH)


def feature(images: int = B) -> Tensor:
    return torch.randn(images, FEATURE, *GRID, generator=generator(2))


def found(space, tasks, raw, labels, at=None):
    at = feature(len(raw[tasks[0].name])) if at is None else at
    known = joint_labels(tasks, labels, len(at), CANVAS, JOINT_GRID)
    return consistency(space, tasks, raw, known, at, [generator(n) for n in range(len(at))])


class TestPairs:
    def test_unlabelled_with_labelled(self):
        pairs = pairs_of(torch.tensor([[True, False, False], [False, True, True], [False, False, False]]))
        triples = set(zip(pairs.image.tolist(), pairs.source.tolist(), pairs.target.tolist(), strict=True))
        assert triples == {(0, 1, 0), (0, 2, 0), (1, 0, 1), (1, 0, 2)}

    def test_every_ordered_pair_where_everything_is_labelled(self):
        pairs = pairs_of(torch.ones(2, 3, dtype=torch.bool))
        triples = list(zip(pairs.image.tolist(), pairs.source.tolist(), pairs.target.tolist(), strict=True))
        assert sorted(triples) == [(n, s, t) for n in range(2) for s, t in itertools.permutations(range(3), 2)]

    @given(mask=masks)
    def test_as_a_loop_would_find_them(self, mask):
        pairs = pairs_of(torch.tensor(mask))
        expected = []
        for n, row in enumerate(mask):
            known = [t for t in range(4) if row[t]]
            sources = [s for s in range(4) if s not in known] or range(4)
            expected += [(n, s, t) for s in sources for t in known if s != t]
        triples = zip(pairs.image.tolist(), pairs.source.tolist(), pairs.target.tolist(), strict=True)
        assert sorted(triples) == sorted(expected) and len(pairs) == len(expected)

    @pytest.mark.parametrize("tasks", [1, 2, 5])
    def test_each_pair_of_tasks_has_a_column_of_its_own(self, tasks):
        column = pairs_of(torch.ones(1, tasks, dtype=torch.bool)).column(tasks)
        assert column.tolist() == list(range(tasks * (tasks - 1)))


class TestFiLM:
    def test_begins_as_no_more_than_a_normalised_convolution(self):
        film, x = FiLM(3, 5, pairs=4), torch.randn(6, 3, 4, 4, generator=generator())
        expected = F.relu(F.batch_norm(film.conv(x), None, None, training=True))
        torch.testing.assert_close(film(x, torch.arange(6) % 4), expected)

    def test_each_map_is_scaled_and_shifted_by_its_own_column(self):
        film, x = FiLM(3, 5, pairs=4).eval(), torch.randn(4, 3, 4, 4, generator=generator())
        with torch.no_grad():
            film.gamma[:] = torch.tensor([1.0, 2.0, 0.5, 0.0])
            film.beta[:] = torch.tensor([0.0, 1.0, -1.0, 7.0])
        plain = film.norm(film.conv(x))
        column = torch.tensor([3, 1, 0, 2])
        y = film(x, column)
        for n, (gamma, beta) in enumerate([(0.0, 7.0), (2.0, 1.0), (1.0, 0.0), (0.5, -1.0)]):
            torch.testing.assert_close(y[n], F.relu(gamma * plain[n] + beta))

    def test_only_the_columns_that_were_used_learn(self):
        film, x = FiLM(3, 5, pairs=4), torch.randn(2, 3, 4, 4, generator=generator())
        (film(x, torch.tensor([1, 1])) * torch.randn(2, 5, 4, 4, generator=generator(1))).sum().backward()
        for table in (film.gamma, film.beta):
            assert bool(table.grad[:, 1].any()) and not table.grad[:, [0, 2, 3]].any()


class TestDistance:
    def test_known_answers(self):
        x = torch.randn(1, 4, 2, 2, generator=generator())
        everywhere = torch.ones(1, 2, 2, dtype=torch.bool)
        orthogonal = torch.stack([-x[:, 1], x[:, 0], -x[:, 3], x[:, 2]], dim=1)
        for other, expected in ((x, 0.0), (3 * x, 0.0), (-x, 2.0), (orthogonal, 1.0)):
            assert float(distance(x, other, everywhere)) == pytest.approx(expected, abs=1e-6)

    def test_only_valid_positions_count(self):
        x = torch.randn(2, 4, 2, 2, generator=generator())
        valid = torch.tensor([[[True, False], [False, False]], [[False, False], [False, False]]])
        other = -x.clone()
        other[0, :, 0, 0] = x[0, :, 0, 0]
        assert distance(x, other, valid).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_every_kind_is_asked():
    ours = {kind for kind, of in task_kinds().items() if of.__module__.startswith("diffusionmtl.")}
    assert {task.kind for task in KINDS} == ours


@pytest.mark.parametrize("labelled", [[[n == 2 * b for n in range(6)] for b in range(B)], [[True] * 6] * B])
def test_every_kind_learns_from_the_labels_of_others(labelled):
    space, raw = space_for(KINDS), predictions(KINDS)
    result = found(space, KINDS, raw, given_labels(KINDS, labelled))
    assert len(result.between) == len(result.to_feature) == len(result.pairs)
    assert bool(((result.between > 0) & (result.between < 2)).all())
    (result.between.sum() + result.to_feature.sum()).backward()
    for number, task in enumerate(KINDS):
        gradient = raw[task.name].grad
        assert bool(torch.isfinite(gradient).all())
        # Of the images where it is a source, and of no other.
        sources = set(result.pairs.image[result.pairs.source == number].tolist())
        assert set(gradient.flatten(1).any(dim=1).nonzero()[:, 0].tolist()) == sources, task.name
    assert all(bool(torch.isfinite(p.grad).all()) for p in space.parameters())


def test_a_prediction_that_is_the_label_of_a_like_task_is_at_no_distance():
    """Two tasks of one kind with one input layer: prediction and label enter alike and must come out alike."""
    tasks = (Depth("one"), Depth("two"))
    space = space_for(tasks).eval()
    space.inputs["two"].load_state_dict(space.inputs["one"].state_dict())
    metres = torch.full((1, 1, *GRID), 3.0)
    known = TaskLabels(
        torch.full((1, 1, *CANVAS.size), 5.0), torch.ones(1, *CANVAS.size, dtype=torch.bool), torch.tensor([0])
    )
    labels = {"one": known, "two": TaskLabels(known.value[:0], known.valid[:0], known.rows[:0])}
    result = found(space, tasks, {"one": metres, "two": metres}, labels, feature(1))
    assert result.pairs.source.tolist() == [1] and result.pairs.target.tolist() == [0]
    assert result.between.tolist() == pytest.approx([0.0], abs=1e-6)
    assert float(result.to_feature.detach()) > 0.1


def test_no_gradient_reaches_the_feature():
    at, raw = feature().requires_grad_(), predictions(KINDS)
    result = found(space_for(KINDS), KINDS, raw, given_labels(KINDS, [[True] * 6] * B), at)
    result.to_feature.sum().backward()
    assert at.grad is None and bool(raw["depth"].grad.any())


def test_the_tables_tell_the_pairs_apart():
    space, raw = space_for(UNDRAWN).eval(), predictions(UNDRAWN)
    labels = given_labels(UNDRAWN, [[True] * 4] * B)
    before = found(space, UNDRAWN, raw, labels)
    chosen = int(before.pairs.column(4)[5])
    with torch.no_grad():
        for table in space.tables():
            table[:, chosen] += torch.randn(len(table), generator=generator(4))
    after = found(space, UNDRAWN, raw, labels)
    moved = (before.between != after.between).nonzero()[:, 0]
    assert moved.tolist() == (before.pairs.column(4) == chosen).nonzero()[:, 0].tolist() and len(moved) == B


@given(mask=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=B, max_size=B))
def test_all_images_together_as_one_at_a_time(mask):
    space, raw = space_for(UNDRAWN).eval(), predictions(UNDRAWN)
    together = found(space, UNDRAWN, raw, given_labels(UNDRAWN, mask, invalid=5))
    whole = given_labels(UNDRAWN, mask, invalid=5)
    for n in range(B):
        labels = {}
        for task, known in whole.items():
            mine = known.rows == n
            labels[task] = TaskLabels(known.value[mine], known.valid[mine], known.rows[mine] * 0)
        alone = found(space, UNDRAWN, {t: x[n : n + 1] for t, x in raw.items()}, labels, feature()[n : n + 1])
        mine = together.pairs.image == n
        torch.testing.assert_close(together.between[mine], alone.between)
        torch.testing.assert_close(together.to_feature[mine], alone.to_feature)


@pytest.mark.parametrize("labelled", [[[n == b for n in range(6)] for b in range(B)], [[True] * 6] * B])
def test_what_lies_under_invalid_pixels_counts_for_nothing_bit_for_bit(labelled):
    results = []
    for garbage in (0, 77):
        space, raw = space_for(KINDS), predictions(KINDS)
        result = found(space, KINDS, raw, given_labels(KINDS, labelled, invalid=9, garbage=garbage))
        (result.between.sum() + result.to_feature.sum()).backward()
        results.append((result, raw, space))
    (one, raw, space), (other, other_raw, other_space) = results
    assert torch.equal(one.between, other.between) and torch.equal(one.to_feature, other.to_feature)
    assert all(torch.equal(raw[task].grad, other_raw[task].grad) for task in raw)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(space.parameters(), other_space.parameters(), strict=True))
    assert bool(one.between.all())


def test_a_prediction_is_not_judged_where_the_label_is_unknown():
    raw = predictions(KINDS)
    result = found(
        space_for(KINDS).eval(), KINDS, raw, given_labels(KINDS, [[n == 1 for n in range(6)]] * B, invalid=20)
    )
    (result.between.sum() + result.to_feature.sum()).backward()
    assert not result.between.any() and not result.to_feature.any()
    assert not any(x.grad.any() for task, x in raw.items() if task != "depth")


def test_without_a_pair_there_is_nothing_to_learn_but_a_gradient_of_zero():
    space = space_for(KINDS)
    result = found(space, KINDS, predictions(KINDS), given_labels(KINDS, [[False] * 6] * B))
    assert len(result.between) == 0
    (result.between.sum() + result.to_feature.sum()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in space.parameters())


def test_labels_lie_where_their_images_do():
    """The picture is at the top left of the padded one; around it nothing is known."""
    task = Depth("depth")
    ramp = torch.arange(1.0, 21.0).expand(1, 1, 14, 20)
    labels = {"depth": TaskLabels(ramp, torch.ones(1, 14, 20, dtype=torch.bool), torch.tensor([1]))}
    joint = joint_labels((task,), labels, 2, CANVAS, (4, 6))
    assert joint.valid["depth"][0].tolist() == [[True] * 5 + [False]] * 3 + [[False] * 6]
    assert joint.maps["depth"][0, 0, 0].tolist() == pytest.approx([3 / 19, 7 / 19, 11 / 19, 15 / 19, 1.0, 0.0])
    assert joint.position.tolist() == [[-1], [0]]
