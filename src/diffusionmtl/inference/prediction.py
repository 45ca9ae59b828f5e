"""What a user gets back: per task a value in its unit, how sure it is, and a picture."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped, UInt8, UInt16
from PIL import Image
from torch import Tensor

from diffusionmtl import files, notebook
from diffusionmtl.data.members import name_fault
from diffusionmtl.errors import UserError
from diffusionmtl.inference.calibration import calibrated_confidence, stated_probability
from diffusionmtl.inference.sheet import Shown, draw_spread, sheet
from diffusionmtl.metrics.calibration import Scale, Temperature
from diffusionmtl.metrics.precision import levels
from diffusionmtl.tasks import Task

PICTURES, UNCERTAINTY, CONFIDENCE = "pictures", "uncertainty", "confidence"


@dataclass(frozen=True, repr=False)
class TaskPrediction:
    """One task's answer for one image, at the image's own size.

    Attributes:
        task: which task, with its unit (`task.unit`) and the unit of uncertainty (`task.spread_unit`).
        estimate: what the value was decided from: class probabilities, metres, unit vectors.
        uncertainty: how far the noise draws disagree, in `task.spread_unit`; None when only one was drawn.
        initial: the estimate before refinement; None for a network without refinement.
        fitted: what was found on held-out labels; the uncertainty of a kind without probabilities is then the error to
            expect. None: nothing was.
    """

    task: Task
    estimate: Float[Tensor, "a h w"]
    uncertainty: Float[Tensor, "h w"] | None
    initial: Float[Tensor, "a h w"] | None
    fitted: Temperature | Scale | None = None

    @property
    def probability(self) -> Float[Tensor, "k h w"] | None:
        """Calibrated if the run is: of yes (k = 1), or of each class. None for kinds that state no probability."""
        found = stated_probability(self.task, self.estimate[None], self.fitted)
        return None if found is None else found[0]

    @property
    def confidence(self) -> Float[Tensor, "h w"] | None:
        """The calibrated probability of the answer, 0 to 1; None where none is fitted."""
        found = calibrated_confidence(self.task, self.estimate[None], self.fitted)
        return None if found is None else found[0]

    @property
    def value(self) -> Shaped[Tensor, "c h w"]:
        """The answer: class indices, metres, unit normals or probabilities."""
        return self.task.value(self.estimate[None])[0]

    def to_numpy(self) -> np.ndarray:
        """The value as [H W], or [H W 3] for normals."""
        array = self.value.cpu().numpy()
        return array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)

    def draw(self, limits: tuple[float, float] | None = None) -> Image.Image:
        """A picture of the value."""
        return Image.fromarray(self.task.draw(self.value, limits=limits))

    def draw_initial(self, limits: tuple[float, float] | None = None) -> Image.Image | None:
        """A picture of the initial value, if there is one."""
        if self.initial is None:
            return None
        return Image.fromarray(self.task.draw(self.task.value(self.initial[None])[0], limits=limits))

    def draw_uncertainty(self, limit: float | None = None) -> Image.Image | None:
        """A heat map from 0 to `limit` (the 99th percentile if None), if there is an uncertainty."""
        return None if self.uncertainty is None else draw_spread(self.uncertainty, limit)

    def __repr__(self) -> str:
        height, width = self.estimate.shape[-2:]
        spread = "" if self.uncertainty is None else f", uncertainty in {self.task.spread_unit}"
        return f"TaskPrediction({self.task.name}: {self.task.kind}, {height}x{width}, in {self.task.unit}{spread})"

    def _repr_png_(self) -> bytes:
        return notebook.png(self.draw())


@dataclass(frozen=True, repr=False)
class Prediction(Mapping[str, TaskPrediction]):
    """Every task's answer for one image, by task name.

    Attributes:
        image: what was predicted from, RGB in [0, 255].
    """

    image: UInt8[Tensor, "3 h w"]
    tasks: Mapping[str, TaskPrediction]

    def __getitem__(self, task: str) -> TaskPrediction:
        return self.tasks[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def to_numpy(self) -> dict[str, np.ndarray]:
        """Per task the value as [H W], or [H W 3] for normals."""
        return {name: task.to_numpy() for name, task in self.items()}

    def draw(self) -> Image.Image:
        """The image and every task side by side; uncertainties below, where there are some."""
        answers = [Shown(t.task, t.value.cpu(), t.uncertainty, isinstance(t.fitted, Scale)) for t in self.values()]
        return sheet(np.moveaxis(self.image.cpu().numpy(), 0, -1), answers)

    def save(self, folder: Path | str, stem: str) -> list[Path]:
        """Write what was predicted below a folder.

        Values go to `folder/task/stem.*`, uncertainties to `folder/uncertainty/task/stem.npy`, calibrated confidences
        to `folder/confidence/task/stem.png` (16 bits, value / 65,535), and a picture of everything to
        `folder/pictures/stem.png`, the last of the returned paths.

        Args:
            folder: made if it is not there.
            stem: the name of the image without suffix; `a/b` makes subfolders.

        Raises:
            UserError: the stem leads out of the folder, or is no name.
        """
        if fault := name_fault(str(stem)):
            raise UserError(
                f"stem {stem!r} {fault}; give the name of the image without its suffix, e.g. photo or a/photo"
            )
        root = Path(folder)
        written: list[Path] = []
        for name, prediction in self.items():
            written += prediction.task.write(root / name / stem, prediction.value)
            if prediction.uncertainty is not None:
                array = prediction.uncertainty.float().cpu().numpy()
                written.append(files.write_array(root / UNCERTAINTY / name / f"{stem}.npy", array))
            if (sure := prediction.confidence) is not None:
                path = root / CONFIDENCE / name / f"{stem}.png"
                files.write_picture(path, confidence_rows(sure))
                written.append(path)
        files.write_picture(root / PICTURES / f"{stem}.png", np.asarray(self.draw()))
        return [*written, root / PICTURES / f"{stem}.png"]

    def __repr__(self) -> str:
        height, width = self.image.shape[-2:]
        return f"Prediction({height}x{width}: {', '.join(self)})"

    def _repr_png_(self) -> bytes:
        return notebook.png(self.draw())

    def _repr_html_(self) -> str:
        image = Image.fromarray(np.ascontiguousarray(np.moveaxis(self.image.cpu().numpy(), 0, -1)))
        shown = [notebook.figure("image", image)]
        for name, task in self.items():
            spread = task.draw_uncertainty()
            pictures = [task.draw()] if spread is None else [task.draw(), spread]
            shown.append(notebook.figure(f"{name} ({task.task.unit})", *pictures))
        return f"<div>{''.join(shown)}</div>"


def confidence_rows(confidence: Float[Tensor, "h w"]) -> UInt16[np.ndarray, "h w"]:
    """A confidence as a picture of 16 bits."""
    return levels(confidence).cpu().numpy().astype(np.uint16)
