"""`diffusionmtl evaluate`."""

import json
import math
from pathlib import Path
from typing import Any

from diffusionmtl.build import build_dataset
from diffusionmtl.commands.output import figure, progress_bar, text_table
from diffusionmtl.config import DataSettings
from diffusionmtl.data.image_list import listed_images
from diffusionmtl.errors import UserError
from diffusionmtl.files import write_bytes_atomically
from diffusionmtl.inference.evaluate import evaluate
from diffusionmtl.inference.load import load
from diffusionmtl.inference.per_image import save_per_image
from diffusionmtl.inference.predictor import Precision
from diffusionmtl.report.log import read_metrics
from diffusionmtl.report.tables import Scores, gain
from diffusionmtl.runfolder import RunFolder

LEGEND = (
    "↑ more is better, in percent; ↓ less is better, in the unit of the labels (depth: metres; relErr: none) "
    "or in degrees (normals).\n"
    "Behind @ stands how a figure is counted, pooled: all pixels of all images together. Every one: "
    "page 'Metrics' of the documentation"
)
_ERRORS = frozenset({"absErr", "relErr", "rmse", "mErr", "medErr"})
_SHARES = frozenset({"mIoU", "IoU", "pixelAcc", "delta1.25", "<11.25", "<22.5", "<30", "maxF", "odsF", "oisF", "AP"})


def evaluate_run(
    run: Path,
    data: DataSettings,
    split: str = "val",
    *,
    samples: int = 1,
    seed: int = 0,
    checkpoint: str = "last",
    device: str = "cpu",
    reference: Path | None = None,
    progress: bool = True,
    per_image: Path | None = None,
    images: Path | None = None,
    jobs: int = 1,
    noise_scale: float = 1.0,
    precision: Precision = "fp32",
) -> dict[str, Any]:
    """Score a run on a labelled split.

    Args:
        run: folder or weights file.
        data: what to score it on.
        split: which split.
        samples: noise draws per image, averaged.
        seed: of the noise.
        checkpoint: which weights, last or best.
        device: where to compute.
        reference: an evaluated run; the gain over its final figures, Δm, is added.
        progress: draw progress bars.
        per_image: file for what each image adds to the headline figures, which confidence intervals need.
        images: file with names of images, one a line: score these alone.
        jobs: processes that match boundaries.
        noise_scale: what every draw of noise is multiplied by.
        precision: of the arithmetic.

    Returns:
        The scores as plain data, the form of `metrics.json`; figures that are undefined are None.

    Raises:
        UserError: no run, no data, no task in common, or a reference that was not evaluated on these images.
    """
    against = None if reference is None else _reference(reference, data, split)
    # A calibration changes no score.
    predictor = load(run, device, checkpoint, precision=precision, noise_scale=noise_scale, calibrated=False)
    dataset = build_dataset(data, split, progress_bar("drawing rooms") if progress else None)
    shown = progress_bar("evaluating") if progress else None
    indices = None if images is None else listed_images(images, dataset)
    scores = evaluate(predictor, dataset, samples=samples, seed=seed, indices=indices, jobs=jobs, progress=shown)
    if per_image is not None:
        save_per_image(per_image, scores.per_image)
    metrics = {
        "format": 1,
        "data": list(data.data),
        "split": split,
        "samples": samples,
        "seed": seed,
        "checkpoint": checkpoint,
        "precision": precision,
        "images": scores.images,
        "final": plain_figures(scores.final),
        "initial": plain_figures(scores.initial),
        "notes": list(dataset.caveats),
    }
    if against is not None:
        tasks = predictor.network.tasks
        parts = {"initial": scores.initial, "final": scores.final}
        metrics["delta_m"] = {"reference": str(reference), **{k: gain(tasks, v, against) for k, v in parts.items()}}
    return metrics


def _reference(run: Path, data: DataSettings, split: str) -> Scores:
    metrics = read_metrics(RunFolder(run))
    if metrics is None:
        raise UserError(f"--reference {run}: has no metrics.json; run 'diffusionmtl evaluate {run}' first")
    if (metrics.data, metrics.split) != (data.data, split):
        raise UserError(
            f"--reference {run}: was evaluated on {' '.join(metrics.data)} ({metrics.split}), not on "
            f"{' '.join(data.data)} ({split}); evaluate it there first"
        )
    return metrics.final


def plain_figures(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """Scores as JSON can hold them: what is undefined is None."""
    return {
        task: {name: None if math.isnan(value) else value for name, value in figures.items()}
        for task, figures in scores.items()
    }


def save_metrics(run: RunFolder | Path, metrics: dict[str, Any]) -> Path:
    """Write `metrics.json` into a run folder, or the given file."""
    path = run.metrics if isinstance(run, RunFolder) else run
    write_bytes_atomically(path, (json.dumps(metrics, indent=2) + "\n").encode())
    return path


def figure_arrow(name: str) -> str:
    """Which way a figure is better, by its name: `↑`, `↓`, or nothing for one that this package does not know."""
    short = name.partition("@")[0]
    return "↓" if short in _ERRORS else "↑" if short in _SHARES else ""


def metrics_table(metrics: dict[str, Any]) -> str:
    """Every figure of every task but those of single classes, and of how many images it is; then how to read it.

    Notes on the data follow. The initial prediction stands beside the final one, where there is one.
    """
    rows = []
    refined = bool(metrics["initial"])
    for task, figures in metrics["final"].items():
        before = metrics["initial"].get(task, {})
        for name, value in figures.items():
            if "/" not in name:
                cells = [_cell(before.get(name)), _cell(value)] if refined else [_cell(value)]
                rows.append([task, f"{name} {figure_arrow(name)}".rstrip(), str(metrics["images"][task]), *cells])
    if "delta_m" in metrics:
        against = metrics["delta_m"]
        cells = [_cell(against[part]) for part in (("initial", "final") if refined else ("final",))]
        rows.append(["Δm", f"% against {against['reference']} ↑", "", *cells])
    columns = ["task", "figure", "images", *(["initial"] if refined else []), "final"]
    return "\n".join([text_table(columns, rows), LEGEND, *(f"note: {note}" for note in metrics.get("notes", []))])


def _cell(value: float | None) -> str:
    return figure(math.nan if value is None else value)
