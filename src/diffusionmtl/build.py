"""From settings to objects: the one place where sizes are decided and parts are put together."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from diffusionmtl.config import NetworkSettings
from diffusionmtl.diffusion import derive_seed, scaled_linear_schedule
from diffusionmtl.errors import UserError
from diffusionmtl.models.backbone import Backbone, timm_backbone
from diffusionmtl.models.denoiser import Denoiser
from diffusionmtl.models.initial import InitialNetwork
from diffusionmtl.models.mtdnet import Condition, FeatureSignal, PredictionSignal, Refiner
from diffusionmtl.models.network import Network
from diffusionmtl.tasks import Task

REFINED_DECODER_BLOCKS = 2
BASELINE_DECODER_BLOCKS = 6


def build_network(
    tasks: Sequence[Task], settings: NetworkSettings, seed: int = 0, backbone: Backbone | None = None
) -> Network:
    """A network with fresh weights, the same for the same seed.

    Args:
        tasks: the task set, in channel order.
        settings: sizes and choices.
        seed: of the weights; the global random state is left as it was.
        backbone: one of your own instead of the one that the settings name.

    Raises:
        UserError: settings that do not fit together.
    """
    if settings.width % settings.attention_heads:
        raise UserError(f"--width {settings.width} is not a multiple of --attention_heads {settings.attention_heads}")
    if not tasks:
        raise UserError("the task set is empty; name at least one task")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        body = backbone or timm_backbone(settings.backbone, settings.pretrained)
        initial = _initial(tasks, settings, body)
        refiner = None if settings.method == "multitask" else _refiner(tasks, settings, initial)
    return Network(tasks, initial, refiner)


def with_weights(tasks: Sequence[Task], weights: dict[str, float]) -> tuple[Task, ...]:
    """The tasks with their factors in the objective replaced where `weights` names them.

    Raises:
        UserError: `weights` names a task that does not exist.
    """
    names = {task.name for task in tasks}
    for name in weights:
        if name not in names:
            raise UserError(f"task_weights: no task '{name}'; tasks are {', '.join(sorted(names))}")
    return tuple(replace(task, weight=weights.get(task.name, task.weight)) for task in tasks)


def _initial(tasks: Sequence[Task], settings: NetworkSettings, backbone: Backbone) -> InitialNetwork:
    default_blocks = BASELINE_DECODER_BLOCKS if settings.method == "multitask" else REFINED_DECODER_BLOCKS
    return InitialNetwork(
        backbone,
        {task.name: task.channels for task in tasks},
        settings.width,
        decoder_blocks=settings.decoder_blocks or default_blocks,
        grid_stride=settings.grid_stride,
        multiple=settings.grid_stride * settings.token_stride,
    )


def _refiner(tasks: Sequence[Task], settings: NetworkSettings, initial: InitialNetwork) -> Refiner:
    channels = {task.name: task.channels for task in tasks}
    correction = settings.form == "correction"
    if settings.method == "feature":
        own = nn.ModuleDict({task: nn.Conv2d(settings.width, count, 1) for task, count in channels.items()})
        # A correction leaves the signal in the space that the initial heads read, so they can read it again.
        signal = FeatureSignal(initial.heads if correction else own)
        signal_channels = dict.fromkeys(channels, settings.width)
    else:
        signal = PredictionSignal(settings.signal_scale)
        signal_channels = channels
    denoiser = Denoiser(
        signal_channels,
        settings.width,
        settings.hidden or settings.width,
        conditioned=settings.condition != "none",
        correction=correction,
        token_stride=settings.token_stride,
        blocks=settings.blocks,
        attention_heads=settings.attention_heads,
    )
    condition = Condition(channels, settings.width, on_features=settings.condition == "features")
    schedule = scaled_linear_schedule(settings.steps, settings.noise_start, settings.noise_end)
    return Refiner(signal, condition, denoiser, schedule)
