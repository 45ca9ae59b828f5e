"""What was found on held-out labels about how far a network's probabilities and spreads may be trusted.

A calibration changes no answer: the estimates, their values and every score stay as they are. It changes what is said
of them: the probabilities, and the spread, which becomes the error that is to be expected.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusionmtl.errors import UserError
from diffusionmtl.files import read_json, write_bytes_atomically
from diffusionmtl.metrics.calibration import Scale, Temperature, entropy, probabilities
from diffusionmtl.tasks import Task

FILE_NAME = "calibration.json"
MAX_BYTES = 10_000_000
AS_STATED = Temperature(1.0, 0.0)
AS_SPREAD = Scale(1.0, 0.0)


@dataclass(frozen=True)
class Calibration:
    """Of one set of weights.

    Attributes:
        weights: `digest_of` the file.
        samples: noise draws that the spreads were taken over.
        noise_scale: of these draws.
        tasks: by name; a task without held-out labels is missing.
    """

    weights: str
    samples: int
    noise_scale: float
    tasks: Mapping[str, Temperature | Scale]

    def without_spreads(self) -> "Calibration":
        """What holds of draws that a mirror image joins too: their spread is another than the one that was fitted."""
        return replace(self, tasks={name: of for name, of in self.tasks.items() if isinstance(of, Temperature)})

    def probability(self, task: Task, estimate: Float[Tensor, "n a h w"]) -> Float[Tensor, "n k h w"] | None:
        """The probability of yes (k = 1) or of each class; None for a kind that states none."""
        return stated_probability(task, estimate, self.tasks.get(task.name))

    def expected_error(
        self,
        task: Task,
        estimate: Float[Tensor, "n a h w"],
        spread: Float[Tensor, "n h w"],
        classes: Float[Tensor, "n h w"] | None,
    ) -> Float[Tensor, "n h w"]:
        """The error to expect of an answer; the spread itself for a kind that states probabilities.

        Args:
            spread: of the draws.
            classes: `class_entropy` of the same places.
        """
        fitted = self.tasks.get(task.name)
        if not isinstance(fitted, Scale):
            return spread
        return fitted.expected(spread, classes, task.extent(estimate))


def class_entropy(estimates: Iterable[tuple[Task, Float[Tensor, "n _ h w"]]]) -> Float[Tensor, "n h w"] | None:
    """How unsure a network is of what things are: the entropy of its classes, 0 to 1; None if it tells no classes.

    Where it does not know what it sees, its answers to other questions are worse too. Of several segmentation tasks
    the mean.
    """
    odds = [task.log_odds(estimate) for task, estimate in estimates]
    found = [entropy(of) for of in odds if of is not None and of.shape[1] > 1]
    return torch.stack(found).mean(dim=0) if found else None


def stated_probability(
    task: Task, estimate: Float[Tensor, "n a h w"], fitted: Temperature | Scale | None
) -> Float[Tensor, "n k h w"] | None:
    """`Calibration.probability`, as the network states it if nothing is fitted."""
    odds = task.log_odds(estimate)
    return None if odds is None else probabilities(odds, fitted if isinstance(fitted, Temperature) else AS_STATED)


def calibrated_confidence(
    task: Task, estimate: Float[Tensor, "n a h w"], fitted: Temperature | Scale | None
) -> Float[Tensor, "n h w"] | None:
    """How probable the answer is; None where no probability is fitted.

    The answer stays what it is: a fitted shift may make it less probable than its opposite.
    """
    odds = task.log_odds(estimate)
    if odds is None or not isinstance(fitted, Temperature):
        return None
    stated = probabilities(odds, fitted)
    if stated.shape[1] > 1:
        return stated.amax(dim=1)
    return torch.where(odds >= 0, stated, 1 - stated)[:, 0]


def digest_of(weights: Path) -> str:
    """What tells a weights file from another.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with weights.open("rb") as stream:
            return file_digest(stream, lambda: blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise UserError(f"{weights}: cannot be read ({error.strerror or error})") from None


def save_calibration(run: Path, calibration: Calibration, figures: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write `calibration.json` into a run folder; `figures` are what else is to be said of each task."""
    said = {
        "format": 1,
        "weights": calibration.weights,
        "samples": calibration.samples,
        "noise_scale": calibration.noise_scale,
        "tasks": {name: {**fitted._asdict(), **figures.get(name, {})} for name, fitted in calibration.tasks.items()},
    }
    write_bytes_atomically(run / FILE_NAME, (json.dumps(said, indent=2) + "\n").encode())
    return run / FILE_NAME


def read_calibration(run: Path) -> Calibration | None:
    """That of a run folder; None if there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = run / FILE_NAME
    if not path.is_file():
        return None
    try:
        said = read_json(path, MAX_BYTES)
        tasks = {str(name): _fitted(task) for name, task in said["tasks"].items()}
        return Calibration(str(said["weights"]), int(said["samples"]), float(said["noise_scale"]), tasks)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{path}: not a calibration ({type(error).__name__}); make it anew with 'diffusionmtl evaluate {run} "
            "--calibrate', or delete it"
        ) from None


def _fitted(said: Mapping[str, Any]) -> Temperature | Scale:
    kind, positive = (Temperature, "temperature") if "temperature" in said else (Scale, "")
    # Those of earlier versions have fewer.
    numbers = {word: float(said.get(word, kind._field_defaults.get(word))) for word in kind._fields}
    if not all(map(math.isfinite, numbers.values())) or (positive and numbers[positive] <= 0):
        raise ValueError(numbers)
    if kind is Scale and min(numbers.values()) < 0:
        raise ValueError(numbers)
    return kind(**numbers)


def calibration_for(run: Path, weights: Path, noise_scale: float) -> Calibration | None:
    """That of a run folder, if it has one, after seeing that it fits.

    Raises:
        UserError: it is damaged, of other weights or of noise of another strength.
    """
    found = read_calibration(run)
    if found is None:
        return None
    again = f"calibrate again (diffusionmtl evaluate {run} --calibrate), leave it out with --uncalibrated, or delete it"
    if found.weights != digest_of(weights):
        raise UserError(f"{run / FILE_NAME}: was made for other weights than {weights.name}; {again}")
    if found.noise_scale != noise_scale:
        raise UserError(
            f"{run / FILE_NAME}: was made with --noise-scale {found.noise_scale:g}, not {noise_scale:g}; {again}"
        )
    return found
