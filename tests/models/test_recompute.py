"""Maps computed again instead of kept: the same gradients, the same statistics, fewer bytes."""

import copy

import pytest
import torch
from torch import Tensor

from benchmarks import networks as given
from benchmarks.counting import META, count
from benchmarks.steps import together
from diffusionmtl.build import build_network
from diffusionmtl.config import NetworkSettings
from diffusionmtl.diffusion import NoNoise, SeededNoise
from diffusionmtl.models.network import Network
from tests.conformance.resnet import thin_backbone
from tests.toy import TASKS


def thin(method: str) -> Network:
    sizes = NetworkSettings(method=method, width=8, blocks=2, attention_heads=2, token_stride=2, form="published")
    return build_network(TASKS, sizes, seed=1, backbone=thin_backbone((4, 4, 6, 8), (1, 1, 1, 1))).train()


def taught(network: Network) -> int:
    """One backward pass; the bytes that were kept for it."""
    batch = given.batch(TASKS, (64, 96), given.labelled(3, len(TASKS), "random"))
    rows = {task: labels.rows for task, labels in batch.labels.items()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(batch.image, SeededNoise(0, (0, 1, 2)), rows)
    sum((raw.square().sum() for raw in output.final.values()), torch.zeros(())).backward()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("method", ["feature", "prediction", "multitask"])
@pytest.mark.parametrize("how", [True, "light"])
def test_gradients_and_statistics_are_the_same_to_the_bit(method, how):
    plain = thin(method)
    again = copy.deepcopy(plain)
    again.recompute(how)
    assert taught(again) < taught(plain)
    for (name, mine), theirs in zip(again.named_parameters(), plain.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None), name
        assert mine.grad is None or torch.equal(mine.grad, theirs.grad), name
    for (name, mine), theirs in zip(again.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(mine, theirs), name
    assert list(again.state_dict()) == list(plain.state_dict())


def test_without_gradients_nothing_is_different():
    network = thin("feature").eval()
    image = given.batch(TASKS, (64, 96), given.labelled(2, len(TASKS), "none")).image
    with torch.no_grad():
        one = network(image, SeededNoise(0, (0, 1))).final
        network.recompute(True)
        other = network(image, SeededNoise(0, (0, 1))).final
    assert all(torch.equal(one[task], other[task]) for task in one)


def test_light_computes_no_product_again_but_those_of_the_backbone():
    network = thin("feature").to(META)
    batch = given.batch(TASKS, (64, 96), given.labelled(3, len(TASKS), "random")).to(META)
    done = {}
    for how in (False, "light", True):
        network.recompute(how)
        done[how] = count(lambda: together(network, batch, NoNoise()).backward(), network)
    body = count(lambda: network.initial.backbone(network.initial.prepare(batch.image)[0]), network)
    assert done["light"].gmac == pytest.approx(done[False].gmac + body.gmac)
    assert done[True].gmac > done["light"].gmac
    assert done[True].peak_bytes < done["light"].peak_bytes < done[False].peak_bytes
