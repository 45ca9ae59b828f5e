"""`diffusionmtl demo`: the embedded data set end to end."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusionmtl.build import restore_run
from diffusionmtl.commands.cell import finished
from diffusionmtl.commands.evaluate import evaluate_run, save_metrics
from diffusionmtl.commands.output import figure, text_table, writable_folder
from diffusionmtl.commands.report import compare_report
from diffusionmtl.commands.train import train
from diffusionmtl.config import Settings, changed
from diffusionmtl.errors import UserError
from diffusionmtl.metrics.functional import delta_m
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.runfolder import RunFolder
from diffusionmtl.tasks import Task

BASELINE, REFINED = "multitask", "feature"
LABELS = {BASELINE: "multi-task baseline", REFINED: "DiffusionMTL"}
SEED = 0
ROOMS_SEED = 1


def demo_settings(fast: bool) -> Settings:
    """Small enough for two cores: ten minutes, or two with `fast`.

    A few hundred steps from random weights are too few for the published zoom and colour changes to pay, so pictures
    are only mirrored; that was found on other rooms than those that the demo draws. Self-training is left out to save
    time.
    """
    return changed(
        Settings(),
        size=(64, 96),
        rooms=120 if fast else 1000,
        rooms_val=24 if fast else 100,
        rooms_seed=ROOMS_SEED,
        labels="one",
        scale=(1.0, 1.0),
        photometric=False,
        backbone="resnet10t",
        width=48,
        epochs=4 if fast else 10,
        batch=12,
        lr=3e-3,
        holdout=0.05,
        self_training="never",
        seed=SEED,
    )


def demo(out: Path, fast: bool = False) -> tuple[str, Path]:
    """Train the multi-task baseline and Feature Diffusion on rooms with one label each, and compare them.

    What an earlier call has finished is reused; what it has begun is continued.

    Returns:
        The table of every task for both, with Δm, and the path of the report page.

    Raises:
        UserError: the folder cannot be written to.
        Stopped: interrupted; the same call goes on.
    """
    writable_folder(out)
    runs = {method: RunFolder(out / method) for method in (BASELINE, REFINED)}
    facts: dict[str, str] = {}
    for method, run in runs.items():
        began = time.monotonic()
        if _trained(run, changed(demo_settings(fast), method=method)):
            facts[f"Training time, {LABELS[method]}"] = f"{time.monotonic() - began:.0f} s"
    metrics = {method: _evaluated(run, 1 if method == BASELINE else 4) for method, run in runs.items()}
    tasks = restore_run(read_yaml(runs[REFINED].config), str(runs[REFINED].config))[1]
    page = compare_report(
        {LABELS[method]: run.root for method, run in runs.items()},
        out / "report.html",
        title="One label per image: what refinement adds",
        command="diffusionmtl demo" + (" --fast" if fast else ""),
        facts=facts,
    )
    return comparison_table(tasks, metrics), page


def _trained(run: RunFolder, settings: Settings) -> bool:
    """Train a run to its end; whether the whole training happened now."""
    if not run.config.is_file():
        print(f"training {settings.network.method} in {run.root}")
        train(settings, run.root)
        return True
    before = restore_run(read_yaml(run.config), str(run.config))[0]
    if before != settings:
        raise UserError(f"--out {run.root}: holds a run with other settings; choose another folder or remove it")
    if finished(run, settings):
        print(f"{run.root}: trained already")
    else:
        print(f"continuing {run.root}")
        train(settings, run.root, resume=True)
    return False


def _evaluated(run: RunFolder, samples: int) -> dict[str, Any]:
    if run.metrics.is_file() and run.metrics.stat().st_mtime >= (run.checkpoints / "last.safetensors").stat().st_mtime:
        return json.loads(run.metrics.read_text(encoding="utf-8"))
    settings = restore_run(read_yaml(run.config), str(run.config))[0]
    metrics = evaluate_run(run.root, settings.data, "val", samples=samples)
    save_metrics(run, metrics)
    return metrics


def comparison_table(tasks: tuple[Task, ...], metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Each task's headline figure for the baseline, the initial and the refined prediction, and Δm of the last."""
    rows = []
    columns: dict[str, dict[str, float]] = {"baseline": {}, "initial": {}, "refined": {}}
    for task in tasks:
        cells = {
            "baseline": metrics[BASELINE]["final"][task.name][task.headline],
            "initial": metrics[REFINED]["initial"][task.name][task.headline],
            "refined": metrics[REFINED]["final"][task.name][task.headline],
        }
        for name, value in cells.items():
            columns[name][task.name] = float("nan") if value is None else value
        arrow = "higher is better" if task.higher_is_better else "lower is better"
        rows.append([task.name, task.headline, *(figure(columns[name][task.name]) for name in columns), arrow])
    gain = _gains(tasks, columns)
    rows.append(["Δm against the baseline", "%", "–", gain["initial"], gain["refined"], ""])
    return text_table(
        ["task", "figure", "multi-task baseline", "DiffusionMTL, initial", "DiffusionMTL, refined", ""], rows
    )


def _gains(tasks: Sequence[Task], columns: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Δm per column; says over how many tasks where some have no relative gain: undefined, or the baseline is 0."""
    counted = [
        task
        for task in tasks
        if columns["baseline"][task.name] != 0 and all(math.isfinite(values[task.name]) for values in columns.values())
    ]
    if not counted:
        return dict.fromkeys(columns, "–")
    better = {task.name: task.higher_is_better for task in counted}
    chosen = {name: {task: values[task] for task in better} for name, values in columns.items()}
    note = "" if len(counted) == len(tasks) else f" ({len(counted)} of {len(tasks)} tasks)"
    return {name: f"{delta_m(values, chosen['baseline'], better):+.2f}{note}" for name, values in chosen.items()}
