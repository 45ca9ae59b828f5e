"""`diffusionmtl evaluate`."""

import json
import math
from pathlib import Path
from typing import Any

from diffusionmtl.build import build_dataset
from diffusionmtl.commands.output import figure, progress_bar, text_table
from diffusionmtl.config import DataSettings
from diffusionmtl.files import write_bytes_atomically
from diffusionmtl.inference.evaluate import evaluate
from diffusionmtl.inference.load import load
from diffusionmtl.runfolder import RunFolder


def evaluate_run(
    run: Path,
    data: DataSettings,
    split: str = "val",
    *,
    samples: int = 1,
    seed: int = 0,
    checkpoint: str = "last",
    device: str = "cpu",
    progress: bool = True,
) -> dict[str, Any]:
    """Score a run on a labelled split.

    Returns:
        The scores as plain data, the form of `metrics.json`; figures that are undefined are None.

    Raises:
        UserError: no run, no data, or no task in common.
    """
    predictor = load(run, device, checkpoint)
    dataset = build_dataset(data, split, progress_bar("drawing rooms") if progress else None)
    shown = progress_bar("evaluating") if progress else None
    scores = evaluate(predictor, dataset, samples=samples, seed=seed, progress=shown)
    return {
        "format": 1,
        "data": list(data.data),
        "split": split,
        "samples": samples,
        "seed": seed,
        "checkpoint": checkpoint,
        "images": scores.images,
        "final": _plain(scores.final),
        "initial": _plain(scores.initial),
    }


def _plain(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    return {
        task: {name: None if math.isnan(value) else value for name, value in figures.items()}
        for task, figures in scores.items()
    }


def save_metrics(run: RunFolder | Path, metrics: dict[str, Any]) -> Path:
    """Write `metrics.json` into a run folder, or the given file."""
    path = run.metrics if isinstance(run, RunFolder) else run
    write_bytes_atomically(path, (json.dumps(metrics, indent=2) + "\n").encode())
    return path


def metrics_table(metrics: dict[str, Any]) -> str:
    """Every figure of every task but those of single classes; the initial prediction beside the final one."""
    rows = []
    for task, figures in metrics["final"].items():
        before = metrics["initial"].get(task, {})
        for name, value in figures.items():
            if "/" not in name:
                rows.append([task, name, _cell(before.get(name)), _cell(value)])
    columns = ["task", "figure", "initial", "final"]
    return text_table(columns, rows)


def _cell(value: float | None) -> str:
    return figure(math.nan if value is None else value)
