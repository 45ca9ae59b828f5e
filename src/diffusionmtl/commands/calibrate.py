"""`diffusionmtl evaluate --calibrate`."""

from pathlib import Path
from typing import Any

from diffusionmtl.build import build_training_set
from diffusionmtl.commands.held_out import held_out_labels
from diffusionmtl.commands.output import figure, progress_bar, text_table
from diffusionmtl.config import DataSettings
from diffusionmtl.errors import UserError
from diffusionmtl.inference.calibration import Calibration, digest_of, save_calibration
from diffusionmtl.inference.evaluate import shared_tasks
from diffusionmtl.inference.fitting import Fit, fit_calibration
from diffusionmtl.inference.load import load, settings_of_run, weights_file
from diffusionmtl.metrics.calibration import Temperature
from diffusionmtl.runfolder import RunFolder

DEFAULT_SAMPLES = 4


def calibrate_run(
    run: Path,
    data: DataSettings,
    *,
    samples: int = DEFAULT_SAMPLES,
    seed: int = 0,
    checkpoint: str = "last",
    device: str = "cpu",
    noise_scale: float = 1.0,
    progress: bool = True,
) -> tuple[Path, dict[str, Fit]]:
    """Find what makes a run's probabilities and spreads come true, and write it into the run folder.

    Only labels of people are read that the run might see and held out of training. Nothing that is scored is touched.

    Args:
        run: the folder of a finished run.
        data: its data.
        samples: noise draws; the spread of another number of draws is another.
        seed: of noise and of the choice of pixels.
        noise_scale: what every draw is multiplied by.

    Returns:
        `calibration.json` and what was found per task.

    Raises:
        UserError: no run folder, other data than its own, or no label was held out.
    """
    weights = weights_file(run, checkpoint)
    folder = RunFolder(run)
    if not run.is_dir() or not folder.partition.is_file():
        raise UserError(f"{run}: no {folder.partition.name}, so nobody knows what was held out; give a run folder")
    settings = settings_of_run(weights)
    predictor = load(run, device, checkpoint, noise_scale=noise_scale, calibrated=False)
    dataset = build_training_set(data, progress_bar("drawing rooms") if progress else None)
    tasks = shared_tasks(predictor.tasks, dataset)
    held_out = held_out_labels(folder, dataset, settings)
    if not any(seen & tasks.keys() for seen in held_out.values()):
        raise UserError(
            f"{run}: held no label out of training (--holdout {settings.data.holdout:g}), and those that it learnt "
            "from would make it look too sure; train with --holdout 0.1 to calibrate"
        )
    bar = progress_bar("calibrating") if progress else None
    found = fit_calibration(predictor, dataset, tasks, held_out, samples, seed, bar)
    calibration = Calibration(
        digest_of(weights), samples, noise_scale, {name: fit.fitted for name, fit in found.items()}
    )
    return save_calibration(run, calibration, {name: _figures(fit) for name, fit in found.items()}), found


def _figures(fit: Fit) -> dict[str, Any]:
    return {
        "images": fit.images,
        "pixels": fit.pixels,
        "before": dict(fit.before),
        "after": dict(fit.after),
        "after_on_labels_not_fitted": fit.checked,
    }


def calibration_table(found: dict[str, Fit]) -> str:
    """Per task what was found, from how many held-out labels, and the figures before and after."""
    rows = []
    for name, fit in found.items():
        said = ", ".join(f"{word} {value:.4g}" for word, value in fit.fitted._asdict().items())
        errors = [figure(figures["calibration_error"]) for figures in (fit.before, fit.after)]
        nll = [figure(figures["nll"]) if "nll" in figures else "–" for figures in (fit.before, fit.after)]
        rows.append([name, said, str(fit.images), *errors, *nll])
    columns = ["task", "found", "labels", "calibration error", "after", "NLL", "after"]
    notes = [
        f"note: {name}: one held-out label alone; what stands under 'after' is of the label that was fitted"
        for name, fit in found.items()
        if not fit.checked
    ]
    notes += [
        f"note: {name}: of {fit.images} held-out labels; with so few a calibration is rough"
        for name, fit in found.items()
        if 1 < fit.images < 5 and isinstance(fit.fitted, Temperature)
    ]
    return "\n".join([text_table(columns, rows), *notes])
