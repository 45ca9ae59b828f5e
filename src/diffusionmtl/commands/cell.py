"""One cell of a comparison: a method trained on one set of labels with one seed, and scored.

A cell is plain data in a file, so that a process of its own can work on it, and so that a later call knows what was
asked and what became of it. `python -m diffusionmtl.commands.cell FILE` works on one.
"""

import _thread
import json
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from diffusionmtl.build import build_network, build_training_set, restore_run
from diffusionmtl.commands.evaluate import evaluate_run, save_metrics
from diffusionmtl.commands.train import train
from diffusionmtl.config import Settings, changed, settings_from_flat
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.members import name_fault
from diffusionmtl.data.partition import COMPLETED, Partition, by_people, hold_out, make_partition
from diffusionmtl.errors import UserError, in_one_line
from diffusionmtl.files import read_json, write_bytes_atomically
from diffusionmtl.inference.per_image import PerImage, load_per_image, save_per_image
from diffusionmtl.models.cost import PartCost, network_cost
from diffusionmtl.models.pretrained import read_network
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.report.comparison import SINGLE_TASK
from diffusionmtl.runfolder import RunFolder
from diffusionmtl.tasks import Task
from diffusionmtl.training.run import Stopped

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
INTERRUPTED = "interrupted"
"""What a running cell is that nobody works on; no record says it, since whoever was killed could not write it."""
EXIT_FAILED, EXIT_STOPPED = 1, 130

_alone_now = threading.Event()


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        state: waiting, running (or interrupted), done, failed.
        reason: why it failed.
        seconds: spent on training, all sessions together.
        steps: optimiser steps of the whole training; of each network, where there is one per task.
        parameters: of all networks of the cell.
        gmac: likewise, billions of multiply-adds per image.
    """

    state: str = WAITING
    reason: str = ""
    seconds: float = 0.0
    steps: int = 0
    parameters: int = 0
    gmac: float = 0.0


@dataclass(frozen=True)
class Cell:
    """What is asked for.

    Attributes:
        record: the file that holds this and the outcome.
        folder: of the run; of the runs of each task for single-task networks.
        settings: as a multi-task network would be trained with them.
        split: scored split.
        samples: noise draws per image.
        checkpoint: last or best.
        images: file with the names of the images that are scored, one a line; all of the split if None.
    """

    record: Path
    folder: Path
    settings: Settings
    split: str = "val"
    samples: int = 1
    checkpoint: str = "last"
    images: str | None = None

    def asked(self) -> dict[str, Any]:
        """As plain data."""
        scoring: dict[str, Any] = {"split": self.split, "samples": self.samples, "checkpoint": self.checkpoint}
        if self.images is not None:
            scoring["images"] = self.images
        return {"settings": self.settings.flat(), "scoring": scoring}


def save_outcome(cell: Cell, outcome: Outcome) -> None:
    """Write the record."""
    # Relative, so that the whole comparison may be moved.
    where = cell.folder.relative_to(_root(cell.record)).as_posix()
    text = json.dumps({"format": 1, "folder": where, "asked": cell.asked(), "outcome": asdict(outcome)}, indent=2)
    write_bytes_atomically(cell.record, f"{text}\n".encode())


def _root(record: Path) -> Path:
    """The folder of the comparison, in which records are `cells/LABELS/NAME.json`."""
    return record.parents[2]


def read_record(path: Path) -> tuple[Cell, Outcome]:
    """A cell and what became of it.

    Raises:
        UserError: the file is missing or no such record.
    """
    try:
        raw = read_json(path)
        asked = raw["asked"]
        settings = settings_from_flat(asked["settings"], str(path))
        if fault := name_fault(raw["folder"]):
            raise UserError(f"{path}: the name of its folder {fault}; remove the record")
        folder = _root(path) / raw["folder"]
        return Cell(path, folder, settings, **asked["scoring"]), Outcome(**raw["outcome"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: not the record of a cell ({type(error).__name__}); remove it") from None


def run_cell(cell: Cell, progress: bool = False) -> Outcome:
    """Train and score what a cell asks for, or go on where an earlier call was interrupted; failures are recorded.

    Raises:
        Stopped, KeyboardInterrupt: interrupted.
    """
    with _alone(cell.record.with_suffix(".lock")):
        if outcome_of(cell).state == DONE:
            return outcome_of(cell)
        _change(cell, state=RUNNING, reason="")
        try:
            _change(cell, state=DONE, **_worked_out(cell, progress))
        except Stopped:
            raise
        except UserError as error:
            _change(cell, state=FAILED, reason=str(error))
        except Exception as error:
            traceback.print_exc()
            said = in_one_line(error, 300)
            _change(cell, state=FAILED, reason=f"{type(error).__name__}: {said}")
        return outcome_of(cell)


def outcome_of(cell: Cell) -> Outcome:
    """What its record says; waiting if there is none."""
    return read_record(cell.record)[1] if cell.record.is_file() else Outcome()


def state_of(cell: Cell, outcome: Outcome) -> str:
    """That of its outcome, but `interrupted` for one whose process was stopped or killed."""
    stopped = outcome.state == RUNNING and not _worked_on(cell.record.with_suffix(".lock"))
    return INTERRUPTED if stopped else outcome.state


def _worked_on(lock: Path) -> bool:
    """Whether a process holds the lock; no by default, where there are none."""
    if fcntl is None or not lock.is_file():
        return False
    with lock.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _change(cell: Cell, **values: Any) -> None:
    save_outcome(cell, replace(outcome_of(cell), **values))


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process works on this cell: one that was told to stop may still be at it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _worked_out(cell: Cell, progress: bool) -> dict[str, Any]:
    """Train and score; returns what it took."""
    dataset = build_training_set(cell.settings.data)
    runs = _single_task_runs(cell, dataset) if _single(cell) else {cell.folder: cell.settings}
    for folder, settings in runs.items():
        if _alone_now.is_set():
            raise Stopped
        with _timed(cell):
            _train(RunFolder(folder), settings, progress)
        _score(cell, folder, settings, progress)
    if _single(cell):
        _join_scores(cell, list(runs))
    return _cost(runs, dataset)


def _single(cell: Cell) -> bool:
    return cell.settings.network.method == SINGLE_TASK


@contextmanager
def _timed(cell: Cell) -> Iterator[None]:
    """Add the seconds spent inside to the record, also when it is left early."""
    began = time.monotonic()
    try:
        yield
    finally:
        _change(cell, seconds=outcome_of(cell).seconds + time.monotonic() - began)


def _train(run: RunFolder, settings: Settings, progress: bool) -> None:
    if not run.config.is_file():
        # Left by a process that was killed between two files.
        for path in (run.partition, run.held_out, run.provenance):
            path.unlink(missing_ok=True)
        train(settings, run.root, progress=progress)
    elif not finished(run, settings):
        train(restore_run(read_yaml(run.config), str(run.config))[0], run.root, resume=True, progress=progress)


def finished(run: RunFolder, settings: Settings) -> bool:
    """Whether a run's last weights come from its last epoch."""
    weights = run.checkpoints / "last.safetensors"
    return weights.is_file() and read_network(weights)[1]["progress"]["epoch"] >= settings.train.epochs


def _score(cell: Cell, folder: Path, settings: Settings, progress: bool) -> None:
    run = RunFolder(folder)
    metrics = evaluate_run(
        folder,
        settings.data,
        cell.split,
        samples=cell.samples,
        checkpoint=cell.checkpoint,
        progress=progress,
        per_image=run.per_image,
        images=None if cell.images is None else Path(cell.images),
    )
    save_metrics(run, metrics)


def training_steps(settings: Settings, partition: Partition, people: Partition | None = None) -> int:
    """Optimiser steps of a training: whole batches of the images that are left to learn from, per epoch."""
    return settings.train.epochs * (training_images(settings, partition, people) // settings.train.batch)


def training_images(settings: Settings, partition: Partition, people: Partition | None = None) -> int:
    """Images with a visible label that are not held out.

    Args:
        people: the labels of people among the visible ones, by which images are held out; None: all are.
    """
    people = people or partition
    names, _ = hold_out(people, settings.data.holdout, settings.train.seed)
    learnt = people if settings.train.pseudo_weight == 0 else partition
    return sum(bool(learnt.visible[name]) for name in names)


def _single_task_runs(cell: Cell, dataset: DenseDataset) -> dict[Path, Settings]:
    """Per task a run on its labelled images alone, with as many optimiser steps as the multi-task run of the cell."""
    partition = make_partition(cell.settings.data.labels, dataset, cell.settings.data.label_seed)
    steps = training_steps(cell.settings, partition, by_people(partition, dataset))
    runs = {}
    for task in dataset.tasks:
        own = partition.of_tasks([task.name])
        path = cell.folder / f"{task.name}.partition.txt"
        own.save(path)
        people = by_people(own, dataset)
        # A partition file alone shows no predictions.
        labels = str(path) if people.visible == own.visible else COMPLETED
        single = changed(cell.settings, tasks=(task.name,), labels=labels)
        runs[cell.folder / task.name] = _with_steps(single, own, steps, people)
    return runs


def _with_steps(settings: Settings, partition: Partition, steps: int, people: Partition | None = None) -> Settings:
    """Settings whose epochs give about so many steps; smaller batches only where too few images fill one."""
    images = training_images(settings, partition, people)
    batch = max(1, min(settings.train.batch, images))
    return changed(settings, batch=batch, epochs=max(1, round(steps / max(1, images // batch))))


def _cost(runs: dict[Path, Settings], dataset: DenseDataset) -> dict[str, Any]:
    totals = []
    steps = []
    for folder, settings in runs.items():
        tasks = [task for task in dataset.tasks if not settings.data.tasks or task.name in settings.data.tasks]
        totals.append(_network_cost(tasks, settings))
        partition = Partition.load(RunFolder(folder).partition, dataset)
        steps.append(training_steps(settings, partition, by_people(partition, dataset)))
    return {
        "steps": round(sum(steps) / len(steps)),
        "parameters": sum(total.parameters for total in totals),
        "gmac": sum(total.gmac for total in totals),
    }


def _network_cost(tasks: list[Task], settings: Settings) -> PartCost:
    network = build_network(tasks, changed(settings, backbone_weights=None, pretrained=False).network)
    return network_cost(network, settings.data.size).total


def _join_scores(cell: Cell, folders: list[Path]) -> None:
    """The scores of one network per task, as if they were those of one network."""
    scores = [json.loads(RunFolder(folder).metrics.read_text("utf-8")) for folder in folders]
    merged = dict(scores[0])
    for part in ("images", "final", "initial"):
        merged[part] = {task: value for one in scores for task, value in one[part].items()}
    per_image: dict[str, dict[str, PerImage]] = {}
    for folder in folders:
        for part, tasks in load_per_image(RunFolder(folder).per_image).items():
            per_image.setdefault(part, {}).update(tasks)
    save_per_image(RunFolder(cell.folder).per_image, per_image)
    save_metrics(RunFolder(cell.folder), merged)


def main(record: str) -> int:
    """Work on one cell as a process of its own, which stops in an orderly way when whoever started it is gone."""
    torch.set_num_threads(1)
    threading.Thread(target=_stop_when_alone, daemon=True).start()
    try:
        return 0 if run_cell(read_record(Path(record))[0]).state == DONE else EXIT_FAILED
    except (Stopped, KeyboardInterrupt):
        return EXIT_STOPPED


def _stop_when_alone() -> None:
    sys.stdin.buffer.read()
    # The note is for the time between two trainings; a training that is at its last step does not heed the interrupt.
    _alone_now.set()
    _thread.interrupt_main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
