"""The Python face beside `load`."""

import warnings
from collections.abc import Sequence
from typing import Any

from diffusionmtl.build import build_network
from diffusionmtl.config import settings_from_flat
from diffusionmtl.models.network import Network
from diffusionmtl.models.origin import backbone_origin
from diffusionmtl.tasks import Task


def create(method: str, tasks: Sequence[Task], seed: int = 0, **settings: Any) -> Network:
    """A fresh network for a task set, a plain `torch.nn.Module`.

    Args:
        method: `feature`, `prediction`, `multitask`, `singletask` or `xtc`.
        tasks: the task set, in channel order.
        seed: of the weights.
        settings: words of `diffusionmtl train --help` about the network, such as `backbone="resnet18"`, `width=64`.

    Warns:
        UserWarning: pretrained weights whose licence is unknown or asks for something.

    Raises:
        UserError: an unknown word, method or backbone, a value of another type, or settings that do not fit together.
    """
    chosen = settings_from_flat({"method": method, **settings}, "create").network
    network = build_network(tasks, chosen, seed)
    origin = backbone_origin(chosen)
    if origin is not None and (caution := origin.caution()):
        warnings.warn(caution, stacklevel=2)
    return network
