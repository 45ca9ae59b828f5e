"""Small networks in which nothing is hidden by a weight of zero."""

from collections.abc import Sequence

import torch

from diffusionmtl.build import build_network
from diffusionmtl.config import NetworkSettings
from diffusionmtl.models.network import Network
from diffusionmtl.tasks import Task
from tests.conformance.resnet import thin_backbone


def thin_network(tasks: Sequence[Task], settings: NetworkSettings) -> Network:
    """In float64, and no weight is zero, so that every path counts."""
    network = build_network(tasks, settings, seed=1, backbone=thin_backbone((4, 4, 6, 8), (1, 1, 1, 1))).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return network
