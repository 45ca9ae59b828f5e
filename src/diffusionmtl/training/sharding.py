"""Weights shared out among the processes: each keeps a part of every one and gathers the rest where it is needed.

Fully sharded data parallelism (Zhao et al., arXiv 2304.11277) as PyTorch's `fully_shard` does it.
"""

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from diffusionmtl.errors import UserError
from diffusionmtl.models.backbone import Backbone
from diffusionmtl.models.blocks import CorrectionBlock, CrossBlock, RefinementHead, ResidualBlock, SelfBlock

GATHERED_ALONE = (Backbone, ResidualBlock, CrossBlock, SelfBlock, RefinementHead, CorrectionBlock)
"""What is gathered when it runs and let go of after it; everything else is there throughout a step."""


class Sharded(ModelParallelStrategy):
    """Shares weights, gradients and the optimiser's moments out among all processes.

    Checkpoints are what one process alone would write, whole tensors under the same names in one file, so that a run
    goes on with any number of processes and any strategy.
    """

    def __init__(self, processes: int) -> None:
        super().__init__(data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """The optimiser is filled by `load_optimizer_state_dict`."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """This process's parts: `save_checkpoint` gathers."""
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """Likewise."""
        return optimizer.state_dict()

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """All processes gather, the first one writes."""
        complete = whole(checkpoint)
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(complete, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Whole tensors, read by every process."""
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Keep this process's parts."""
        assert self.lightning_module is not None
        parts = parts_like(self.lightning_module.state_dict(), checkpoint["state_dict"])
        self.lightning_module.load_state_dict(parts, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Keep this process's parts."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            moments = {
                number: parts_like(dict.fromkeys(kept, weights[number]), kept)
                for number, kept in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": moments})


def shard(module: nn.Module, mesh: DeviceMesh, steps: Iterable[str] = ()) -> None:
    """Leave this process its part of every weight.

    Processes have to gather the same parts in the same order, or they wait for each other for ever: see
    `Network.keep_in_step`.

    Args:
        module: with the same weights in every process.
        mesh: the processes, along its dimension `data_parallel`.
        steps: names of the module's methods that use its weights, beside `forward`.

    Raises:
        UserError: a weight is a single number without a dimension to cut it along.
    """
    for name, parameter in module.named_parameters():
        if not parameter.ndim:
            raise UserError(f"--strategy fsdp: weight {name} is a single number and cannot be cut up; use ddp")
        parameter.data = parameter.data.contiguous()
    alone = [part for part in module.modules() if isinstance(part, GATHERED_ALONE)]
    for part in [*alone, module]:
        fully_shard(part, mesh=mesh["data_parallel"], reshard_after_forward=True)
    for step in steps:
        register_fsdp_forward_method(module, step)


def local(tensor: Tensor) -> Tensor:
    """This process's part, which shares memory with the whole; the tensor itself if it is not cut up."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(held: Any) -> Any:
    """The same dictionaries and lists with whole tensors on the CPU instead of parts; all processes must ask.

    Only the first one gets them: a machine has memory for all of a network once, not once per process.
    """
    if isinstance(held, DTensor):
        gathered = held.full_tensor()
        return gathered.cpu() if held.device_mesh.get_rank() == 0 else None
    if isinstance(held, Mapping):
        return {key: whole(value) for key, value in held.items()}
    if isinstance(held, tuple):
        return tuple(map(whole, held))
    return [whole(value) for value in held] if isinstance(held, list) else held


def whole_weights(network: nn.Module) -> dict[str, Tensor]:
    """Its state, each tensor under its first name only; see `whole`."""
    names = {name for name, _ in chain(network.named_parameters(), network.named_buffers())}
    with torch.no_grad():
        return {name: whole(value) for name, value in network.state_dict().items() if name in names}


def parts_like(held: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is `given` in whole, cut up as what this process holds by that name; all processes must ask."""
    return {name: _part_like(held.get(name), value) for name, value in given.items()}


def _part_like(held: Any, given: Any) -> Any:
    if isinstance(held, DTensor) and isinstance(given, Tensor) and given.shape == held.shape:
        return distribute_tensor(given, held.device_mesh, held.placements)
    return given
