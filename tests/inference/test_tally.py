"""Meters of an evaluation: shared out to processes or not, the same bits."""

import numpy as np
import pytest
import torch

from diffusionmtl.inference import tally as tallies
from diffusionmtl.inference.tally import Tally, scoring_pool
from diffusionmtl.types import TaskLabels
from tests.toy import TASKS, ToyDataset


def images(task, count: int = 5):
    """Estimates as views of one batch, and labels."""
    toys = ToyDataset(count, invalid=3)
    generator = torch.Generator().manual_seed(0)
    batch = task.activate(torch.randn(count, task.channels, 24, 32, generator=generator))
    for index in range(count):
        label, valid = (x.as_subclass(torch.Tensor) for x in toys.label(index, task.name))
        yield index, batch[index : index + 1], TaskLabels(label[None], valid, torch.zeros(1, dtype=torch.int64))


def filled(task, pool=None):
    tally = Tally(task, pool)
    for index, estimate, labels in images(task):
        tally.add(index, estimate, labels)
    return tally


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_images_one_by_one_are_the_meter_of_all(task):
    meter = task.meter()
    for _, estimate, labels in images(task):
        meter.update(estimate, labels.value, labels.valid)
    tally = filled(task)
    assert tally.figures() == pytest.approx(meter.compute(), nan_ok=True)
    kept = tally.per_image()
    assert kept.images == tuple(range(5))
    np.testing.assert_allclose(kept.statistics.sum(axis=0), meter.statistics().numpy())


@pytest.mark.slow
def test_other_processes_change_no_bit(monkeypatch):
    monkeypatch.setattr(tallies, "_WAITING", 2)
    with scoring_pool(2) as pool:
        for task in TASKS:
            one, other = filled(task), filled(task, pool)
            np.testing.assert_equal(other.figures(), one.figures())
            assert other.per_image().images == one.per_image().images
            np.testing.assert_array_equal(other.per_image().statistics, one.per_image().statistics)


def test_one_job_needs_no_other_process():
    with scoring_pool(1) as pool:
        assert pool is None


def test_only_slow_meters_travel():
    assert {task.kind for task in TASKS if task.meter().slow} == {"boundary"}
