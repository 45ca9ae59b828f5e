"""What a user gets back: per task a value in its unit, how sure it is, and a picture."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image
from torch import Tensor

from diffusionmtl import colour, files
from diffusionmtl.tasks import Task

PICTURES = "pictures"


@dataclass(frozen=True)
class TaskPrediction:
    """One task's answer for one image, at the image's own size.

    Attributes:
        task: which task, with its unit (`task.unit`) and the unit of uncertainty (`task.spread_unit`).
        estimate: what the value was decided from: class probabilities, metres, unit vectors.
        uncertainty: how far the noise draws disagree, in `task.spread_unit`; None when only one was drawn.
        initial: the estimate before refinement; None for a network without refinement.
    """

    task: Task
    estimate: Float[Tensor, "a h w"]
    uncertainty: Float[Tensor, "h w"] | None
    initial: Float[Tensor, "a h w"] | None

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
        if self.uncertainty is None:
            return None
        spread = self.uncertainty.float().cpu().numpy()
        top = limit if limit is not None else float(np.percentile(spread, 99))
        return Image.fromarray(colour.ramp(spread, 0.0, top, "heat"))

    def _repr_png_(self) -> bytes:
        stream = BytesIO()
        self.draw().save(stream, format="PNG")
        return stream.getvalue()


@dataclass(frozen=True)
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

    def draw(self) -> Image.Image:
        """The image and every task side by side; uncertainties below, where there are some."""
        pictures = [[Image.fromarray(np.moveaxis(self.image.cpu().numpy(), 0, -1)), None]]
        pictures += [[task.draw(), task.draw_uncertainty()] for task in self.values()]
        width, height = pictures[0][0].size
        rows = 2 if any(below is not None for _, below in pictures) else 1
        sheet = Image.new("RGB", (width * len(pictures), height * rows), "white")
        for column, pair in enumerate(pictures):
            for row, picture in enumerate(pair):
                if picture is not None:
                    sheet.paste(picture, (column * width, row * height))
        return sheet

    def save(self, folder: Path | str, stem: str) -> list[Path]:
        """Write what was predicted below a folder.

        Values go to `folder/task/stem.*`, uncertainties to `folder/uncertainty/task/stem.npy`, and a picture of
        everything to `folder/pictures/stem.png`, the last of the returned paths.
        """
        root = Path(folder)
        written: list[Path] = []
        for name, prediction in self.items():
            written += prediction.task.write(root / name / stem, prediction.value)
            if prediction.uncertainty is not None:
                array = prediction.uncertainty.float().cpu().numpy()
                written.append(files.write_array(root / "uncertainty" / name / f"{stem}.npy", array))
        files.write_picture(root / PICTURES / f"{stem}.png", np.asarray(self.draw()))
        return [*written, root / PICTURES / f"{stem}.png"]

    def _repr_png_(self) -> bytes:
        stream = BytesIO()
        self.draw().save(stream, format="PNG")
        return stream.getvalue()
