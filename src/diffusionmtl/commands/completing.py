"""What is to be completed of a data set, and one image of it after the other, by whoever sees the same files."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from diffusionmtl.build import build_dataset, build_training_set, is_built_in
from diffusionmtl.commands.completed_files import SPLIT, Place, content_of
from diffusionmtl.commands.finished import Finished, digest
from diffusionmtl.commands.held_out import held_out_labels
from diffusionmtl.commands.output import progress_bar
from diffusionmtl.config import DataSettings, Settings
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.folder import PREDICTED
from diffusionmtl.data.partition import Partition, annotations, as_found, by_people
from diffusionmtl.errors import UserError, nearest
from diffusionmtl.inference.complete import Asked, answers
from diffusionmtl.inference.load import load, settings_of_run, weights_file
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.runfolder import RunFolder

THRESHOLDS = "a bound over images"
"""How thresholds are found. A folder that was begun by another rule is not gone on with."""

Limits = Mapping[str, int | None]
"""Per predicted task the level from which on pixels are kept; None where nothing is."""


@dataclass(frozen=True)
class Plan:
    """What is asked of which network: plain values, so that another process can be told.

    Attributes:
        run: the folder of a finished run.
        data: its data.
        out: the folder of the completed data set.
        asked: how.
        checkpoint: `last` or `best`.
        device: where to compute.
        calibrated: use the run's `calibration.json`, if there is one.
        split: of the data; what people labelled counts as known in all but `train`, where the run decides.
    """

    run: Path
    data: DataSettings
    out: Path
    asked: Asked
    checkpoint: str = "last"
    device: str = "cpu"
    calibrated: bool = True
    split: str = SPLIT

    def elsewhere(self, run: Path, out: Path) -> "Plan":
        """The same for a process that stands in another folder."""
        names = tuple(name if is_built_in(name) else str(Path(name).absolute()) for name in self.data.data)
        root = None if self.data.root is None else str(Path(self.data.root).absolute())
        return replace(self, run=run, out=out, data=replace(self.data, data=names, root=root))

    def job(self, progress: bool = False) -> "Job":
        """Load the network and look at the data.

        Raises:
            UserError: no run, other data than its own, no such split, nothing missing, or no label to find a threshold
                by.
        """
        weights = weights_file(self.run, self.checkpoint)
        folder = RunFolder(self.run)
        if not folder.partition.is_file():
            raise UserError(
                f"{self.run}: no {folder.partition.name}, so nobody knows which labels it saw; give a run folder"
            )
        settings = settings_of_run(weights)
        predictor = load(self.run, self.device, self.checkpoint, calibrated=self.calibrated)
        drawing = progress_bar("drawing rooms") if progress else None
        trained_on = build_training_set(self.data, drawing)
        said = f"--data {' '.join(self.data.data)}"
        if trained_on.tasks != predictor.tasks:
            raise UserError(f"{said}: its tasks are not those of {self.run}; give the data that the run was trained on")
        people = by_people(Partition.load(folder.partition, trained_on), trained_on)
        held_out = held_out_labels(folder, trained_on, settings)
        state = [
            THRESHOLDS,
            people.digest(),
            sorted(held_out),
            predictor.calibration,
            *(t.settings() for t in trained_on.tasks),
        ]
        dataset = trained_on
        if self.split != SPLIT:
            dataset = build_dataset(self.data, self.split, drawing)
            people = as_found(annotations(dataset))
            state += [self.split, people.digest()]
        everything = frozenset(task.name for task in dataset.tasks)
        known = tuple(people.visible[name] for name in dataset.names)
        if all(seen == everything for seen in known):
            whose = f"{self.run} saw" if self.split == SPLIT else f"split '{self.split}' has"
            raise UserError(f"{said}: {whose} a label of every task for every image; none is missing")
        missing = tuple(everything - seen for seen in known)
        job = Job(self, predictor, dataset, known, missing, trained_on, held_out, digest(weights, self.asked, *state))
        _check_thresholds(job, settings)
        return job


@dataclass(frozen=True)
class Job:
    """Completes one image after the other.

    Attributes:
        dataset: the split of the run's data that is completed.
        known: per image, in order, the tasks whose label of a person is there and, in `train`, the run may see.
        missing: likewise the tasks without one.
        trained_on: the training split, in which thresholds are found.
        held_out: per index in that, the tasks of the labels that training did not learn from.
        identity: differs where anything differs that answers depend on.
    """

    plan: Plan
    predictor: Predictor
    dataset: DenseDataset
    known: tuple[frozenset[str], ...]
    missing: tuple[frozenset[str], ...]
    trained_on: DenseDataset
    held_out: Mapping[int, frozenset[str]]
    identity: str

    @property
    def wanted(self) -> tuple[str, ...]:
        """The tasks that miss a label somewhere."""
        return tuple(t.name for t in self.dataset.tasks if any(t.name in missing for missing in self.missing))

    @property
    def place(self) -> Place:
        """Where its files lie."""
        return Place(self.plan.out, self.dataset, self.plan.split)

    def complete(self, index: int, limits: Limits) -> dict[str, float]:
        """Write everything about one image, unless it is there; per missing task the share of its pixels that is kept.

        Raises:
            UserError: the image or one of its labels cannot be read.
        """
        name, place, finished = self.dataset.names[index], self.place, Finished(self.plan.out, self.identity)
        content = content_of(self.dataset, index, self.known[index])
        missing = self.missing[index]
        # A predicted label that is gone since its record was rejected, or taken over.
        predicted = place.out / place.split / PREDICTED
        written = [f for f in finished.recorded(name, content) if not f.is_relative_to(predicted)]
        if not written or not all(file.is_file() for file in written):
            finished.forget(name)
            files = [place.given(index, task) for task in (None, *sorted(self.known[index]))]
            found = answers(self.predictor, self.dataset.image(index), missing, self.plan.asked) if missing else {}
            for task, answer in found.items():
                files += place.answer(index, task, answer, limits[task])
            finished.add(name, str(files[0].absolute()), content, files)
        return {task: place.kept(index, task, limits[task]) for task in sorted(missing)}


def _check_thresholds(job: Job, settings: Settings) -> None:
    known = [task.name for task in job.dataset.tasks]
    given = dict(job.plan.asked.thresholds)
    for name in given:
        if name not in known:
            raise UserError(f"--threshold {name}: no such task.{nearest(name, known)} Known: {', '.join(known)}")
    for task in job.dataset.tasks:
        if task.name not in job.wanted:
            continue
        if not task.rightness:
            raise UserError(f"task '{task.name}': kind '{task.kind}' does not say when it is right; give it is_right()")
        if task.name not in given and not any(task.name in tasks for tasks in job.held_out.values()):
            raise UserError(
                f"task '{task.name}': no label was held out of training (--holdout {settings.data.holdout:g}) to find "
                f"a threshold by; train with a larger --holdout, or give one yourself: --threshold {task.name}=0.9"
            )
