"""`diffusionmtl evaluate --uncertainty`."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffusionmtl.build import build_dataset
from diffusionmtl.commands.output import figure, progress_bar, text_table
from diffusionmtl.config import DataSettings
from diffusionmtl.data.image_list import listed_images
from diffusionmtl.errors import UserError
from diffusionmtl.files import write_bytes_atomically
from diffusionmtl.inference.calibration import Calibration, digest_of
from diffusionmtl.inference.draws import Ensemble, Source
from diffusionmtl.inference.evaluate import shared_tasks
from diffusionmtl.inference.load import load, weights_file
from diffusionmtl.inference.uncertainty import (
    DOUBTS,
    DRAWS,
    Uncertainty,
    measure_uncertainty,
)
from diffusionmtl.report.reliability import reliability_figure

DEFAULT_SAMPLES = 4
FILE_STEM = "uncertainty"


@dataclass(frozen=True)
class Looked:
    """How uncertainties are looked at.

    Attributes:
        samples: noise draws; an ensemble has one per network.
        seed: of the noise.
        checkpoint: which weights.
        device: where to compute.
        noise_scale: what every draw is multiplied by.
        calibrated: use `calibration.json`.
        ensemble: further runs whose answers are taken for draws.
    """

    samples: int = DEFAULT_SAMPLES
    seed: int = 0
    checkpoint: str = "last"
    device: str = "cpu"
    noise_scale: float = 1.0
    calibrated: bool = True
    ensemble: tuple[Path, ...] = ()


def evaluate_uncertainty(
    run: Path,
    data: DataSettings,
    split: str = "val",
    looked: Looked | None = None,
    images: Path | None = None,
    progress: bool = True,
) -> dict[str, Uncertainty]:
    """Hold a run's uncertainties against its errors on a labelled split.

    Args:
        run: folder or weights file.
        data: what to measure on.
        split: which split.
        looked: how; as its defaults say if None.
        images: file with names of images, one a line: these alone.

    Raises:
        UserError: no run, no data, no task in common, networks that do not go together, or the calibration was found on
            labels of this split.
    """
    looked = looked or Looked()
    source, calibration = _source(run, looked)
    if split == "train" and calibration is not None:
        raise UserError(
            "--split train: holds the labels that calibration.json was found on, so figures would flatter; take "
            "another split or --uncalibrated"
        )
    dataset = build_dataset(data, split, progress_bar("drawing rooms") if progress else None)
    indices = range(len(dataset)) if images is None else listed_images(images, dataset)
    wanted = {index: dataset.counted(index) for index in indices}
    bar = progress_bar("measuring") if progress else None
    tasks = shared_tasks(source.tasks, dataset)
    return measure_uncertainty(source, dataset, tasks, wanted, looked.samples, looked.seed, calibration, bar)


def _source(run: Path, looked: Looked) -> tuple[Source, Calibration | None]:
    alone = not looked.ensemble
    members = [
        load(
            path,
            looked.device,
            looked.checkpoint,
            noise_scale=looked.noise_scale,
            calibrated=looked.calibrated and alone,
        )
        for path in (run, *looked.ensemble)
    ]
    if alone:
        return members[0], members[0].calibration
    return Ensemble(members, [str(path) for path in (run, *looked.ensemble)]), None


def uncertainty_table(found: Mapping[str, Uncertainty], networks: int = 1) -> str:
    """One line per task: mean error, the AUSE of every uncertainty, calibration error before and after."""
    order = [name for name in DOUBTS if any(name in u.ause for u in found.values())]
    words = {DRAWS: f"{networks} networks" if networks > 1 else "draws"}
    after = any(u.after is not None for u in found.values())
    rows = []
    for name, u in found.items():
        areas = [_cell(u.ause.get(word)) for word in order]
        errors = [_cell(None if seen is None else seen.error) for seen in (u.before, u.after)[: 2 if after else 1]]
        rows.append([name, str(u.images), f"{figure(u.error)} {u.unit}", *areas, _cell(u.chance), *errors])
    areas = [f"AUSE {words.get(word, word)}" for word in order]
    errors = ["calibration error", "calibrated"][: 2 if after else 1]
    return text_table(["task", "images", "mean error", *areas, "chance", *errors], rows)


def _cell(value: float | None) -> str:
    return "–" if value is None else figure(value)


def save_uncertainty(
    target: Path, title: str, found: Mapping[str, Uncertainty], about: Mapping[str, Any]
) -> Sequence[Path]:
    """Write everything as JSON to `target`, and the picture beside it as `.svg`."""
    said = {"format": 1, **about, "tasks": {name: _plain(asdict(u)) for name, u in found.items()}}
    write_bytes_atomically(target, (json.dumps(said, indent=2) + "\n").encode())
    picture = target.with_suffix(".svg")
    write_bytes_atomically(picture, reliability_figure(title, found).encode())
    return target, picture


def about_measurement(run: Path, data: DataSettings, split: str, looked: Looked) -> dict[str, Any]:
    """On what, how and with which weights uncertainties are measured, for `save_uncertainty`.

    Raises:
        UserError: there are no such weights.
    """
    on_disk = run.is_dir() or run.suffix == ".safetensors"
    return {
        "data": list(data.data),
        "split": split,
        **asdict(looked),
        "ensemble": [str(path) for path in looked.ensemble],
        "weights": digest_of(weights_file(run, looked.checkpoint)) if on_disk else None,
    }


def _plain(value: Any) -> Any:
    """As JSON can hold it: what is undefined is None."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
