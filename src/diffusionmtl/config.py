"""Settings: small typed records, one beside each part, read from YAML and the command line and written into every run.

Imports no torch, so that the command line can explain itself at once.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser

from diffusionmtl.errors import UserError, in_one_line, nearest

Method = Literal["feature", "prediction", "multitask", "singletask", "xtc"]

REPRODUCED = (
    "as in the published code, crops are drawn by hidden segmentation too, empty labels count, depth and disparity are "
    "divided by the drawn zoom, boundaries shrink by nearest neighbour, and saliency is headed by maxF@published"
)

_TINY = 1e-12
_POSITIVE_WORDS = (
    "size rooms rooms_val max_pixels width grid_stride token_stride blocks attention_heads mlp_ratio steps epochs "
    "batch xtc_width devices nodes"
)
_NOT_NEGATIVE_WORDS = (
    "label_seed hidden decoder_blocks trunk_blocks backbone_lr weight_decay clip skip_spikes initial_weight workers "
    "seed checkpoint_every xtc_weight xtc_table_lr"
)
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(_POSITIVE_WORDS.split(), (1, math.inf)),
    **dict.fromkeys(_NOT_NEGATIVE_WORDS.split(), (0, math.inf)),
    **dict.fromkeys(("grid_stride", "token_stride"), (1, 256)),
    "steps": (1, 10_000),
    "holdout": (0, 0.9),
    "pseudo_weight": (0, 1),
    "scale": (0.01, 100),
    "flip": (0, 1),
    "max_class_share": (_TINY, 1),
    "noise_start": (_TINY, 1 - _TINY),
    "noise_end": (_TINY, 1 - _TINY),
    "signal_scale": (_TINY, math.inf),
    "lr": (_TINY, math.inf),
    "ema": (0, 1 - _TINY),
    "teacher_weight": (0, math.inf),
}


@dataclass(frozen=True)
class DataSettings:
    """Which images, which of their labels, at which size.

    Attributes:
        data: partly labelled folders, `rooms`, pascal-context, nyud or cityscapes (7 classes; cityscapes-19,
            cityscapes-2); several are joined into one.
        root: folder with the files of pascal-context, nyud or cityscapes, or the folder above it.
        tasks: train only these tasks; all tasks of the data if empty.
        labels: which annotations training may see: as-found, one, random, full, a partition file, or completed (as
            found, and the predicted ones of a folder that `diffusionmtl complete` wrote).
        label_seed: seed of the one-label and random-label partitions.
        size: height and width of the training picture.
        fit: shrink or enlarge whole images to fit inside size first; otherwise crop at their own resolution.
        rooms: how many rooms to draw for training (`--data rooms`).
        rooms_val: how many rooms to draw for validation.
        rooms_seed: another seed draws other rooms.
        holdout: share of the training images kept apart to choose the best checkpoint.
        max_pixels: refuse images with more pixels than this, and labels with more than half of it beyond 60 million.
        reproduce: repeat what the published code does by mistake where figures depend on it (docs/reproduce.md).
    """

    data: tuple[str, ...] = ("rooms",)
    root: str | None = None
    tasks: tuple[str, ...] = ()
    labels: str = "as-found"
    label_seed: int = 0
    size: tuple[int, int] = (96, 128)
    fit: bool = True
    rooms: int = 500
    rooms_val: int = 200
    rooms_seed: int = 0
    holdout: float = 0.05
    max_pixels: int = 120_000_000
    reproduce: bool = False


@dataclass(frozen=True)
class AugmentSettings:
    """How training pictures are varied.

    Attributes:
        scale: range of the random zoom.
        flip: probability of a mirror image.
        photometric: vary brightness, contrast, saturation and hue.
        crop_by: segmentation task whose visible label decides whether a crop is drawn again; none if there is no such.
        max_class_share: redraw a crop in which one class of that label covers more than this.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    photometric: bool = True
    crop_by: str = "semseg"
    max_class_share: float = 0.75


@dataclass(frozen=True)
class NetworkSettings:
    """The network.

    Attributes:
        method: feature or prediction (DiffusionMTL's two diffusions), or without refinement: multitask, singletask (one
            task), xtc (multitask trained with cross-task consistency).
        backbone: any timm network with feature maps.
        backbone_weights: file with its weights (.safetensors, or .pth holding plain tensors).
        pretrained: fetch timm's ImageNet weights from the hub instead.
        width: channels of the task features, D.
        hidden: inner channels of the refinement heads; `width` if 0.
        decoder_blocks: residual blocks per initial decoder; if 0, 6 without refinement, 4 before a correction and 2 in
            the published form.
        trunk_blocks: how many of them are shared by all tasks and run once per image.
        fusion: how the backbone's maps become one: dense (3x3 convolution over all of them) or pointwise (sum of 1x1).
        decoder: 3x3 convolutions of the initial decoders: dense or separable (depthwise, then pointwise).
        denoiser: those of the denoiser, likewise.
        refinement_heads: each task its own, or one shared by all.
        grid_stride: pixels per cell of the grid on which tasks are predicted.
        token_stride: cells per attention token, along each side.
        blocks: transformer blocks of the denoiser.
        attention_heads: heads of each.
        mlp_ratio: inner channels of their MLPs, as a multiple of `width`.
        steps: diffusion steps, S.
        diffusion: add noise; without it the same network refines step by step.
        noise_start: beta of the first step.
        noise_end: beta of the last step.
        condition: what the multi-task condition is made of; none switches it off.
        form: published (the denoiser's output is the clean signal) or correction (it is added to the noisy signal).
        signal_scale: factor on the signal of Prediction Diffusion before it is noised.
    """

    method: Method = "feature"
    backbone: str = "resnet18"
    backbone_weights: str | None = None
    pretrained: bool = False
    width: int = 64
    hidden: int = 0
    decoder_blocks: int = 0
    trunk_blocks: int = 0
    fusion: Literal["dense", "pointwise"] = "dense"
    decoder: Literal["dense", "separable"] = "dense"
    denoiser: Literal["dense", "separable"] = "dense"
    refinement_heads: Literal["own", "shared"] = "own"
    grid_stride: int = 8
    token_stride: int = 4
    blocks: int = 4
    attention_heads: int = 4
    mlp_ratio: int = 4
    steps: int = 2
    diffusion: bool = True
    noise_start: float = 1e-3
    noise_end: float = 1e-2
    condition: Literal["predictions", "features", "none"] = "predictions"
    form: Literal["published", "correction"] = "correction"
    signal_scale: float = 1.0


@dataclass(frozen=True)
class TrainSettings:
    """How it is trained.

    Attributes:
        epochs: passes over the training images.
        batch: images per step and process.
        optimizer: adamw, or adam with coupled weight decay as published.
        lr: peak learning rate.
        backbone_lr: factor on it for the backbone.
        weight_decay: weight decay.
        schedule: onecycle, or poly per epoch as published.
        clip: largest gradient norm; 0 does not clip.
        skip_spikes: leave out a step whose gradient is more than so many times as large as usual; 0 leaves out none.
        initial_weight: factor on the loss of the initial predictions.
        pseudo_weight: how much a predicted label counts beside those of people (`--labels completed`).
        ema: decay of an exponential moving average of the weights, used for evaluation; 0 keeps none.
        task_weights: factors of the objective by task name, overriding the kinds' defaults.
        precision: of the arithmetic, as Lightning names it.
        accelerator: where to compute, as Lightning names it.
        devices: processes on this machine, a device each.
        nodes: machines.
        strategy: how processes share the work: ddp copies the network, fsdp shares its weights out; auto is ddp.
        sync_batchnorm: normalise by the statistics of all processes' batches, so that they train exactly as one would.
        workers: processes that load data.
        seed: of weights, order, augmentation and noise.
        checkpoint_every: minutes between checkpoints within an epoch; 0 checkpoints at the end of epochs only.
        checkpoint_activations: keep fewer maps for the backward pass and compute them again: less memory, a quarter
            more arithmetic, the same gradients. light computes again what costs next to nothing, for a smaller gain.
        self_training: let a moving average of the network teach what no label says; auto does so for feature and
            prediction. In long trainings it may drift (docs/results.md).
        teacher_weight: factor on what the teacher asks.
        xtc_weight: factor on the cross-task consistency of method xtc.
        xtc_width: channels of its mapping network, which only training needs.
        xtc_table_lr: factor on the learning rate of the tables that tell it which pair of tasks it maps.
        xtc_second_view: hold it on an enlarged cut of each image, as published, instead of the image itself; twice
            as much to compute.
    """

    epochs: int = 20
    batch: int = 12
    optimizer: Literal["adamw", "adam"] = "adamw"
    lr: float = 2e-3
    backbone_lr: float = 1.0
    weight_decay: float = 1e-4
    schedule: Literal["onecycle", "poly"] = "onecycle"
    clip: float = 10.0
    skip_spikes: float = 0.0
    initial_weight: float = 0.5
    pseudo_weight: float = 0.5
    ema: float = 0.0
    task_weights: dict[str, float] = field(default_factory=dict)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    sync_batchnorm: bool = False
    workers: int = 0
    seed: int = 0
    checkpoint_every: float = 0.0
    checkpoint_activations: bool | Literal["light"] = False
    self_training: Literal["auto", "always", "never"] = "never"
    teacher_weight: float = 1.0
    xtc_weight: float = 1.0
    xtc_width: int = 16
    xtc_table_lr: float = 1.0
    xtc_second_view: bool = True

    @property
    def processes(self) -> int:
        """How many train together."""
        return self.devices * self.nodes


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a training run does.

    Raises:
        UserError: a number that makes no sense.
    """

    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    network: NetworkSettings = NetworkSettings()
    train: TrainSettings = TrainSettings()

    def __post_init__(self) -> None:
        for name, value in self.flat().items():
            low, high = _RANGES.get(name, (-math.inf, math.inf))
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int | float) and not low <= number <= high:
                    said = f"{low:g} or more" if high == math.inf else f"between {low:g} and {high:g}"
                    raise UserError(f"--{name.replace('_', '-')} {number}: must be {said}")
        if self.network.method == "xtc" and self.train.self_training == "always":
            raise UserError("--self-training always: not together with --method xtc; choose one of them")
        if self.train.skip_spikes and self.train.strategy == "fsdp":
            raise UserError(
                f"--skip-spikes {self.train.skip_spikes}: not together with --strategy fsdp, where no process sees the "
                "whole gradient; leave one of them out"
            )
        if self.train.precision == "16-mixed" and self.train.strategy == "fsdp":
            raise UserError("--precision 16-mixed: not together with --strategy fsdp; use bf16-mixed")
        if self.augment.scale[0] > self.augment.scale[1]:
            raise UserError(f"--scale {self.augment.scale[0]} {self.augment.scale[1]}: the smaller zoom comes first")

    def flat(self) -> dict[str, Any]:
        """One level, the words of the command line; plain YAML values."""
        merged: dict[str, Any] = {}
        for group in fields(self):
            merged.update(asdict(getattr(self, group.name)))
        return {key: list(value) if isinstance(value, tuple) else value for key, value in merged.items()}


GROUPS: dict[str, type] = {f.name: get_type_hints(Settings)[f.name] for f in fields(Settings)}


def settings_from_flat(values: Mapping[str, Any], where: str) -> Settings:
    """Settings from one level of words, defaults for the rest.

    Raises:
        UserError: an unknown word (the nearest known one is named) or a value of another type, found in `where`.
    """
    known = {f.name for kind in GROUPS.values() for f in fields(kind)}
    for key in values:
        if key not in known:
            raise UserError(f"{where}: unknown setting '{key}'.{nearest(key, known)} See diffusionmtl train --help")
    hints = {key: hint for kind in GROUPS.values() for key, hint in get_type_hints(kind).items()}
    for key in (key for key, value in values.items() if value is None and type(None) not in get_args(hints[key])):
        raise UserError(f"{where}: setting '{key}' has no value; give it one or take the line out")
    parser = ArgumentParser(exit_on_error=False)
    for kind in GROUPS.values():
        parser.add_class_arguments(kind)
    try:
        parsed = parser.parse_object(dict(values)).as_dict()
    except Exception as error:  # jsonargparse raises its own ArgumentError, and bare ones from type parsers
        raise UserError(f"{where}: {in_one_line(error, 300)}") from None
    try:
        return settings_from_parsed(parsed)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def settings_from_parsed(parsed: Mapping[str, Any]) -> Settings:
    """Settings from values that have the right types already, jsonargparse's namespace for instance."""
    groups = {}
    for name, kind in GROUPS.items():
        hints = get_type_hints(kind)
        given = {f.name: parsed[f.name] for f in fields(kind) if f.name in parsed}
        groups[name] = kind(**{key: tuple(v) if get_origin(hints[key]) is tuple else v for key, v in given.items()})
    return Settings(**groups)


def changed(settings: Settings, **values: Any) -> Settings:
    """The same settings with some words changed.

    Raises:
        UserError: a word that does not exist.
    """
    groups = {}
    left = dict(values)
    for name, kind in GROUPS.items():
        mine = {f.name: left.pop(f.name) for f in fields(kind) if f.name in left}
        groups[name] = replace(getattr(settings, name), **mine)
    if left:
        word = next(iter(left))
        known = [f.name for kind in GROUPS.values() for f in fields(kind)]
        raise UserError(f"unknown setting '{word}'.{nearest(word, known)} See diffusionmtl train --help")
    return Settings(**groups)
