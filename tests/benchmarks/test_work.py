"""A guard: a training step asks no more of a device than it did when the limits below were counted.

If a change needs more work for a good reason, count again (the failing test prints what it found) and write the new
numbers here, with the reason in the message of the commit. If it needs less, write the smaller numbers. Launches have
2 % to spare, since releases of torch split some operations differently (counted: 1105, 1105 and 1145 with torch 2.14).
"""

import numpy as np
import pytest
import torch

from benchmarks import networks as given
from benchmarks import reference
from benchmarks.counting import META, Work, count
from benchmarks.steps import together
from diffusionmtl.build import build_network
from diffusionmtl.config import NetworkSettings
from diffusionmtl.diffusion import NoNoise
from diffusionmtl.types import Batch
from tests.conformance.resnet import thin_backbone
from tests.toy import TASKS

SIZES = {"width": 8, "blocks": 1, "attention_heads": 2, "token_stride": 2}
# Launches, and millions of multiply-adds.
LIMITS = {
    ("feature", "one"): (1130, 47.1),
    ("feature", "random"): (1130, 56.8),
    ("prediction", "random"): (1170, 54.2),
}


def batch_of(protocol: str, images: int = 6) -> Batch:
    return given.batch(TASKS, (64, 96), given.labelled(images, len(TASKS), protocol)).to(META)


def network_of(method: str):
    sizes = NetworkSettings(method=method, form="published", **SIZES)
    return build_network(TASKS, sizes, backbone=thin_backbone((4, 4, 6, 8), (1, 1, 1, 1))).to(META).train()


def step(method: str, protocol: str, images: int = 6, walk=together) -> Work:
    network, batch = network_of(method), batch_of(protocol, images)
    return count(lambda: walk(network, batch, NoNoise()).backward(), network)


@pytest.mark.parametrize("method, protocol", LIMITS)
def test_a_training_step_asks_no_more_than_it_did(method, protocol):
    done = step(method, protocol)
    launches, mmac = LIMITS[method, protocol]
    assert done.launches <= launches
    assert done.gmac * 1000 <= mmac


def test_launches_do_not_grow_with_the_number_of_pairs():
    assert step("feature", "full").launches <= step("feature", "full", images=2).launches


def test_launches_are_at_most_a_third_of_one_pair_at_a_time():
    walked = step("feature", "random", walk=lambda *words: reference.training_loss(words[0], TASKS, *words[1:]))
    ours = step("feature", "random")
    assert ours.launches <= walked.launches / 3
    assert ours.gmac <= walked.gmac


def test_tasks_without_a_label_cost_no_more_than_in_the_reference():
    """They once cost a backward pass over maps of zeros: a third more arithmetic for two images of one label each."""
    walked = step("feature", "one", 2, lambda *words: reference.training_loss(words[0], TASKS, *words[1:]))
    assert step("feature", "one", 2).gmac <= walked.gmac * 1.000001


def test_counting_a_product_of_matrices():
    """One product and one sum; views, and tensors that nobody writes to, are free."""
    x = torch.empty(10, 20, device=META)

    def code():
        product = x @ x.T
        return product.view(50, 2).sum()

    done = count(code)
    assert (done.launches, done.gmac, done.peak_bytes) == (2, 10 * 10 * 20 / 1e9, 4 * 100 + 4)


def test_memory_that_is_let_go_is_not_counted_again():
    def code():
        for _ in range(3):
            torch.zeros(100, device=META)

    assert count(code).peak_bytes == 400


@pytest.mark.parametrize("protocol, each", [("none", {0}), ("one", {1}), ("random", {1, 2, 3, 4}), ("full", {5})])
def test_label_settings(protocol, each):
    assert set(given.labelled(200, 5, protocol).sum(axis=1)) == each
    assert np.array_equal(given.labelled(9, 5, protocol), given.labelled(9, 5, protocol))
