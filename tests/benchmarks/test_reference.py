"""One pair at a time gives what all pairs at once give: what is measured against is the same method."""

import copy
from dataclasses import replace

import pytest
import torch

from benchmarks import networks as given
from benchmarks import reference
from diffusionmtl.config import NetworkSettings
from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.models.network import Network
from diffusionmtl.tasks.published import pascal_context_tasks
from diffusionmtl.training.objective import objective
from diffusionmtl.types import Batch
from tests.networks import thin_network

TASKS = pascal_context_tasks()
SIZE = (64, 96)
methods = pytest.mark.parametrize("method", ["feature", "prediction"])
protocols = pytest.mark.parametrize("protocol", ["one", "random", "full"])


def thin(method: str) -> Network:
    """In float64, and no weight is zero."""
    sizes = NetworkSettings(method=method, width=8, blocks=2, attention_heads=2, token_stride=2, steps=3)
    return thin_network(TASKS, sizes)


def batch_of(protocol: str, images: int = 2) -> Batch:
    made = given.batch(TASKS, SIZE, given.labelled(images, len(TASKS), protocol))
    exact = {
        task: replace(labels, value=labels.value.double()) if labels.value.is_floating_point() else labels
        for task, labels in made.labels.items()
    }
    return replace(made, labels=exact)


def close(ours, theirs) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@methods
@protocols
def test_the_loss_and_every_gradient_are_those_of_the_training_step(method, protocol):
    batch, noise = batch_of(protocol), SeededNoise(3, (0, 1))
    network = thin(method).train()
    other = copy.deepcopy(network)
    rows = {task: labels.rows for task, labels in batch.labels.items()}
    together = objective(TASKS, network(batch.image, noise, rows), batch).total
    walked = reference.training_loss(other, TASKS, batch, noise)
    close(together, walked)
    together.backward()
    walked.backward()
    for (name, mine), theirs in zip(network.named_parameters(), other.parameters(), strict=True):
        assert mine.grad is not None, name
        close(mine.grad, torch.zeros_like(mine) if theirs.grad is None else theirs.grad)
    for mine, theirs in zip(network.buffers(), other.buffers(), strict=True):
        close(mine, theirs)


@methods
def test_predictions_are_the_same(method):
    network, noise = thin(method).eval(), SeededNoise(3, (0, 1, 2))
    image = batch_of("none", images=3).image
    with torch.no_grad():
        together, walked = network(image, noise).final, reference.predict(network, image, noise)
    assert together.keys() == walked.keys()
    for task, raw in together.items():
        close(raw, walked[task])
