"""`diffusionmtl train --describe`, size and cost of a network."""

from diffusionmtl.build import build_dataset, build_network
from diffusionmtl.config import Settings, changed
from diffusionmtl.models.cost import network_cost


def describe(settings: Settings) -> str:
    """Parameters, arithmetic and memory of the network that the settings name, part by part."""
    tasks = build_dataset(changed(settings, rooms=1, rooms_val=1).data, "train").tasks
    network = build_network(tasks, changed(settings, backbone_weights=None, pretrained=False).network)
    return str(network_cost(network, settings.data.size))
