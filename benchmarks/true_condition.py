"""How much is there to gain from what other tasks know? The condition is made of their true labels.

    python benchmarks/true_condition.py --condition own --seed 0 --backbone-weights FILE --json own.json
    python benchmarks/true_condition.py --condition true --seed 0 --backbone-weights FILE --json true.json

Feature or Prediction Diffusion on drawn rooms, one label per image, settings of a configuration (rooms-bench by
default). With `--condition own` the condition is what the network says of all tasks, as ever. With `--condition true`
it is what is TRUE of all tasks but the one that is refined, in training and in scoring: no network can have that, and
none can be told more by other tasks. Hidden labels reach nothing but the condition. With `blank` it is zeros.

What refinement adds to the initial predictions of the same network is then the most that conditioning can give at this
size, and how far `own` stays behind `true` is what is lost because other tasks are not predicted well enough.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from diffusionmtl.build import build_dataset, build_network, build_training_data  # noqa: E402
from diffusionmtl.config import Settings, changed, settings_from_flat  # noqa: E402
from diffusionmtl.data.evaluation import evaluation_batches, evaluation_labels  # noqa: E402
from diffusionmtl.data.partition import Partition, make_partition  # noqa: E402
from diffusionmtl.inference.predictor import Predictor  # noqa: E402
from diffusionmtl.inference.tally import Tally  # noqa: E402
from diffusionmtl.models.network import Network  # noqa: E402
from diffusionmtl.plain_yaml import read_yaml  # noqa: E402
from diffusionmtl.tasks import Task  # noqa: E402
from diffusionmtl.training.module import TrainingModule  # noqa: E402
from diffusionmtl.types import Batch, TaskLabels  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


class Told(nn.Module):
    """In the place of `Condition`: maps that were handed in, zeros for the task that is refined."""

    def __init__(self, tasks: tuple[Task, ...], width: int) -> None:
        super().__init__()
        self.channels = {task.name: task.joint_channels for task in tasks}
        self.conv = nn.Conv2d(sum(self.channels.values()), width, 3, padding=1)
        self.maps: dict[str, Tensor] = {}

    def of(self, task: str, rows: Tensor) -> Tensor:
        """[n d h w] for the images `rows`."""
        given = [self.maps[other][rows] * (other != task) for other in self.channels]
        return self.conv(torch.cat(given, dim=1))


def told(network: Network, condition: Told) -> None:
    """Let the refiner take its condition from what it is told, each task its own."""
    refiner = network.refiner
    assert refiner is not None
    refiner.condition = condition

    def tokens(initial, rows):
        whole = torch.arange(len(next(iter(initial.predictions.values()))))
        asked = {task: whole for task in initial.predictions} if rows is None else rows
        return torch.cat([refiner.denoiser.condition_tokens(condition.of(task, at)) for task, at in asked.items()])

    refiner._tokens = tokens


def true_maps(tasks: tuple[Task, ...], labels: Mapping[str, TaskLabels], images: int, grid: tuple[int, int]) -> dict:
    """What is true of a batch, per task [B j h w] on the grid; zeros where unknown."""
    maps = {}
    for task in tasks:
        found = labels[task.name]
        value = torch.where(found.valid[:, None], found.value, torch.zeros_like(found.value))
        coarse = F.adaptive_avg_pool2d(task.joint_label(value, found.valid).float(), grid)
        maps[task.name] = torch.zeros(images, *coarse.shape[1:]).index_copy(0, found.rows, coarse)
    return maps


def hidden(batch: Batch, partition: Partition) -> Batch:
    """The batch with the labels that may be seen."""
    labels = {}
    for task, of in batch.labels.items():
        kept = [n for n, row in enumerate(of.rows.tolist()) if task in partition.visible[batch.names[row]]]
        labels[task] = TaskLabels(of.value[kept], of.valid[kept], of.rows[kept])
    counts = [sum(row in of.rows.tolist() for of in labels.values()) for row in range(len(batch.names))]
    return replace(batch, labels=labels, pairs_per_image=torch.tensor(counts))


class Module(TrainingModule):
    """Sees to it that hidden labels reach the condition and nothing else."""

    def tell(self, partition: Partition, condition: Told | None, blank: bool) -> None:
        self.partition, self.condition, self.blank = partition, condition, blank

    def _owed(self, batch, phase, step):
        if self.condition is not None:
            stride = self.network.initial.grid_stride
            grid = (batch.image.shape[-2] // stride, batch.image.shape[-1] // stride)
            maps = true_maps(self.tasks, batch.labels, len(batch.names), grid)
            self.condition.maps = {task: x * (not self.blank) for task, x in maps.items()}
        return super()._owed(hidden(batch, self.partition), phase, step)


def scores(
    network: Network, settings: Settings, condition: Told | None, blank: bool
) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of initial and final predictions on the rooms of `val`."""
    dataset = build_dataset(settings.data, "val")
    predictor = Predictor(network, settings.data.size)
    tallies = {part: {task.name: Tally(task) for task in network.tasks} for part in ("initial", "final")}
    stride = network.initial.grid_stride
    for batch in evaluation_batches(dataset, range(len(dataset)), settings.data.size, 8):
        labels = [evaluation_labels(dataset, index) for index in batch.indices]
        if condition is not None:
            grid = (batch.image.shape[-2] // stride, batch.image.shape[-1] // stride)
            each = [true_maps(network.tasks, of, 1, grid) for of in labels]
            condition.maps = {t.name: torch.cat([maps[t.name] for maps in each]) * (not blank) for t in network.tasks}
        found = predictor.estimate(batch.image, batch.indices, 1, 0, batch.sizes[0])
        for row, index in enumerate(batch.indices):
            for task in network.tasks:
                estimates = found[task.name]
                tallies["final"][task.name].add(index, estimates.mean[row : row + 1], labels[row][task.name])
                tallies["initial"][task.name].add(index, estimates.initial[row : row + 1], labels[row][task.name])
    return {
        part: {name: next(iter(tally.figures().items())) for name, tally in of.items()} for part, of in tallies.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--condition", choices=("own", "true", "blank"), required=True)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "rooms-bench.yaml")
    parser.add_argument("--backbone-weights")
    parser.add_argument("--method", choices=("feature", "prediction"), default="feature")
    parser.add_argument("--labels", default="one")
    parser.add_argument("--rooms-seed", type=int, default=11)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    began = time.monotonic()
    words = {"self_training": "never", "rooms_seed": given.rooms_seed, "method": given.method, "seed": given.seed}
    words |= {"backbone_weights": given.backbone_weights, "crop_by": "nothing"}
    words |= {"epochs": given.epochs} if given.epochs else {}
    settings = changed(settings_from_flat(read_yaml(given.config), str(given.config)), **words)

    dataset = build_dataset(settings.data, "train")
    everything = make_partition("full", dataset, 0)
    partition = make_partition(given.labels, dataset, given.seed)
    data = build_training_data(settings, dataset, everything)
    network = build_network(data.tasks, settings.network, settings.train.seed)
    network.to(memory_format=torch.channels_last)
    condition = None
    if given.condition != "own":
        condition = Told(network.tasks, settings.network.width)
        told(network, condition)
    module = Module(network, data.tasks, settings.train, len(data.train))
    module.tell(partition, condition, given.condition == "blank")
    trainer = lightning.Trainer(
        max_epochs=settings.train.epochs,
        accelerator="cpu",
        gradient_clip_val=settings.train.clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data.train)
    found = scores(network, settings, condition, module.blank)
    record = {"settings": vars(given), "scores": found, "seconds": time.monotonic() - began}
    record["load"] = os.getloadavg()[0]
    print(json.dumps(record, indent=1, default=str))
    if given.json:
        given.json.write_text(json.dumps(record, indent=1, default=str))


if __name__ == "__main__":
    main()
