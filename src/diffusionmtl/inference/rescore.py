"""Scores of predictions that lie in files, whichever program made them, under every protocol; no network is involved.

`<folder>/<task>/<image>.npy` or `.png`, at the size of the image: what `predict` writes, and what others usually do
(`Task.read_prediction` of each kind says which numbers). Where several people drew the boundaries of an image (BSDS),
theirs are in `<annotators>/<task>/<image>/`, one file each.
"""

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.description import FILE_NAME, dataset_tasks
from diffusionmtl.errors import UserError
from diffusionmtl.inference.evaluate import Scores
from diffusionmtl.metrics.boundary import BSDS
from diffusionmtl.tasks import Boundary, Meter, Task
from diffusionmtl.tasks.boundary import BoundaryMeter

SUFFIXES = (".npy", ".png", ".tif", ".tiff")
# Figures are summed in groups of this size whatever the number of processes, so they have the same bits.
_GROUP = 16
_SHOWN = 3

Found = tuple[int, Mapping[str, Path]]


def rescore(
    folder: Path,
    dataset: DenseDataset,
    *,
    indices: Iterable[int] | None = None,
    allow_missing: bool = False,
    annotators: Path | None = None,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Score saved predictions of every task that the data set annotates and the folder has.

    Args:
        folder: predictions. If it has a `dataset.yaml`, as folders of `predict` do, files are read as that says;
            otherwise as labels of the data set are.
        dataset: with labels; tasks that the folder has no folder for are left out.
        indices: which images; all if None.
        allow_missing: leave out images without a file instead of refusing.
        annotators: boundaries by several people per image; adds figures of the BSDS protocol.
        jobs: processes. Any number gives the same figures.
        progress: called with (images done, all).

    Raises:
        UserError: a file is missing, cannot be read, or has another size than its label; or there is no task in common.
    """
    work = _Work(dataset, _readers(folder, dataset), annotators)
    work.check_annotators()
    found = _found(folder, work, range(len(dataset)) if indices is None else indices, allow_missing)
    groups = [found[start : start + _GROUP] for start in range(0, len(found), _GROUP)]
    merged: dict[str, list[Meter]] = {}
    done = 0
    for group, meters in zip(groups, _scored(work, groups, jobs), strict=True):
        for task, fresh in meters.items():
            # torchmetrics puts what comes in before what is there.
            for meter, before in zip(fresh, merged.get(task, ()), strict=task in merged):
                meter.merge_state(before)
            merged[task] = fresh
        done += len(group)
        if progress is not None:
            progress(done, len(found))
    return Scores(
        images={task: sum(task in paths for _, paths in found) for task in work.readers},
        final={task: _figures(merged[task]) for task in work.readers if task in merged},
        initial={},
    )


def _figures(meters: Sequence[Meter]) -> dict[str, float]:
    return {name: value for meter in meters for name, value in meter.compute().items()}


@dataclass(frozen=True)
class _Work:
    """What every process knows.

    Attributes:
        dataset: the labels.
        readers: per task of the data set how its predictions are to be read.
        annotators: see `rescore`.
    """

    dataset: DenseDataset
    readers: Mapping[str, Task]
    annotators: Path | None

    def check_annotators(self) -> None:
        """Refuse a folder of annotators that has nothing for any boundary task."""
        if self.annotators is not None and not any(map(self._several, self.dataset.tasks)):
            raise UserError(
                f"--annotators {self.annotators}: no folder named after a boundary task of data set "
                f"'{self.dataset.name}'; expected TASK/IMAGE/*.png, one file for each person"
            )

    def score(self, group: Sequence[Found]) -> dict[str, list[Meter]]:
        """Meters of some images, for the tasks that these have."""
        tasks = {task.name: task for task in self.dataset.tasks}
        meters: dict[str, list[Meter]] = {}
        for index, paths in group:
            for name, path in paths.items():
                task = tasks[name]
                label, valid = (x.as_subclass(Tensor) for x in self.dataset.label(index, name))
                estimate = _estimate(self.readers[name], path, label)[None]
                own, drawn = meters.setdefault(name, self._meters(task)), len(task.meters())
                for meter in own[:drawn]:
                    meter.update(estimate, label[None], valid)
                for meter in own[drawn:]:
                    meter.update(estimate, *self._drawn(task, index, label))
        return meters

    def _meters(self, task: Task) -> list[Meter]:
        return [*task.meters(), *([BoundaryMeter(BSDS)] if self._several(task) else [])]

    def _several(self, task: Task) -> bool:
        return isinstance(task, Boundary) and self.annotators is not None and (self.annotators / task.name).is_dir()

    def _drawn(
        self, task: Task, index: int, label: Shaped[Tensor, "c h w"]
    ) -> tuple[Bool[Tensor, "1 a h w"], Bool[Tensor, "1 h w"]]:
        """What each person drew, and where all of them know."""
        assert self.annotators is not None
        folder = self.annotators / task.name / self.dataset.names[index]
        paths = [p for p in sorted(folder.glob("*")) if p.suffix.lower() in task.suffixes]
        if not paths:
            raise UserError(f"{folder}: no boundaries of anybody; expected one PNG for each person")
        maps, valid = zip(*map(task.read, paths), strict=True)
        for path, drawn in zip(paths, maps, strict=True):
            _check_size(path, drawn, label)
        return torch.cat([m.as_subclass(Tensor) for m in maps])[None], torch.cat(valid).as_subclass(Tensor).all(0)[None]


def _estimate(task: Task, path: Path, label: Shaped[Tensor, "c h w"]) -> Float[Tensor, "a h w"]:
    estimate = task.read_prediction(path)
    _check_size(path, estimate, label)
    return estimate


def _check_size(path: Path, found: Tensor, label: Tensor) -> None:
    if found.shape[-2:] != label.shape[-2:]:
        sizes = [f"{x.shape[-2]}x{x.shape[-1]}" for x in (found, label)]
        raise UserError(
            f"{path}: is {sizes[0]} and its label {sizes[1]} (height x width); save it at the size of the image"
        )


def _readers(folder: Path, dataset: DenseDataset) -> dict[str, Task]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one with predictions as TASK/IMAGE.png or TASK/IMAGE.npy")
    described = {task.name: task for task in dataset_tasks(folder)} if (folder / FILE_NAME).is_file() else {}
    readers: dict[str, Task] = {}
    for task in dataset.tasks:
        if not (folder / task.name).is_dir():
            continue
        reader = readers[task.name] = described.get(task.name, task)
        if reader.meaning() != task.meaning():
            raise UserError(
                f"{folder / FILE_NAME}: task '{task.name}' is {reader.kind} with {reader.channels} channels, in data "
                f"set '{dataset.name}' it is {task.kind} with {task.channels}; these cannot be compared"
            )
    if not readers:
        raise UserError(
            f"{folder}: no folder of predictions of {', '.join(task.name for task in dataset.tasks)}, the tasks of "
            f"data set '{dataset.name}'; expected TASK/IMAGE.png or TASK/IMAGE.npy"
        )
    return readers


def _found(folder: Path, work: _Work, indices: Iterable[int], allow_missing: bool) -> list[Found]:
    """The images that have a prediction to be scored, with the files; nothing is opened."""
    found: list[Found] = []
    missing: list[str] = []
    for index in indices:
        paths: dict[str, Path] = {}
        for task in work.readers:
            if task not in work.dataset.counted(index):
                continue
            places = [folder / task / f"{work.dataset.names[index]}{suffix}" for suffix in SUFFIXES]
            path = next((place for place in places if place.is_file()), None)
            if path is None:
                missing.append(f"{task}/{work.dataset.names[index]}")
            else:
                paths[task] = path
        if paths:
            found.append((index, paths))
    if missing and not (allow_missing and found):
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise UserError(
            f"{folder}: no prediction {', '.join(missing[:_SHOWN])}{more} ({' or '.join(SUFFIXES[:2])}); predict all "
            "images, or leave these out with --allow-missing"
        )
    if not found:
        raise UserError(f"data set '{work.dataset.name}': none of the chosen images has a label of these tasks")
    return found


def _scored(work: _Work, groups: Sequence[Sequence[Found]], jobs: int) -> Iterator[dict[str, list[Meter]]]:
    if jobs == 1 or len(groups) < 2:
        yield from map(work.score, groups)
        return
    # A forked process would inherit threads that torch may have started.
    with ProcessPoolExecutor(
        min(jobs, len(groups)), get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        yield from map(pickle.loads, pool.map(_score_elsewhere, [work] * len(groups), groups))


def _score_elsewhere(work: _Work, group: Sequence[Found]) -> bytes:
    # As bytes: tensors would come back as handles of shared memory, of which a process may hold only so many.
    return pickle.dumps(work.score(group))
