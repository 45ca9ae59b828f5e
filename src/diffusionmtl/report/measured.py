"""The uncertainties that `diffusionmtl evaluate --uncertainty` measured, read back."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusionmtl.errors import UserError
from diffusionmtl.files import read_json
from diffusionmtl.inference.uncertainty import Reliability, Uncertainty

FILE_NAME = "uncertainty.json"
_LARGEST = 1 << 24


@dataclass(frozen=True)
class Measured:
    """What one file says.

    Attributes:
        tasks: by name.
        data: what it was measured on.
        split: of the data.
        samples: noise draws.
        ensemble: further networks that answered.
        weights: `calibration.digest_of` their file; None where nobody noted it.
    """

    tasks: Mapping[str, Uncertainty]
    data: tuple[str, ...]
    split: str
    samples: int
    ensemble: int
    weights: str | None

    def words(self, found: Uncertainty) -> str:
        """Over what the uncertainty of a task was measured."""
        by = f"an ensemble of {self.ensemble + 1} networks" if self.ensemble else f"{self.samples} noise draws"
        return (
            f"How sure it is: measured by 'evaluate --uncertainty' over {found.images:,} images of "
            f"{', '.join(self.data)}, split '{self.split}', with {by}."
        )


def read_measured(run: Path) -> Measured | None:
    """That of a run folder; None if there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = run / FILE_NAME
    if not path.is_file():
        return None
    try:
        said = read_json(path, _LARGEST)
        return Measured(
            {str(name): _uncertainty(of) for name, of in said["tasks"].items()},
            tuple(map(str, said["data"])),
            str(said["split"]),
            int(said["samples"]),
            len(said["ensemble"]),
            None if said.get("weights") is None else str(said["weights"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{path}: not measured uncertainties ({type(error).__name__}); make it anew with 'diffusionmtl evaluate "
            f"{run} --uncertainty', or delete it"
        ) from None


def _uncertainty(said: Any) -> Uncertainty:
    return Uncertainty(
        images=int(said["images"]),
        pixels=int(said["pixels"]),
        error=_number(said["error"]),
        unit=str(said["unit"]),
        probability=bool(said["probability"]),
        oracle=_numbers(said["oracle"]),
        chance=_number(said["chance"]),
        curves={str(name): _numbers(curve) for name, curve in said["curves"].items()},
        ause={str(name): _number(area) for name, area in said["ause"].items()},
        before=_reliability(said["before"]),
        after=_reliability(said["after"]),
    )


def _reliability(said: Any) -> Reliability | None:
    if said is None:
        return None
    nll = None if said["nll"] is None else float(said["nll"])
    return Reliability(_number(said["error"]), nll, *(_numbers(said[word]) for word in ("share", "stated", "came")))


def _numbers(said: Any) -> tuple[float, ...]:
    return tuple(map(_number, said))


def _number(said: Any) -> float:
    return math.nan if said is None else float(said)
