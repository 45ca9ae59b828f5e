"""Checkpoints of the published network: what they hold, what sizes they have, what we call their weights.

Layout: the published state dict of Feature Diffusion over a ResNet (arXiv 2403.15389; reference tables). Nothing in a
checkpoint is run, and nothing in it is passed over: every key is translated, checked or named in an error.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffusionmtl.config import NetworkSettings
from diffusionmtl.diffusion import Schedule
from diffusionmtl.errors import UserError
from diffusionmtl.models.network import Network
from diffusionmtl.models.pretrained import read_plain_checkpoint, read_tensors
from diffusionmtl.tasks import SemanticSegmentation, Task, task_from_settings
from diffusionmtl.tasks.published import PUBLISHED_ORDER, published_task

# Published names on the left, ours on the right; <task> is one word, <rest> is whatever follows.
NAMES: tuple[tuple[str, str], ...] = (
    ("backbone.<rest>", "initial.backbone.body.<rest>"),
    ("backbone_embed.<rest>", "initial.fusion.conv.<rest>"),
    ("preliminary_dec.<task>.<rest>", "initial.decoders.<task>.<rest>"),
    ("preliminary_head.<task>.0.<rest>", "initial.heads.<task>.<rest>"),
    ("diffusion_model.pred_combinator.out_layer.<rest>", "refiner.condition.conv.<rest>"),
    ("diffusion_model.denoiser.pre_layer.<task>.<rest>", "refiner.denoiser.embed.<task>.<rest>"),
    ("diffusion_model.denoiser.t_embedder.mlp.0.<rest>", "refiner.denoiser.time.fc1.<rest>"),
    ("diffusion_model.denoiser.t_embedder.mlp.2.<rest>", "refiner.denoiser.time.fc2.<rest>"),
    ("diffusion_model.denoiser.crossblocks.<rest>", "refiner.denoiser.blocks.<rest>"),
    ("diffusion_model.denoiser.task_heads.<task>.<rest>", "refiner.denoiser.heads.<task>.<rest>"),
    ("diffusion_model.denoiser.final_task_heads.<task>.linear_pred.<rest>", "refiner.signal.heads.<task>.<rest>"),
)

# Ours alone: the published code normalises images outside its network.
OURS_ALONE = ("initial.mean", "initial.std")

CONSTANTS = "diffusion_model."

# (block has a third convolution, blocks per stage) -> timm's name
RESNETS: dict[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A published checkpoint as it was read.

    Attributes:
        tensors: under the published names, without the prefix `module.` of distributed training.
        ordered: the file keeps the order of its keys, so the order of tasks can be read off it.
        epoch: epoch in which it was saved, if it says so.
        iteration: iteration in which it was saved, if it says so; the published code saves one less.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    ordered: bool = True
    epoch: int | None = None
    iteration: int | None = None


def our_name(published: str) -> str | None:
    """What we call a weight of the published network; None if it has no such weight."""
    return _translate(published, NAMES)


def published_name(ours: str) -> str | None:
    """The reverse of `our_name`."""
    return _translate(ours, ((right, left) for left, right in NAMES))


def read_published(path: Path) -> PublishedCheckpoint:
    """Read a published checkpoint: its dictionary with `model`, `optimizer`, ... or a bare dictionary of weights.

    Raises:
        UserError: missing, damaged, or holding more than tensors and plain containers.
    """
    if path.suffix == ".safetensors":
        return PublishedCheckpoint(path, _without_prefix(path, read_tensors(path)), ordered=False)
    loaded = read_plain_checkpoint(path)
    model = loaded.get("model", loaded)
    if not isinstance(model, Mapping):
        raise UserError(f"{path}: 'model' is a {type(model).__name__}, expected a dictionary of weights")
    epoch, iteration = (loaded.get(key) for key in ("epoch", "iter_count"))
    return PublishedCheckpoint(
        path,
        _without_prefix(path, model),
        epoch=epoch if isinstance(epoch, int) else None,
        iteration=iteration if isinstance(iteration, int) else None,
    )


def published_tasks(checkpoint: PublishedCheckpoint, given: Sequence[Task] = ()) -> tuple[Task, ...]:
    """The task set of a checkpoint, in channel order.

    Args:
        checkpoint: as read.
        given: what its tasks are, where their names do not say; their order counts only if the file keeps none.

    Raises:
        UserError: a task that neither the benchmarks nor `given` know, or one with other channels than it should have.
    """
    channels = _task_channels(checkpoint)
    by_name = {task.name: task for task in given}
    unknown = [name for name in by_name if name not in channels]
    if unknown:
        raise UserError(f"{checkpoint.path}: has no task '{unknown[0]}'; it has {', '.join(channels)}")
    names = list(channels)
    if not checkpoint.ordered:
        order = [*by_name] if by_name.keys() == channels.keys() else [*PUBLISHED_ORDER, *names]
        names.sort(key=order.index)
    tasks = []
    for name in names:
        task = by_name.get(name) or published_task(name, channels[name])
        if task is None or task.channels != channels[name]:
            raise UserError(
                f"{checkpoint.path}: cannot tell what task '{name}' with {channels[name]} output channels is; "
                f"say so with --tasks {name}=KIND"
            )
        tasks.append(task)
    return tuple(tasks)


def tasks_in_words(checkpoint: PublishedCheckpoint, words: Sequence[str]) -> tuple[Task, ...]:
    """Tasks of a checkpoint as the command line names them, `lanes=boundary` for instance; classes get numbers.

    Raises:
        UserError: not NAME=KIND, or no such task or kind.
    """
    channels = _task_channels(checkpoint)
    tasks = []
    for word in words:
        name, _, kind = word.partition("=")
        where = f"--tasks {word}"
        if name not in channels or not kind:
            raise UserError(f"{where}: write NAME=KIND, NAME one of {', '.join(channels)}")
        settings: dict[str, object] = {"kind": kind}
        if kind == SemanticSegmentation.kind:
            settings["classes"] = [f"class {index}" for index in range(channels[name])]
        tasks.append(task_from_settings(name, settings, where))
    return tuple(tasks)


def published_settings(checkpoint: PublishedCheckpoint) -> NetworkSettings:
    """The sizes of the network, read off names and shapes.

    The number of attention heads leaves no trace in them: 4, as published.

    Raises:
        UserError: weights that every published checkpoint has are missing, or the noise schedule is another one.
    """
    task = next(iter(_task_channels(checkpoint)))
    head = f"diffusion_model.denoiser.task_heads.{task}.1.weight"
    needed = ("backbone_embed.weight", head, f"{CONSTANTS}betas")
    missing = [key for key in needed if key not in checkpoint.tensors]
    if missing:
        raise UserError(f"{checkpoint.path}: not a checkpoint of the published network: lacks {_few(missing)}")
    steps, noise_start, noise_end = _noise(checkpoint)
    return NetworkSettings(
        method="feature",
        backbone=_resnet_name(checkpoint),
        width=checkpoint.tensors["backbone_embed.weight"].shape[0],
        hidden=checkpoint.tensors[head].shape[0],
        decoder_blocks=_count(checkpoint, rf"preliminary_dec\.{task}\.(\d+)\."),
        grid_stride=8,
        token_stride=4,
        blocks=_count(checkpoint, r"diffusion_model\.denoiser\.crossblocks\.(\d+)\."),
        attention_heads=4,
        steps=steps,
        noise_start=noise_start,
        noise_end=noise_end,
        condition="predictions",
        form="published",
    )


def load_published(network: Network, checkpoint: PublishedCheckpoint) -> None:
    """Fill a network that was built from `published_tasks` and `published_settings`.

    Raises:
        UserError: weights are missing, unknown or of another shape (they are listed), or the diffusion constants are
            not those of the network's noise schedule.
    """
    if network.refiner is None:
        raise ValueError("the published network has a refiner")
    check_published(network, checkpoint)
    ours = network.state_dict()
    _check_constants(checkpoint, _constants(network.refiner.schedule))
    renamed = {name: value for key, value in checkpoint.tensors.items() if (name := our_name(key))}
    network.load_state_dict({**{key: ours[key] for key in OURS_ALONE}, **renamed})


def check_published(sketch: Network, checkpoint: PublishedCheckpoint) -> None:
    """See that every weight is there and fits, if need be before there is memory for a network.

    Args:
        sketch: a network built from `published_tasks` and `published_settings`; its weights may have no numbers.
        checkpoint: as read.

    Raises:
        UserError: weights are missing, unknown or of another shape; they are listed.
    """
    if sketch.refiner is None:
        raise ValueError("the published network has a refiner")
    expected: dict[str, tuple[int, ...]] = {
        key: value.shape for key, value in _constants(sketch.refiner.schedule).items()
    }
    for key, value in sketch.state_dict().items():
        if key not in OURS_ALONE:
            expected[published_name(key) or f"(ours) {key}"] = tuple(value.shape)
    _account_for(checkpoint, expected)


def _account_for(checkpoint: PublishedCheckpoint, expected: Mapping[str, tuple[int, ...]]) -> None:
    given = checkpoint.tensors
    wrong = {
        "missing": [key for key in expected if key not in given],
        "unknown": [key for key in given if key not in expected],
        "of another shape": [
            f"{key} {list(given[key].shape)} instead of {list(shape)}"
            for key, shape in expected.items()
            if key in given and tuple(given[key].shape) != tuple(shape)
        ],
    }
    said = "; ".join(f"{len(keys)} {what}: {_few(keys)}" for what, keys in wrong.items() if keys)
    if said:
        raise UserError(f"{checkpoint.path}: does not fit the published network that its sizes describe: {said}")


def _noise(checkpoint: PublishedCheckpoint) -> tuple[int, float, float]:
    """Number of steps, first and last beta."""
    betas = checkpoint.tensors[f"{CONSTANTS}betas"]
    if betas.ndim != 1 or len(betas) == 0:
        raise UserError(f"{checkpoint.path}: {CONSTANTS}betas has shape {list(betas.shape)}, expected one per step")
    # The buffers are float32: the shortest decimal that rounds to them is what was meant, 0.001 and not 0.00100000005.
    first, last = (float(str(np.float32(betas[at].item()))) for at in (0, -1))
    if not 0 < first <= last < 1:
        raise UserError(f"{checkpoint.path}: {CONSTANTS}betas run from {first} to {last}, not a noise schedule")
    return len(betas), first, last


def _constants(schedule: Schedule) -> dict[str, np.ndarray]:
    """The twelve diffusion constants that a published checkpoint carries, under their published names."""
    betas = np.asarray(schedule.betas)
    power = np.asarray([schedule.signal_power(k) for k in range(schedule.steps)])
    before = np.asarray([schedule.signal_power(k - 1) for k in range(schedule.steps)])
    on_clean, on_noisy, variance = np.asarray([schedule.posterior(k) for k in range(schedule.steps)]).T
    values = {
        "betas": betas,
        "alphas_cumprod": power,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": np.sqrt(power),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - power),
        "log_one_minus_alphas_cumprod": np.log(1 - power),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / power),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / power - 1),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": on_clean,
        "posterior_mean_coef2": on_noisy,
    }
    return {CONSTANTS + name: value for name, value in values.items()}


def _check_constants(checkpoint: PublishedCheckpoint, constants: Mapping[str, np.ndarray]) -> None:
    other = [
        key
        for key, value in constants.items()
        if not np.allclose(checkpoint.tensors[key].double().numpy(), value, rtol=1e-5, atol=1e-9)
    ]
    if other:
        raise UserError(f"{checkpoint.path}: its noise schedule is not the published one: {_few(other)} differ")


def _task_channels(checkpoint: PublishedCheckpoint) -> dict[str, int]:
    """Output channels per task, in the order of the file."""
    found = {}
    for key, value in checkpoint.tensors.items():
        match = re.fullmatch(r"preliminary_head\.([^.]+)\.0\.weight", key)
        if match and value.ndim > 0:
            found[match[1]] = value.shape[0]
    if not found:
        raise UserError(
            f"{checkpoint.path}: not a checkpoint of the published network: lacks preliminary_head.<task>.0.weight"
        )
    return found


def _resnet_name(checkpoint: PublishedCheckpoint) -> str:
    stages = tuple(_count(checkpoint, rf"backbone\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    bottleneck = "backbone.layer1.0.conv3.weight" in checkpoint.tensors
    if (bottleneck, stages) not in RESNETS:
        raise UserError(
            f"{checkpoint.path}: its backbone has {stages} blocks per stage; known are {', '.join(RESNETS.values())}"
        )
    return RESNETS[bottleneck, stages]


def _count(checkpoint: PublishedCheckpoint, pattern: str) -> int:
    """How many different numbers the pattern finds in the keys."""
    matches = (re.match(pattern, key) for key in checkpoint.tensors)
    return len({match[1] for match in matches if match})


def _without_prefix(path: Path, model: Mapping) -> dict[str, Tensor]:
    other = [str(key) for key, value in model.items() if not isinstance(value, Tensor)]
    if other:
        raise UserError(f"{path}: {len(other)} entries are not weights: {_few(other)}")
    hollow = [str(key) for key, value in model.items() if not _is_plain(value)]
    if hollow:
        raise UserError(f"{path}: {len(hollow)} tensors do not hold all of their numbers: {_few(hollow)}")
    plain = {str(key).removeprefix("module."): value for key, value in model.items()}
    if len(plain) < len(model):
        raise UserError(f"{path}: holds some weights twice, with and without the prefix 'module.'")
    return plain


def _is_plain(tensor: Tensor) -> bool:
    """Dense, and as large as it says: a few bytes can claim any shape, and the network is built in that shape."""
    dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
    return dense and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _translate(name: str, table: Iterable[tuple[str, str]]) -> str | None:
    for source, target in table:
        pattern = re.escape(source).replace("<task>", r"(?P<task>[^.]+)").replace("<rest>", r"(?P<rest>.+)")
        match = re.fullmatch(pattern, name)
        if match:
            for word, meant in match.groupdict().items():
                target = target.replace(f"<{word}>", meant)
            return target
    return None


def _few(keys: Sequence[str], limit: int = 10) -> str:
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more
