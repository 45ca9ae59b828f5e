"""Every kind of task is asked the same: about its loss, value, spread, meter, pictures, settings and rules."""

import math

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from diffusionmtl import colour
from diffusionmtl.labels import ValidMap, zoom
from diffusionmtl.metrics.calibration import Temperature, probabilities, spoken
from diffusionmtl.tasks import (
    Boundary,
    Depth,
    Disparity,
    Saliency,
    SemanticSegmentation,
    SurfaceNormals,
    Task,
    task_from_settings,
    task_kinds,
)

TASKS = [
    SemanticSegmentation("semseg", classes=("wall", "floor", "chair"), ignore=7, weight=2.0),
    SemanticSegmentation("many", classes=tuple(f"class {i}" for i in range(300)), ignore=65535),
    Depth("depth", scale=0.01, limit=80.0),
    Disparity("disparity", scale=1 / 256, limit=80.0),
    SurfaceNormals("normals", frame="opencv"),
    Saliency("saliency", ignore=100),
    Boundary("edge", positive_weight=0.8),
]
every_kind = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
seeds = st.integers(0, 2**32 - 1)
N, H, W = 3, 12, 14

BEST = {
    "absErr@pooled": 0,
    "relErr@pooled": 0,
    "rmse@pooled": 0,
    "mErr@pooled": 0,
    "medErr@pooled": 0,
}  # all others are shares in percent, best at 100


def labels(task: Task, seed: int = 0, n: int = N, height: int = H, width: int = W) -> Tensor:
    """Labels [n C H W] that the task can have, plain."""
    rng = np.random.default_rng(seed)
    if isinstance(task, SemanticSegmentation):
        return torch.from_numpy(rng.integers(0, task.channels, (n, 1, height, width))).to(task.label_dtype)
    if isinstance(task, Depth):
        return torch.from_numpy(rng.uniform(0.5, 20, (n, 1, height, width)).astype(np.float32))
    if isinstance(task, SurfaceNormals):
        return F.normalize(torch.from_numpy(rng.normal(size=(n, 3, height, width)).astype(np.float32)), dim=1)
    lines = torch.zeros(n, 1, height, width, dtype=torch.bool)
    for i in range(n):
        # Not on the outermost ring, where non-maximum suppression leaves no prediction.
        lines[i, 0, 1:-1, int(rng.integers(2, width - 2))] = True
    return lines


def raw_for(task: Task, label: Tensor) -> Tensor:
    """The raw output that says exactly what the label says."""
    if isinstance(task, SemanticSegmentation):
        return 40.0 * F.one_hot(label[:, 0].long(), task.channels).movedim(-1, 1).float()
    if isinstance(task, Saliency):
        yes = label.float()
        return 40.0 * torch.cat([1 - yes, yes], dim=1)
    if isinstance(task, Boundary):
        return 40.0 * (2 * label.float() - 1)
    return 3.0 * label if isinstance(task, SurfaceNormals) else label.clone()


def noise(task: Task, seed: int = 1, n: int = N, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(n, task.channels, H, W, generator=torch.Generator().manual_seed(seed))


def some(seed: int = 0, n: int = N) -> Tensor:
    """A mask with valid and invalid pixels in every sample."""
    mask = torch.rand(n, H, W, generator=torch.Generator().manual_seed(seed)) < 0.6
    mask[:, 0, 0], mask[:, 0, 1] = True, False
    return mask


def everywhere(n: int = N) -> Tensor:
    return torch.ones(n, H, W, dtype=torch.bool)


def garbage(task: Task, label: Tensor, valid: Tensor, factor: float = 1e6) -> Tensor:
    """The label with something else, of its type, wherever it is not valid."""
    other = labels(task, seed=99, n=len(label))
    if other.is_floating_point():
        other = other * factor
    return torch.where(valid[:, None], label, other)


def test_every_kind_of_the_package_is_asked():
    ours = {kind for kind, of in task_kinds().items() if of.__module__.startswith("diffusionmtl.")}
    assert {task.kind for task in TASKS} == ours


@every_kind
class TestLoss:
    def test_one_number_per_sample(self, task):
        raw = noise(task)
        assert raw.shape == (N, task.channels, H, W)
        loss = task.loss(raw, labels(task), some())
        assert loss.shape == (N,) and bool((loss > 0).all())

    def test_the_right_answer_costs_nothing_and_a_better_one_costs_less(self, task):
        label, valid = labels(task), some()
        right = raw_for(task, label)
        losses = [task.loss(right + spoil * noise(task), label, valid) for spoil in (0.0, 20.0, 1000.0)]
        assert bool((losses[0] <= 1e-5).all())
        assert bool((losses[0] < losses[1]).all())
        assert bool((losses[1] < losses[2]).all())

    def test_a_step_downhill_helps(self, task):
        raw, label, valid = noise(task).requires_grad_(), labels(task), some()
        before = task.loss(raw, label, valid).sum()
        (gradient,) = torch.autograd.grad(before, raw)
        assert bool(torch.isfinite(gradient).all()) and bool(gradient.any())
        after = task.loss(raw - 1e-3 * gradient / gradient.norm(), label, valid).sum()
        assert float(after.detach()) < float(before.detach())

    def test_a_sample_without_a_valid_pixel_teaches_nothing(self, task):
        raw, valid = noise(task).requires_grad_(), some()
        valid[1] = False
        loss = task.loss(raw, labels(task), valid)
        loss.sum().backward()
        assert float(loss[1].detach()) == 0
        assert bool(torch.isfinite(loss).all()) and bool(torch.isfinite(raw.grad).all())
        assert not raw.grad[1].any() and bool(raw.grad[0].any())

    @pytest.mark.parametrize("factor", [1e6, math.inf, math.nan])
    def test_what_lies_under_an_invalid_pixel_does_not_count(self, task, factor):
        label, valid = labels(task), some()
        raw = noise(task).requires_grad_()
        loss = task.loss(raw, garbage(task, label, valid, factor), valid)
        assert torch.equal(loss, task.loss(raw, label, valid))
        (gradient,) = torch.autograd.grad(loss.sum(), raw)
        assert bool(torch.isfinite(gradient).all())
        assert not gradient.movedim(1, -1)[~valid].any()

    def test_samples_do_not_know_of_each_other(self, task):
        raw, label, valid = noise(task), labels(task), some()
        together = task.loss(raw, label, valid)
        alone = torch.cat([task.loss(raw[i : i + 1], label[i : i + 1], valid[i : i + 1]) for i in range(N)])
        torch.testing.assert_close(together, alone)

    def test_no_sample_at_all(self, task):
        loss = task.loss(noise(task)[:0], labels(task)[:0], some()[:0])
        assert loss.shape == (0,)


@every_kind
class TestValue:
    def test_an_estimate_may_be_averaged_and_read(self, task):
        estimate = task.activate(noise(task))
        assert estimate.shape[0] == N and estimate.shape[2:] == (H, W)
        assert bool(torch.isfinite(estimate).all())
        value = task.value(torch.stack([estimate, task.activate(noise(task, seed=2))]).mean(dim=0))
        assert value.shape == (N, task.label_channels, H, W)

    def test_the_right_output_is_the_label(self, task):
        label = labels(task)
        value = task.value(task.activate(raw_for(task, label)))
        assert value.shape == label.shape
        torch.testing.assert_close(value.float(), label.float(), atol=1e-5, rtol=1e-5)

    def test_values_lie_where_the_unit_allows(self, task):
        estimate = task.activate(noise(task, scale=30.0))
        if isinstance(task, Depth):
            assert bool((estimate > 0).all())
        elif task.unit == "unit vector":
            torch.testing.assert_close(estimate.norm(dim=1), torch.ones(N, H, W))
        else:
            assert float(estimate.min()) >= 0 and float(estimate.max()) <= 1
            if estimate.shape[1] > 1:
                torch.testing.assert_close(estimate.sum(dim=1), torch.ones(N, H, W))

    def test_equal_draws_agree_and_others_do_not(self, task):
        one, other = task.activate(noise(task)), task.activate(noise(task, seed=2))
        same = task.spread(torch.stack([one, one, one]))
        assert same.shape == (N, H, W)
        torch.testing.assert_close(
            same, torch.zeros(N, H, W), atol=1e-3 if task.spread_unit == "degrees" else 1e-5, rtol=0
        )
        spread = task.spread(torch.stack([one, other]))
        assert bool(torch.isfinite(spread).all()) and float(spread.min()) >= 0
        assert float(spread.mean()) > 0.01

    def test_spread_has_no_order_and_grows_with_disagreement(self, task):
        near = [task.activate(raw_for(task, labels(task)) + noise(task, seed, scale=0.1)) for seed in (1, 2, 3)]
        far = [task.activate(noise(task, seed, scale=30.0)) for seed in (1, 2, 3)]
        torch.testing.assert_close(task.spread(torch.stack(far)), task.spread(torch.stack(far[::-1])))
        assert float(task.spread(torch.stack(near)).mean()) < float(task.spread(torch.stack(far)).mean())


@every_kind
class TestError:
    def test_the_right_answer_has_none_and_others_have_some(self, task):
        label = labels(task)
        right, other = (task.value(task.activate(raw)) for raw in (raw_for(task, label), noise(task)))
        error = task.error(right, label)
        assert error.shape == (N, H, W) and float(error.min()) >= 0 and float(error.max()) < 0.1
        assert float(task.error(other, label).mean()) > 0.2
        assert task.error_unit

    def test_stated_odds_are_those_of_the_estimate(self, task):
        label, estimate = labels(task), task.activate(raw_for(task, labels(task)))
        odds = task.log_odds(estimate)
        if odds is None:
            return
        assert odds.isfinite().all() and odds.shape[0] == N and odds.shape[2:] == (H, W)
        stated, came_true = spoken(probabilities(odds, Temperature(1.0, 0.0)), label[:, 0].long())
        torch.testing.assert_close(stated, came_true, atol=1e-4, rtol=0)

    def test_an_extent_is_a_number_per_pixel(self, task):
        extent = task.extent(task.activate(noise(task)))
        assert (extent is not None) == (task.kind in ("depth", "disparity"))
        if extent is not None:
            assert extent.shape == (N, H, W) and float(extent.min()) >= 0


@every_kind
class TestMeter:
    def test_the_right_answer_scores_the_best_value_in_every_figure(self, task):
        label = labels(task, n=40)
        meter = task.meter()
        meter.update(task.activate(raw_for(task, label)), label, everywhere(40))
        figures = meter.compute()
        assert task.headline in figures and all("@" in name for name in figures)
        for name, figure in figures.items():
            assert figure == pytest.approx(BEST.get(name, 100), abs=0.01), name

    def test_a_worse_answer_scores_worse(self, task):
        label = labels(task)
        scores = []
        for spoil in (0.0, 2.0, 1000.0):
            meter = task.meter()
            meter.update(task.activate(raw_for(task, label) + spoil * noise(task, scale=10.0)), label, everywhere())
            scores.append(meter.compute()[task.headline])
        assert scores == sorted(scores, reverse=task.higher_is_better) and scores[0] != scores[-1]

    def test_how_images_are_batched_does_not_matter(self, task):
        estimate, label, valid = task.activate(noise(task)), labels(task), some()
        whole, single = task.meter(), task.meter()
        whole.update(estimate, label, valid)
        for i in (2, 0, 1):
            single.update(estimate[i : i + 1], label[i : i + 1], valid[i : i + 1])
        assert whole.compute() == pytest.approx(single.compute(), nan_ok=True)

    @pytest.mark.parametrize("factor", [1e6, math.inf, math.nan])
    def test_what_is_not_valid_does_not_count(self, task, factor):
        estimate, label, valid = task.activate(noise(task)), labels(task), some()
        one, other = task.meter(), task.meter()
        one.update(estimate, label, valid)
        other.update(estimate, garbage(task, label, valid, factor), valid)
        assert one.compute() == pytest.approx(other.compute(), nan_ok=True)

    @pytest.mark.filterwarnings("ignore:The ``compute`` method")
    def test_nothing_seen_is_not_a_score(self, task):
        meter = task.meter()
        assert math.isnan(meter.compute()[task.headline])
        meter.update(task.activate(noise(task)), labels(task), everywhere())
        meter.reset()
        assert math.isnan(meter.compute()[task.headline])


@every_kind
class TestPicture:
    def test_a_picture_is_rgb_and_grey_where_nothing_is_known(self, task):
        valid = some(n=1)[0]
        for value in (labels(task)[0], task.value(task.activate(noise(task)))[0]):
            picture = task.draw(value, valid)
            assert picture.dtype == np.uint8 and picture.shape == (H, W, 3)
            assert (picture[~valid.numpy()] == colour.GREY).all()
            assert len(np.unique(picture[valid.numpy()], axis=0)) > 1

    def test_what_lies_under_an_invalid_pixel_does_not_colour_the_rest(self, task):
        label, valid = labels(task, n=1), some(n=1)
        picture = task.draw(label[0], valid[0])
        assert np.array_equal(picture, task.draw(garbage(task, label, valid)[0], valid[0]))

    def test_nothing_known_is_all_grey(self, task):
        nowhere = torch.zeros(H, W, dtype=torch.bool)
        assert (task.draw(labels(task)[0], nowhere) == colour.GREY).all()
        assert task.limits(labels(task)[0], nowhere) is None

    def test_two_pictures_may_share_their_limits(self, task):
        one, other = labels(task)[0], labels(task, seed=5)[0]
        limits = task.limits(one, everywhere()[0])
        if limits is None:
            assert np.array_equal(task.draw(one), task.draw(one, limits=(0.0, 1.0)))
        else:
            assert limits[0] <= limits[1]
            assert np.array_equal(task.draw(one), task.draw(one, limits=limits))
            assert not np.array_equal(task.draw(other), task.draw(other, limits=(limits[0], 2 * limits[1])))

    def test_the_legend_names_colours_that_are_drawn(self, task):
        shown = {tuple(row) for row in task.draw(labels(task, n=1, height=60, width=80)[0]).reshape(-1, 3).tolist()}
        legend = task.legend()
        assert {rgb for _, rgb in legend} <= shown
        assert len(legend) == (task.channels if isinstance(task, SemanticSegmentation) else 0)

    def test_figures_about_a_label(self, task):
        label, valid = labels(task)[0], some()[0]
        figures = task.describe(label, valid)
        assert figures and all(math.isfinite(figure) for figure in figures.values())
        assert all(isinstance(doubt, str) and "\n" not in doubt for doubt in task.doubts(figures))
        assert task.describe(label, torch.zeros_like(valid)) == {}
        assert task.doubts({}) == []


@every_kind
class TestSettings:
    def test_settings_are_yaml_that_gives_the_task_back(self, task):
        said = yaml.safe_load(yaml.safe_dump(task.settings()))
        assert task_from_settings(task.name, said, "dataset.yaml") == task
        assert said["kind"] == task.kind

    def test_a_task_with_defaults_says_no_more_than_it_must(self, task):
        plain = {"classes": list(task.classes)} if isinstance(task, SemanticSegmentation) else {}
        fresh = task_from_settings("x", {"kind": task.kind, **plain}, "dataset.yaml")
        assert fresh.settings() == {"kind": task.kind, **plain}

    def test_a_task_says_what_it_is(self, task):
        assert task.channels >= 1 and task.label_channels >= 1
        assert task.suffixes and all(suffix.startswith(".") for suffix in task.suffixes)
        assert task.unit and task.spread_unit
        assert torch.zeros(1, dtype=task.label_dtype).dtype == labels(task).dtype


@every_kind
class TestGeometry:
    @given(seed=seeds)
    def test_a_mirror_image_twice_is_the_image(self, task, seed):
        label = labels(task, seed, n=1)[0].as_subclass(task.label_type)
        once = label.flipped()
        assert type(once) is task.label_type and once.dtype == label.dtype
        assert torch.equal(once.flipped().plain(), label.plain())

    @given(seed=seeds, left=st.integers(0, W - 1), width=st.integers(1, W))
    def test_cutting_and_mirroring_may_change_places(self, task, seed, left, width):
        width = min(width, W - left)
        label = labels(task, seed, n=1)[0].as_subclass(task.label_type)
        first = label.flipped().cropped(0, W - left - width, H, width)
        assert torch.equal(first.plain(), label.cropped(0, left, H, width).flipped().plain())

    @given(seed=seeds, scale=st.floats(0.25, 4))
    def test_zooming_in_and_out_again_changes_nothing(self, task, seed, scale):
        label = labels(task, seed, n=1)[0].as_subclass(task.label_type)
        zoomed = zoom(label, scale)
        assert type(zoomed) is task.label_type and zoomed.dtype == label.dtype
        torch.testing.assert_close(zoom(zoomed, 1 / scale).plain(), label.plain(), rtol=1e-5, atol=1e-6)

    @given(seed=seeds, pads=st.tuples(*[st.integers(0, 5)] * 4))
    def test_padding_is_not_valid_and_can_be_cut_off(self, task, seed, pads):
        left, top, _, _ = pads
        label = labels(task, seed, n=1)[0].as_subclass(task.label_type)
        wider, valid = label.padded(*pads), torch.ones(1, H, W, dtype=torch.bool).as_subclass(ValidMap).padded(*pads)
        assert wider.shape[-2:] == valid.shape[-2:] and int(valid.sum()) == H * W
        assert type(wider) is task.label_type and wider.dtype == label.dtype
        assert torch.equal(wider.cropped(top, left, H, W).plain(), label.plain())
        assert bool(valid.cropped(top, left, H, W).all())

    @given(seed=seeds, height=st.integers(1, 30), width=st.integers(1, 30))
    def test_resizing_invents_no_value(self, task, seed, height, width):
        label = labels(task, seed, n=1)[0].as_subclass(task.label_type)
        resized = label.resized(height, width)
        assert type(resized) is task.label_type and resized.shape[-2:] == (height, width)
        pixels = {tuple(pixel) for pixel in label.plain().flatten(1).T.tolist()}
        assert {tuple(pixel) for pixel in resized.plain().flatten(1).T.tolist()} <= pixels


@every_kind
class TestJointSpace:
    """Where predictions of one kind are compared with labels of another."""

    def test_predictions_and_labels_look_alike(self, task):
        generators = [torch.Generator().manual_seed(0)] * N
        label, valid = labels(task), everywhere()
        of_label = task.joint_label(label, valid)
        assert of_label.shape == (N, task.joint_channels, H, W) and of_label.dtype == torch.float32
        of_right = task.joint(raw_for(task, label), valid, generators)
        torch.testing.assert_close(of_right, of_label, atol=1e-4, rtol=1e-4)
        assert task.joint(noise(task)[:0], valid[:0], []).shape == (0, task.joint_channels, H, W)

    def test_a_prediction_learns_there(self, task):
        raw = noise(task).requires_grad_()
        joint = task.joint(raw, everywhere(), [torch.Generator().manual_seed(0)] * N)
        (joint * torch.randn(joint.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
        assert bool(torch.isfinite(raw.grad).all()) and bool(raw.grad.flatten(1).any(dim=1).all())

    def test_valid_pixels_know_nothing_of_the_others(self, task):
        label, valid = torch.where(some()[:, None], labels(task), 0), some()
        other = torch.where(valid[:, None], label, labels(task, seed=99))
        one, two = task.joint_label(label, valid), task.joint_label(other, valid)
        assert torch.equal(one.movedim(1, -1)[valid], two.movedim(1, -1)[valid])
        raw = noise(task)
        spoilt = torch.where(valid[:, None], raw, 1e3 * noise(task, seed=5))
        one, two = (task.joint(x, valid, [torch.Generator().manual_seed(0)] * N) for x in (raw, spoilt))
        assert torch.equal(one.movedim(1, -1)[valid], two.movedim(1, -1)[valid])
