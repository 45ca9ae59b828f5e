"""`diffusionmtl complete`."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from diffusionmtl.commands.complete_on_ray import complete_on_ray
from diffusionmtl.commands.completed_files import SPLIT
from diffusionmtl.commands.completed_review import Reviewed
from diffusionmtl.commands.completing import Job, Limits, Plan
from diffusionmtl.commands.output import (
    check_claimable,
    figure,
    progress_bar,
    task_numbers,
    text_table,
    writable_folder,
)
from diffusionmtl.config import DataSettings
from diffusionmtl.data.completed import CompletedDataset
from diffusionmtl.data.description import FILE_NAME, write_dataset_yaml
from diffusionmtl.data.folder import FolderDataset
from diffusionmtl.errors import UserError
from diffusionmtl.files import read_json, write_bytes_atomically
from diffusionmtl.inference.complete import Asked, Threshold, find_thresholds
from diffusionmtl.scale.pool import Cluster, check_installed

MANIFEST = "completed.json"
SHOWN = 200
_FEW = 10


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
    cluster: Cluster | None = None,
    split: str = SPLIT,
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
        cluster: whose workers complete the images; thresholds are found here.
        split: of the data, in whose place in `out` the files lie. Thresholds are found in `train` whichever it is.

    Returns:
        What `completed.json` holds.

    Raises:
        UserError: no run, other data than its own, no such split, nothing missing, no label to find a threshold by, or
            another `out`.
    """
    if cluster is not None:
        check_installed()
    job = Plan(run, data, out, asked or Asked(), checkpoint, device, calibrated, split).job(progress)
    manifest = _begun(out, job.identity, resume)
    if manifest is None:
        bar = progress_bar("finding thresholds") if progress else None
        found = find_thresholds(job.predictor, job.trained_on, job.held_out, job.wanted, job.plan.asked, bar)
        manifest = _manifest(job, found)
        _save(out, manifest)
    limits = {task: manifest["tasks"][task]["level"] for task in job.wanted}
    bar = progress_bar("completing") if progress else None
    done = _completed(job, limits, bar) if cluster is None else complete_on_ray(job, limits, cluster, bar)
    shares = dict(zip(job.dataset.names, done, strict=True))
    for task in job.wanted:
        kept = [of[task] for of in shares.values() if task in of]
        manifest["tasks"][task] |= {
            "labels": sum(share > 0 for share in kept) if limits[task] is not None else 0,
            "share": sum(kept) / len(kept) if limits[task] is not None else 0.0,
        }
    completed = CompletedDataset(FolderDataset(out, split, job.dataset.tasks, data.max_pixels))
    pages = Reviewed(completed, job.place, shares, limits).write(shown)
    manifest["review"] = [page.name for page in pages]
    _save(out, manifest)
    write_dataset_yaml(out, job.dataset.tasks)
    return manifest


def _completed(job: Job, limits: Limits, progress: Callable[[int, int], None] | None) -> list[dict[str, float]]:
    shares = []
    for index in range(len(job.dataset)):
        shares.append(job.complete(index, limits))
        if progress is not None:
            progress(index + 1, len(job.dataset))
    return shares


def _begun(out: Path, identity: str, resume: bool) -> dict[str, Any] | None:
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
        same = manifest["identity"] == identity
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: damaged; choose another folder for --out") from None
    if not same:
        raise UserError(
            f"--resume: {out} was begun with another run, other labels or other options; choose another folder"
        )
    (out / FILE_NAME).unlink(missing_ok=True)
    return manifest


def _manifest(job: Job, found: Mapping[str, Threshold]) -> dict[str, Any]:
    by_name = {task.name: task for task in job.dataset.tasks}
    return {
        "format": 1,
        "run": str(job.plan.run),
        "split": job.plan.split,
        "identity": job.identity,
        **asdict(job.plan.asked),
        "thresholds": dict(job.plan.asked.thresholds),
        "calibrated": job.predictor.calibration is not None,
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


def completed_table(manifest: Mapping[str, Any]) -> str:
    """Per task the threshold, the precision on held-out labels, what to count on, and what was written or was not."""
    rows, notes, asked = [], [], f"{100 * manifest['precision']:g}"
    for task, said in manifest["tasks"].items():
        share = figure(100 * said["share"])
        numbers = [said.get(key) for key in ("threshold", "held_out_precision", "at_least", "checked")]
        shown = ("–" if x is None else f"{x:.3f}" for x in numbers)
        rows.append([task, *shown, str(said["images"]), share, str(said["labels"])])
        if task not in manifest["thresholds"] and said["level"] is not None and said["images"] < _FEW:
            notes.append(
                f"warning: {task}: its threshold rests on {said['images']} held-out label(s), which cannot show every "
                f"kind of image; {asked} of 100 is no promise for others. Look at the pages, or train with a larger "
                "--holdout"
            )
        yes = said["yes"]
        if yes is not None and yes < manifest["precision"]:
            notes.append(
                f"warning: {task}: of the pixels that it keeps as yes, {100 * yes:.1f} of 100 are right; no and yes "
                "together are right more often because nearly all are no"
            )
        if said["level"] is None and said.get("estimate") is not None:
            notes.append(
                f"warning: {task}: {said['images']} held-out label(s) are too few, or too unlike, to promise that "
                f"{asked} of 100 pixels are right on other images; no label of it was written. Train with a larger "
                "--holdout or ask for a lower --precision; "
                f"--threshold {task}={_printed(said['estimate'])} keeps what was right so often on these alone"
            )
        elif said["level"] is None:
            notes.append(
                f"note: {task}: not even the surest pixels of {said['images']} held-out labels are right "
                f"({said['right']}) in {asked} of 100; no label of it was written"
            )
    columns = ["task", "threshold", "precision", "at least", "checked", "held-out labels", "% kept", "labels written"]
    return "\n".join([text_table(columns, rows), *notes])


def _printed(threshold: float) -> str:
    """Rounded down, by less than a level of confidence, so that it keeps what the threshold does."""
    return f"{int(threshold * 1e5) / 1e5:.5f}".rstrip("0").rstrip(".")


def parse_thresholds(given: Iterable[str]) -> tuple[tuple[str, float], ...]:
    """`TASK=CONFIDENCE` words.

    Raises:
        UserError: a word that is none, or no confidence.
    """
    return task_numbers(
        "--threshold", given, lambda x: 0 <= x <= 1, "TASK=CONFIDENCE, from 0 to 1, depth=0.9 for instance"
    )
