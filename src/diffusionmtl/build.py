"""From settings to objects: the one place where sizes are decided and parts are put together."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diffusionmtl.config import DataSettings, NetworkSettings, Settings, settings_from_flat
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.benchmarks import BENCHMARKS, open_benchmark
from diffusionmtl.data.colour_jitter import ColourRanges
from diffusionmtl.data.completed import CompletedDataset
from diffusionmtl.data.description import FILE_NAME
from diffusionmtl.data.folder import FolderDataset
from diffusionmtl.data.joined import JoinedDataset
from diffusionmtl.data.loading import BatchLoader, VisibleDataset, loader
from diffusionmtl.data.partition import COMPLETED, Partition, by_people, hold_out
from diffusionmtl.data.rooms.dataset import RoomsDataset
from diffusionmtl.data.sampling import EpochSampler
from diffusionmtl.data.selected import SelectedTasks
from diffusionmtl.data.shards import ShardsDataset, shard_splits
from diffusionmtl.data.transforms import Augmentation
from diffusionmtl.diffusion import scaled_linear_schedule
from diffusionmtl.errors import UserError, nearest
from diffusionmtl.models.backbone import Backbone, timm_backbone
from diffusionmtl.models.denoiser import Denoiser
from diffusionmtl.models.initial import InitialNetwork
from diffusionmtl.models.mtdnet import Condition, FeatureSignal, PredictionSignal, Refiner
from diffusionmtl.models.network import Network
from diffusionmtl.models.pretrained import load_backbone_weights
from diffusionmtl.seeds import derive_seed
from diffusionmtl.tasks import Task, task_from_settings
from diffusionmtl.tasks.base import name_fault
from diffusionmtl.tasks.published import with_published_protocols

Progress = Callable[[int, int], None]

ROOMS = "rooms"
TASK_SET = "task_set"
REFINING = ("feature", "prediction")
PUBLISHED_DECODER_BLOCKS = 2
# Two blocks leave initial predictions too weak for a correction to make up for it (docs/results.md).
REFINED_DECODER_BLOCKS = 4
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
        raise UserError(f"--width {settings.width} is not a multiple of --attention-heads {settings.attention_heads}")
    _check_task_set(tasks)
    if settings.method == "singletask" and len(tasks) > 1:
        raise UserError(
            f"--method singletask trains one task, the data has {len(tasks)}: name one with --tasks, for instance "
            f"--tasks {tasks[0].name}; 'diffusionmtl compare --methods singletask' trains them one after another"
        )
    if settings.method == "xtc" and len(tasks) < 2:
        raise UserError("--method xtc compares tasks with each other, here is one: use --method multitask")
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed every GPU too, and those are not put back.
        torch.default_generator.manual_seed(derive_seed(seed, "weights"))
        body = backbone or timm_backbone(settings.backbone, settings.pretrained)
        if settings.backbone_weights and backbone is None:
            load_backbone_weights(body, Path(settings.backbone_weights), settings.backbone)
        initial = _initial(tasks, settings, body)
        refiner = _refiner(tasks, settings, initial) if settings.method in REFINING else None
    return Network(tasks, initial, refiner)


def sketched(tasks: Sequence[Task], settings: NetworkSettings) -> Network:
    """The network that `build_network` builds, without memory for a single number: names and shapes to compare with.

    Raises:
        UserError: as `build_network`.
    """
    with torch.device("meta"):
        return build_network(tasks, replace(settings, pretrained=False, backbone_weights=None))


def _check_task_set(tasks: Sequence[Task]) -> None:
    if not tasks:
        raise UserError("the task set is empty; name at least one task")
    for number, task in enumerate(tasks):
        # A weights file from a stranger brings its own names, and predictions are written to folders of these names.
        if fault := name_fault(task.name):
            raise UserError(f"task name '{task.name}': {fault}")
        if any(task.name == other.name for other in tasks[:number]):
            raise UserError(f"task name '{task.name}' stands twice; give each task a name of its own")


def check_batch(network: Network, settings: Settings) -> None:
    """See that batch normalisation has something to normalise by.

    Raises:
        UserError: one image whose deepest map is a single cell.
    """
    initial = network.initial
    sides = (
        -(-side // initial.multiple) * initial.multiple // max(initial.backbone.strides) for side in settings.data.size
    )
    normalised = any(isinstance(layer, nn.BatchNorm2d) for layer in initial.backbone.modules())
    if settings.train.batch * math.prod(sides) == 1 and normalised:
        height, width = settings.data.size
        raise UserError(
            f"--batch 1 at --size {height} {width}: the backbone's last map is one cell, and one number cannot be "
            "normalised by its batch; take more images or larger ones"
        )


def with_weights(tasks: Sequence[Task], weights: dict[str, float]) -> tuple[Task, ...]:
    """The tasks with their factors in the objective replaced where `weights` names them.

    Raises:
        UserError: `weights` names a task that does not exist.
    """
    names = {task.name for task in tasks}
    for name in weights:
        if name not in names:
            raise UserError(
                f"--task-weights {name}: no such task.{nearest(name, names)} Known: {', '.join(sorted(names))}"
            )
    return tuple(replace(task, weight=weights.get(task.name, task.weight)) for task in tasks)


def _initial(tasks: Sequence[Task], settings: NetworkSettings, backbone: Backbone) -> InitialNetwork:
    if settings.method not in REFINING:
        default_blocks = BASELINE_DECODER_BLOCKS
    elif settings.form == "published":
        default_blocks = PUBLISHED_DECODER_BLOCKS
    else:
        default_blocks = REFINED_DECODER_BLOCKS
    blocks = settings.decoder_blocks or default_blocks
    if settings.trunk_blocks >= blocks:
        raise UserError(
            f"--trunk-blocks {settings.trunk_blocks} leaves none of --decoder-blocks {blocks} to each task; "
            f"give {blocks - 1} or fewer"
        )
    return InitialNetwork(
        backbone,
        {task.name: task.channels for task in tasks},
        settings.width,
        decoder_blocks=blocks,
        grid_stride=settings.grid_stride,
        multiple=settings.grid_stride * settings.token_stride,
        trunk_blocks=settings.trunk_blocks,
        separable=settings.decoder == "separable",
        pointwise_fusion=settings.fusion == "pointwise",
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
    conditioned = settings.condition != "none"
    denoiser = Denoiser(
        signal_channels,
        settings.width,
        settings.hidden or settings.width,
        conditioned=conditioned,
        correction=correction,
        token_stride=settings.token_stride,
        blocks=settings.blocks,
        attention_heads=settings.attention_heads,
        mlp_ratio=settings.mlp_ratio,
        separable=settings.denoiser == "separable",
        share_head=settings.refinement_heads == "shared",
    )
    condition = Condition(channels, settings.width, settings.condition == "features") if conditioned else None
    schedule = scaled_linear_schedule(settings.steps, settings.noise_start, settings.noise_end)
    return Refiner(signal, condition, denoiser, schedule, noisy=settings.diffusion)


@dataclass(frozen=True)
class TrainingData:
    """Everything that training reads.

    Attributes:
        tasks: the task set, with the weights of the objective.
        dataset: all training images.
        partition: what may be seen of them.
        train: batches to learn from.
        dev: batches held out of training, to choose the best weights; None if nothing is held out.
        held_out: the names of these images.
    """

    tasks: tuple[Task, ...]
    dataset: DenseDataset
    partition: Partition
    train: BatchLoader
    dev: BatchLoader | None
    held_out: tuple[str, ...] = ()


def build_training_set(settings: DataSettings, progress: Progress | None = None) -> DenseDataset:
    """What training reads: `build_dataset` of `train`, with predicted labels where the settings ask for them."""
    return build_dataset(settings, "train", progress, completed=settings.labels == COMPLETED)


def build_dataset(
    settings: DataSettings, split: str, progress: Progress | None = None, completed: bool = False
) -> DenseDataset:
    """The data that the settings name, joined into one, reduced to the chosen tasks.

    Args:
        settings: names of folders, of published benchmarks, or `rooms`.
        split: `train`, `val` or another that the folders have.
        progress: called with (done, total) while rooms are drawn.
        completed: with the predicted labels of folders, which nothing but training is to see.

    Raises:
        UserError: a folder is missing, empty or wrong.
    """
    parts = [_one_dataset(settings, name, split, progress, completed) for name in settings.data]
    whole = parts[0] if len(parts) == 1 else JoinedDataset(parts)
    chosen = SelectedTasks(whole, settings.tasks) if settings.tasks else whole
    if settings.reproduce:
        chosen.tasks = with_published_protocols(chosen.tasks)
    return chosen


def is_built_in(name: str) -> bool:
    """Whether a name of data means the drawn rooms or a published benchmark, and no folder.

    Raises:
        UserError: a data set lies in a folder of that very name, so nobody knows which one is meant.
    """
    if name != ROOMS and name not in BENCHMARKS:
        return False
    if Path(name, FILE_NAME).is_file():
        raise UserError(f"--data {name}: also a folder here; write ./{name} for the folder, or rename it for the other")
    return True


def _one_dataset(
    settings: DataSettings, name: str, split: str, progress: Progress | None, completed: bool
) -> DenseDataset:
    built_in = is_built_in(name)
    if built_in and name == ROOMS:
        count = settings.rooms if split == "train" else settings.rooms_val
        return RoomsDataset.open(split, count, settings.size, settings.rooms_seed, progress=progress)
    if built_in:
        # Of several data sets a task may be called otherwise in the union, so each is opened whole.
        tasks = settings.tasks if len(settings.data) == 1 else None
        return open_benchmark(name, settings.root, split, tasks, settings.max_pixels)
    root = Path(name)
    if shard_splits(root):
        return ShardsDataset.open(root, split, settings.max_pixels)
    folder = FolderDataset.open(root, split, settings.max_pixels)
    return CompletedDataset(folder) if completed else folder


def build_training_data(settings: Settings, dataset: DenseDataset, partition: Partition) -> TrainingData:
    """Loaders over the visible labels of a data set. Images are held out by the labels of people, and judged by them.

    Predicted labels that count nothing (`pseudo_weight` 0) are no labels: training is as if they were not there.

    Raises:
        UserError: no label to learn from, or fewer images than a batch.
    """
    known = by_people(partition, dataset)
    if settings.train.pseudo_weight == 0:
        partition = known
    train_names, dev_names = hold_out(known, settings.data.holdout, settings.train.seed)
    train = settings.train
    varied = _augmentation(settings, dataset.tasks)
    seen = VisibleDataset(dataset, partition, varied, train.seed, train_names, train.pseudo_weight)
    batches = loader(seen, EpochSampler(seen.indices, train.batch, train.seed, world=train.processes), train.workers)
    dev = None
    if dev_names:
        still = Augmentation(
            settings.data.size,
            settings.data.fit,
            scale=(1.0, 1.0),
            flip=0.0,
            colour=None,
            published=settings.data.reproduce,
        )
        held = VisibleDataset(dataset, known, still, train.seed, dev_names)
        order = EpochSampler(held.indices, train.batch, train.seed, shuffle=False, drop_last=False)
        dev = loader(held, order)
    tasks = with_weights(dataset.tasks, train.task_weights)
    return TrainingData(tasks, dataset, partition, batches, dev, dev_names)


def _augmentation(settings: Settings, tasks: Sequence[Task]) -> Augmentation:
    given = settings.augment
    return Augmentation(
        settings.data.size,
        settings.data.fit,
        scale=given.scale,
        crop_by=given.crop_by if any(task.name == given.crop_by and _has_classes(task) for task in tasks) else None,
        max_class_share=given.max_class_share,
        flip=given.flip,
        colour=ColourRanges() if given.photometric else None,
        published=settings.data.reproduce,
    )


def _has_classes(task: Task) -> bool:
    return not task.label_dtype.is_floating_point and task.label_dtype != torch.bool


def describe_run(settings: Settings, tasks: Sequence[Task]) -> dict[str, Any]:
    """Plain data from which `restore_run` builds the network again; in `config.yaml` and every weights file."""
    return {**settings.flat(), TASK_SET: {task.name: task.settings() for task in tasks}}


def restore_run(description: Mapping[str, Any], where: str) -> tuple[Settings, tuple[Task, ...]]:
    """The reverse of `describe_run`.

    Raises:
        UserError: not such a description; `where` names the file it came from.
    """
    given = {key: value for key, value in description.items() if key != "progress"}
    task_set = given.pop(TASK_SET, None)
    if not isinstance(task_set, Mapping) or not task_set:
        raise UserError(f"{where}: no {TASK_SET}; not the description of a run")
    tasks = tuple(task_from_settings(str(name), spec, where) for name, spec in task_set.items())
    return settings_from_flat(given, where), tasks
