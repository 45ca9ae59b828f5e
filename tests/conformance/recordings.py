"""Recordings of the published network: found in a folder, run again with ours, every map caught on the way."""

import functools
import json
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diffusionmtl.build import build_network
from diffusionmtl.commands.published import PUBLISHED_TRAINING
from diffusionmtl.config import Settings, changed
from diffusionmtl.diffusion import posterior_mean
from diffusionmtl.models.network import Network
from diffusionmtl.models.published import load_published, published_settings, published_tasks, read_published
from diffusionmtl.tasks import Task
from diffusionmtl.tasks.published import published_task
from diffusionmtl.training.module import TrainingModule
from diffusionmtl.training.objective import Objective, objective
from diffusionmtl.types import Batch, NetworkOutput, TaskLabels
from tests.conformance.resnet import thin_backbone


@dataclass(frozen=True, eq=False)
class Recording:
    """One recorded pass of one variant.

    Attributes:
        path: the arrays.
        meta: what the variant's `_meta.json` says.
        weights: the checkpoint.
    """

    path: Path
    meta: dict
    weights: Path

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.path) as stored:
            return {name: stored[name] for name in stored.files}

    @property
    def training(self) -> bool:
        return "task_w" in self.arrays

    @cached_property
    def mask(self) -> np.ndarray:
        """Which (image, task) pairs were denoised: the labelled ones in training, all otherwise."""
        shape = len(self.arrays["image"]), len(self.meta["tasks"])
        return self.arrays["task_w"].astype(bool) if self.training else np.ones(shape, dtype=bool)

    def rows(self) -> dict[str, Tensor]:
        """Per task with a pair, the images that have it."""
        found = {
            task: torch.from_numpy(np.flatnonzero(column)) for task, column in zip(self.tasks, self.mask.T, strict=True)
        }
        return {task: at for task, at in found.items() if len(at)}

    @property
    def tasks(self) -> list[str]:
        return self.meta["tasks"]

    def pair(self, image: int, task: str) -> tuple[str, slice]:
        """Prefix of the arrays of a pair, and which rows of them are its own."""
        return (f"s{image}/{task}", slice(0, 1)) if self.training else (task, slice(image, image + 1))


@functools.cache
def find_recordings(folder: Path) -> list[Recording]:
    """Every recorded pass of every variant in the folder and those below it."""
    found = []
    for path in sorted(folder.rglob("*_meta.json")):
        variant = path.name.removesuffix("_meta.json")
        meta = json.loads(path.read_text())
        weights = sorted(path.parent.glob(f"{variant}_weights.*"))[0]
        found += [Recording(arrays, meta, weights) for arrays in sorted(path.parent.glob(f"{variant}_*.npz"))]
    return found


def network_of(recording: Recording) -> Network:
    """Our network with the recorded weights."""
    checkpoint = read_published(recording.weights)
    meant = [published_task(name, recording.meta["num_output"][name]) for name in recording.tasks]
    tasks = published_tasks(checkpoint, [task for task in meant if task is not None])
    backbone = thin_backbone(recording.meta["backbone_channels"])
    network = build_network(tasks, published_settings(checkpoint), backbone=backbone)
    load_published(network, checkpoint)
    return network


@dataclass(frozen=True)
class RecordedNoise:
    """The noise that was drawn when the recording was made."""

    recording: Recording
    steps: int

    def __call__(self, task: str, step: int, rows: Tensor, like: Tensor) -> Tensor:
        name = "noise_T" if step == self.steps else f"step{step}/noise"
        drawn = []
        for image in rows.tolist():
            prefix, at = self.recording.pair(image, task)
            drawn.append(self.recording.arrays[f"{prefix}/{name}"][at])
        return torch.from_numpy(np.concatenate(drawn)).to(like)


@dataclass
class Trace:
    """The maps of one pass by the names of the recording, each pair apart."""

    maps: dict[str, Tensor] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def watch(self, network: Network, recording: Recording, rows: dict[str, Tensor]) -> list:
        """Hook every part of the network whose output is recorded."""
        initial, refiner = network.initial, network.refiner
        assert refiner is not None
        steps = refiner.schedule.steps
        hooks = [
            initial.backbone.register_forward_hook(lambda _m, _x, maps: self._pyramid(maps)),
            self._whole("fused", initial.fusion),
            self._whole("cond", refiner.condition),
        ]
        for task in recording.tasks:
            hooks.append(self._whole(f"inter_feas/{task}", initial.decoders[task]))
            hooks.append(self._whole(f"inter_preds/{task}", initial.heads[task]))

        def per_step(module: nn.Module, name: str, tasks: list[str], at: int | None = None) -> None:
            def hook(_module, _given, output) -> None:
                step = steps - 1 - self.calls[name]
                self.calls[name] += 1
                parts = (output if at is None else output[at]).split([len(rows[task]) for task in tasks])
                for task, part in zip(tasks, parts, strict=True):
                    self._pairs(recording, rows, task, f"step{step}/{name.removesuffix(f'@{task}')}", part)

            hooks.append(module.register_forward_hook(hook))

        for task in rows:
            per_step(refiner.denoiser.embed[task], f"pre_layer@{task}", [task])
            per_step(refiner.denoiser.heads[task], f"denoised_feature@{task}", [task])
        for index, block in enumerate(refiner.denoiser.blocks):
            per_step(block, f"block{index}", list(rows), 0)
            per_step(block, f"block{index}_kv", list(rows), 1)

        def time(_module, given, output) -> None:
            self.maps[f"t_embedding/t{given[0]}"] = output

        hooks.append(refiner.denoiser.time.register_forward_hook(time))
        return hooks

    def signals(self, network: Network, recording: Recording, rows: dict[str, Tensor]):
        """A callback for every denoising step."""
        schedule = network.refiner.schedule

        def watch(step: int, noisy, clean) -> None:
            for task in rows:
                name = "x_T" if step == schedule.steps - 1 else f"step{step + 1}/sample"
                self._pairs(recording, rows, task, name, noisy[task])
                if step > 0:
                    mean = posterior_mean(schedule, clean[task], noisy[task], step)
                    self._pairs(recording, rows, task, f"step{step}/posterior_mean", mean)

        return watch

    def predictions(self, recording: Recording, output: NetworkOutput) -> None:
        for task, raw in output.final.items():
            self._pairs(recording, output.rows, task, "step0/pred_lowres", raw)
            full = output.canvas.to_image(raw)
            for image, part in zip(output.rows[task].tolist(), full.split(1), strict=True):
                self._add(f"preds/{recording.pair(image, task)[0]}", part)

    def _pyramid(self, maps: list[Tensor]) -> None:
        for index, x in enumerate(maps):
            self.maps[f"backbone/{index}"] = x

    def _whole(self, name: str, module: nn.Module):
        return module.register_forward_hook(lambda _m, _x, output: self.maps.__setitem__(name, output))

    def _pairs(self, recording: Recording, rows, task: str, name: str, values: Tensor) -> None:
        for image, part in zip(rows[task].tolist(), values.split(1), strict=True):
            self._add(f"{recording.pair(image, task)[0]}/{name}", part)

    def _add(self, name: str, part: Tensor) -> None:
        """Pairs that share an array come in the order of their images."""
        self.maps[name] = torch.cat([self.maps[name], part]) if name in self.maps else part


@dataclass
class Rerun:
    """What our network makes of a recording."""

    recording: Recording
    network: Network
    maps: dict[str, Tensor]
    output: NetworkOutput
    owed: Objective | None = None
    total_norm: Tensor | None = None
    gradients: dict[str, Tensor | None] = field(default_factory=dict)
    after_step: dict[str, Tensor] = field(default_factory=dict)


def rerun(recording: Recording, dtype: torch.dtype) -> Rerun:
    """Our network, objective and optimiser step from the recorded weights, inputs and noise."""
    network = network_of(recording).to(dtype)
    network.train(recording.training)
    rows = recording.rows()
    trace = Trace()
    hooks = trace.watch(network, recording, rows)
    noise = RecordedNoise(recording, network.refiner.schedule.steps)
    image = torch.from_numpy(recording.arrays["image"]).to(dtype)
    with torch.set_grad_enabled(recording.training):
        output = network(image, noise, rows, trace.signals(network, recording, rows))
    trace.predictions(recording, output)
    for hook in hooks:
        hook.remove()
    done = Rerun(recording, network, trace.maps, output)
    if recording.training:
        _learn(done, dtype)
    return done


def _learn(done: Rerun, dtype: torch.dtype) -> None:
    network = done.network
    for index in range(4):
        done.maps[f"backbone/{index}"].retain_grad()
    done.owed = objective(
        network.tasks,
        done.output,
        batch_of(done.recording, network.tasks, dtype),
        done.recording.meta["inter_loss_weight"],
    )
    done.owed.total.backward()
    parameters = dict(network.named_parameters())
    done.gradients = {name: None if p.grad is None else p.grad.clone() for name, p in parameters.items()}
    done.total_norm = nn.utils.clip_grad_norm_(network.parameters(), done.recording.meta["grad_clip"]["max_norm"])
    published = changed(Settings(), **PUBLISHED_TRAINING).train
    optimizer = TrainingModule(network, network.tasks, published, steps_per_epoch=1).configure_optimizers()["optimizer"]
    assert isinstance(optimizer, torch.optim.Adam)
    optimizer.step()
    done.after_step = {name: p.detach() for name, p in parameters.items()}


def batch_of(recording: Recording, tasks: tuple[Task, ...], dtype: torch.dtype) -> Batch:
    """The recorded labels as a batch of ours: 255 in a label means that it is not valid there."""
    arrays, mask = recording.arrays, recording.mask
    labels = {}
    for task, column in zip(tasks, mask.T, strict=True):
        rows = torch.from_numpy(np.flatnonzero(column))
        given = torch.from_numpy(arrays[f"gt/{task.name}"])[rows]
        labels[task.name] = labels_of(task, given, rows, dtype, recording.meta["ignore_index"])
    image = torch.zeros(arrays["image"].shape, dtype=torch.uint8)
    names = tuple(f"image {index}" for index in range(len(image)))
    return Batch(names, tuple(range(len(image))), image, labels, torch.from_numpy(mask.sum(axis=1)))


def labels_of(task: Task, given: Tensor, rows: Tensor, dtype: torch.dtype, ignore: int = 255) -> TaskLabels:
    """Published labels [n C H W] as ours."""
    valid = (given != ignore).all(dim=1)
    kind = task.label_dtype if task.label_dtype != torch.float32 else dtype
    return TaskLabels(torch.where(valid[:, None], given, 0).to(kind), valid, rows)
