"""`diffusionmtl complete`."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffusionmtl.build import build_training_set
from diffusionmtl.commands.completed_files import SPLIT, Place, content_of
from diffusionmtl.commands.completed_review import Reviewed
from diffusionmtl.commands.finished import Finished, digest
from diffusionmtl.commands.held_out import held_out_labels
from diffusionmtl.commands.output import (
    check_claimable,
    figure,
    progress_bar,
    task_numbers,
    text_table,
    writable_folder,
)
from diffusionmtl.config import DataSettings, Settings
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.completed import CompletedDataset
from diffusionmtl.data.description import FILE_NAME, write_dataset_yaml
from diffusionmtl.data.folder import PREDICTED, FolderDataset
from diffusionmtl.data.partition import Partition, by_people
from diffusionmtl.errors import UserError, nearest
from diffusionmtl.files import read_json, write_bytes_atomically
from diffusionmtl.inference.complete import Asked, Threshold, answers, find_thresholds
from diffusionmtl.inference.load import load, settings_of_run, weights_file
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.runfolder import RunFolder

MANIFEST = "completed.json"
SHOWN = 200


@dataclass(frozen=True)
class _Plan:
    """What is to be completed.

    Attributes:
        dataset: the training split of the run's data.
        known: per image, in order, the tasks whose label of a person the run may see.
        missing: likewise the tasks without one.
        held_out: per index, the tasks of the labels that training did not learn from.
        identity: differs where anything differs that answers depend on.
    """

    predictor: Predictor
    dataset: DenseDataset
    known: tuple[frozenset[str], ...]
    missing: tuple[frozenset[str], ...]
    held_out: Mapping[int, frozenset[str]]
    asked: Asked
    identity: str

    @property
    def wanted(self) -> tuple[str, ...]:
        """The tasks that miss a label somewhere."""
        return tuple(t.name for t in self.dataset.tasks if any(t.name in missing for missing in self.missing))


def complete(
    run: Path,
    data: DataSettings,
    out: Path,
    asked: Asked | None = None,
    *,
    checkpoint: str = "last",
    device: str = "cpu",
    calibrated: bool = True,
    resume: bool = False,
    progress: bool = True,
    shown: int = SHOWN,
) -> dict[str, Any]:
    """Write the labels that a run missed as a data set, beside those that it had.

    `out/train/images` and `out/train/TASK` are the images and the labels of people, second names of the same files
    where the disk can; `out/train/predicted/TASK` what was predicted, unknown where it is not sure enough;
    `out/confidence/TASK` how sure it is everywhere, as 16-bit PNG; `out/completed.json` thresholds and precision; and
    `out/review.html` the most doubtful images. `dataset.yaml` is written last: what has one is complete.

    Args:
        run: the folder of a finished run.
        data: its data.
        out: a new folder, or one to go on with.
        calibrated: use the run's `calibration.json`, if there is one.
        resume: go on in `out`; what is there already stays, and a predicted label that somebody took away stays away.
        shown: how many images the review shows, the most doubtful first.

    Returns:
        What `completed.json` holds.

    Raises:
        UserError: no run, other data than its own, nothing missing, no label to find a threshold by, or another `out`.
    """
    plan = _plan(run, data, asked or Asked(), checkpoint, device, calibrated, progress)
    finished = Finished(out, plan.identity)
    manifest = _begun(out, plan, resume)
    if manifest is None:
        bar = progress_bar("finding thresholds") if progress else None
        manifest = _manifest(run, plan, _thresholds(plan, bar))
        _save(out, manifest)
    limits = {task: manifest["tasks"][task]["level"] for task in plan.wanted}
    bar = progress_bar("completing") if progress else None
    shares: dict[str, dict[str, float]] = {}
    for index, name in enumerate(plan.dataset.names):
        shares[name] = _image(plan, Place(out, plan.dataset), finished, index, limits)
        if bar is not None:
            bar(index + 1, len(plan.dataset))
    for task in plan.wanted:
        kept = [of[task] for of in shares.values() if task in of]
        manifest["tasks"][task] |= {
            "labels": sum(share > 0 for share in kept) if limits[task] is not None else 0,
            "share": sum(kept) / len(kept) if limits[task] is not None else 0.0,
        }
    completed = CompletedDataset(FolderDataset(out, SPLIT, plan.dataset.tasks, data.max_pixels))
    pages = Reviewed(completed, Place(out, plan.dataset), shares, limits).write(shown)
    manifest["review"] = [page.name for page in pages]
    _save(out, manifest)
    write_dataset_yaml(out, plan.dataset.tasks)
    return manifest


def _plan(
    run: Path, data: DataSettings, asked: Asked, checkpoint: str, device: str, calibrated: bool, progress: bool
) -> _Plan:
    weights = weights_file(run, checkpoint)
    folder = RunFolder(run)
    if not folder.partition.is_file():
        raise UserError(f"{run}: no {folder.partition.name}, so nobody knows which labels it saw; give a run folder")
    settings = settings_of_run(weights)
    predictor = load(run, device, checkpoint, calibrated=calibrated)
    dataset = build_training_set(data, progress_bar("drawing rooms") if progress else None)
    if dataset.tasks != predictor.tasks:
        raise UserError(
            f"--data {' '.join(data.data)}: its tasks are not those of {run}; give the data that the run was trained on"
        )
    people = by_people(Partition.load(folder.partition, dataset), dataset)
    everything = frozenset(task.name for task in dataset.tasks)
    known = tuple(people.visible[name] for name in dataset.names)
    if all(seen == everything for seen in known):
        raise UserError(
            f"--data {' '.join(data.data)}: {run} saw a label of every task for every image; none is missing"
        )
    held_out = held_out_labels(folder, dataset, settings)
    state = [people.digest(), sorted(held_out), predictor.calibration, *(task.settings() for task in dataset.tasks)]
    plan = _Plan(
        predictor=predictor,
        dataset=dataset,
        known=known,
        missing=tuple(everything - seen for seen in known),
        held_out=held_out,
        asked=asked,
        identity=digest(weights, asked, *state),
    )
    _check_thresholds(plan, settings)
    return plan


def _check_thresholds(plan: _Plan, settings: Settings) -> None:
    known = [task.name for task in plan.dataset.tasks]
    given = dict(plan.asked.thresholds)
    for name in given:
        if name not in known:
            raise UserError(f"--threshold {name}: no such task.{nearest(name, known)} Known: {', '.join(known)}")
    for task in plan.dataset.tasks:
        if task.name not in plan.wanted:
            continue
        if not task.rightness:
            raise UserError(f"task '{task.name}': kind '{task.kind}' does not say when it is right; give it is_right()")
        if task.name not in given and not any(task.name in tasks for tasks in plan.held_out.values()):
            raise UserError(
                f"task '{task.name}': no label was held out of training (--holdout {settings.data.holdout:g}) to find "
                f"a threshold by; train with a larger --holdout, or give one yourself: --threshold {task.name}=0.9"
            )


def _begun(out: Path, plan: _Plan, resume: bool) -> dict[str, Any] | None:
    """What an earlier call wrote into the folder, if this one goes on with it."""
    path = out / MANIFEST
    if not path.is_file():
        check_claimable(out, "the completed data set")
        writable_folder(out)
        return None
    if not resume:
        raise UserError(
            f"--out {out}: holds a completed data set already; go on with --resume or choose another folder"
        )
    try:
        manifest = read_json(path)
        same = manifest["identity"] == plan.identity
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: damaged; choose another folder for --out") from None
    if not same:
        raise UserError(
            f"--resume: {out} was begun with another run, other labels or other options; choose another folder"
        )
    (out / FILE_NAME).unlink(missing_ok=True)
    return manifest


def _thresholds(plan: _Plan, progress: Any) -> dict[str, Threshold]:
    return find_thresholds(plan.predictor, plan.dataset, plan.held_out, plan.wanted, plan.asked, progress)


def _manifest(run: Path, plan: _Plan, found: Mapping[str, Threshold]) -> dict[str, Any]:
    by_name = {task.name: task for task in plan.dataset.tasks}
    return {
        "format": 1,
        "run": str(run),
        "identity": plan.identity,
        **asdict(plan.asked),
        "thresholds": dict(plan.asked.thresholds),
        "calibrated": plan.predictor.calibration is not None,
        "tasks": {
            name: {
                "kind": by_name[name].kind,
                "right": by_name[name].rightness,
                "threshold": threshold.confidence,
                **{key: value for key, value in asdict(threshold).items() if key not in ("share", "precision")},
                "held_out_precision": threshold.precision,
                "held_out_share": threshold.share,
            }
            for name, threshold in found.items()
        },
    }


def _save(out: Path, manifest: Mapping[str, Any]) -> None:
    write_bytes_atomically(out / MANIFEST, (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())


def _image(
    plan: _Plan, place: Place, finished: Finished, index: int, limits: Mapping[str, int | None]
) -> dict[str, float]:
    """Write everything about one image; per missing task the share of its pixels that is kept."""
    name = plan.dataset.names[index]
    content = content_of(plan.dataset, index, plan.known[index])
    missing = plan.missing[index]
    # A predicted label that is gone since its record was rejected, or taken over.
    written = [f for f in finished.recorded(name, content) if not f.is_relative_to(place.out / SPLIT / PREDICTED)]
    if not written or not all(file.is_file() for file in written):
        finished.forget(name)
        files = [place.given(index, task) for task in (None, *sorted(plan.known[index]))]
        found = answers(plan.predictor, plan.dataset.image(index), missing, plan.asked) if missing else {}
        for task, answer in found.items():
            files += place.answer(index, task, answer, limits[task])
        finished.add(name, str(files[0].absolute()), content, files)
    return {task: place.kept(index, task, limits[task]) for task in sorted(missing)}


def completed_table(manifest: Mapping[str, Any]) -> str:
    """Per task the threshold, the precision on held-out labels and what was written; then what was not."""
    rows, notes = [], []
    for task, said in manifest["tasks"].items():
        share = figure(100 * said["share"])
        numbers = [said[key] for key in ("threshold", "held_out_precision", "checked")]
        shown = ("–" if x is None else f"{x:.3f}" for x in numbers)
        rows.append([task, *shown, str(said["images"]), share, str(said["labels"])])
        if said["level"] is None:
            notes.append(
                f"note: {task}: not even the surest pixels of {said['images']} held-out labels are right "
                f"({said['right']}) in {100 * manifest['precision']:g} of 100; no label of it was written"
            )
    columns = ["task", "threshold", "precision", "checked", "held-out labels", "% kept", "labels written"]
    return "\n".join([text_table(columns, rows), *notes])


def parse_thresholds(given: Iterable[str]) -> tuple[tuple[str, float], ...]:
    """`TASK=CONFIDENCE` words.

    Raises:
        UserError: a word that is none, or no confidence.
    """
    return task_numbers(
        "--threshold", given, lambda x: 0 <= x <= 1, "TASK=CONFIDENCE, from 0 to 1, depth=0.9 for instance"
    )
