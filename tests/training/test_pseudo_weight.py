"""Predicted labels count less than those of people, and share their image with them."""

from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch

from diffusionmtl.data.base import read_sample
from diffusionmtl.data.collate import collate
from diffusionmtl.data.transforms import Augmentation, augment
from diffusionmtl.models.network import Network
from diffusionmtl.training.extra import Seen
from diffusionmtl.training.objective import objective, shares
from diffusionmtl.training.views import scale_cropped
from diffusionmtl.training.xtc import cross_task_consistency
from diffusionmtl.types import Batch, Canvas, NetworkOutput
from tests.toy import TASKS, ToyDataset

SEEN = {0: {"depth": 1.0, "edge": 0.5, "saliency": 0.5}, 1: {"semseg": 1.0}, 2: {"depth": 0.5, "normals": 0.5}}


def batch(seen: dict[int, dict[str, float]]) -> Batch:
    toy = ToyDataset(3)
    samples = [
        replace(read_sample(toy, i, w.keys()), weights={t: a for t, a in w.items() if a != 1}) for i, w in seen.items()
    ]
    return collate(samples, TASKS)


def outputs(of: Batch) -> NetworkOutput:
    """Raw outputs at full size that ask for a gradient, the same for any set of labels."""
    generator = torch.Generator().manual_seed(0)
    size = (24, 32)
    full = {task.name: torch.rand(3, task.channels, *size, generator=generator) for task in TASKS}
    raw = {name: full[name][labels.rows].requires_grad_() for name, labels in of.labels.items()}
    return NetworkOutput(raw, {}, {name: labels.rows for name, labels in of.labels.items()}, Canvas(size, size))


def gradients(seen: dict[int, dict[str, float]]) -> dict[tuple[int, str], torch.Tensor]:
    """Per image and task the gradient of the objective at its outputs."""
    labels = batch(seen)
    output = outputs(labels)
    objective(TASKS, output, labels).total.backward()
    found = {}
    for task, raw in output.final.items():
        assert raw.grad is not None
        found |= {(int(row), task): raw.grad[n] for n, row in enumerate(labels.labels[task].rows)}
    return found


def weights(of: Batch, task: str) -> list[float] | None:
    weight = of.labels[task].weight
    return None if weight is None else weight.tolist()


def test_shares_are_those_of_the_method_page():
    expected = [5 / 3 * 1 / 2.0, 5 / 3 * 1.0, 5 / 3 * 0.5 / 1.0]  # K / B * largest / together
    assert shares(TASKS, batch(SEEN)).tolist() == pytest.approx(expected)


def test_the_gradient_of_a_predicted_label_is_that_of_a_label_times_its_weight():
    weighted = gradients(SEEN)
    equal = gradients({i: dict.fromkeys(tasks, 1.0) for i, tasks in SEEN.items()})
    # Image 0 shares 1 in proportion 2 : 1 : 1 instead of by three, image 2 counts one half of what it did.
    factors = {
        (0, "depth"): 3 / 2,
        (0, "edge"): 3 / 4,
        (0, "saliency"): 3 / 4,
        (1, "semseg"): 1,
        (2, "depth"): 0.5,
        (2, "normals"): 0.5,
    }
    assert weighted.keys() == factors.keys()
    for pair, factor in factors.items():
        assert equal[pair].abs().max() > 0
        torch.testing.assert_close(weighted[pair], factor * equal[pair])


def test_weight_0_is_no_label_and_weight_1_any_label():
    without = gradients({i: {t: a for t, a in tasks.items() if a == 1} for i, tasks in SEEN.items()})
    nothing = gradients({i: {t: 1.0 if a == 1 else 0.0 for t, a in tasks.items()} for i, tasks in SEEN.items()})
    for pair, gradient in nothing.items():
        assert torch.equal(gradient, without.get(pair, torch.zeros_like(gradient)))
    ones = batch({i: dict.fromkeys(tasks, 1.0) for i, tasks in SEEN.items()})
    assert all(labels.weight is None for labels in ones.labels.values())


def test_in_cross_task_consistency_a_pair_counts_as_its_label_does():
    generator = torch.Generator().manual_seed(0)
    grid = (3, 4)
    everywhere = torch.arange(3)
    final = {task.name: torch.rand(3, task.channels, *grid, generator=generator) for task in TASKS}
    shared = torch.randn(3, 8, *grid, generator=generator)
    output = NetworkOutput(final, {}, {task: everywhere for task in final}, Canvas((24, 32), (24, 32)), shared)
    extra = cross_task_consistency(TASKS, 8, 4, 1.0, 1.0, False, 0)
    network = Mock(spec=Network)

    def terms(weight: float) -> torch.Tensor:
        labels = batch({i: {t: 1.0 if a == 1 else weight for t, a in tasks.items()} for i, tasks in SEEN.items()})
        found = extra.terms(network, Seen(labels, labels, output, 0, 0))
        return torch.stack([found["agreement"], found["feature"]])

    whole, half, quarter, nothing = (terms(weight).detach() for weight in (1.0, 0.5, 0.25, 0.0))
    assert bool((whole > half).all()) and bool((nothing > 0).all())
    torch.testing.assert_close(whole - half, half - nothing)
    torch.testing.assert_close(half - quarter, quarter - nothing)


def test_weights_stay_beside_their_labels():
    labels = batch(SEEN)
    view = scale_cropped(labels, TASKS, [torch.Generator().manual_seed(n) for n in range(len(labels.names))])
    for same in (labels, labels.to("cpu"), view):
        assert weights(same, "depth") == [1.0, 0.5] and weights(same, "semseg") is None
    sample = replace(read_sample(ToyDataset(1), 0, {"depth"}), weights={"depth": 0.5})
    varied = augment(sample, Augmentation((16, 16)), torch.Generator().manual_seed(0))
    assert varied.weights == {"depth": 0.5}
