"""What a request asks for and what it gets, before anybody decides whether a page or a program sees it."""

import io
import json
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image
from torch import Tensor

from diffusionmtl.data.description import write_dataset_yaml
from diffusionmtl.files import write_picture
from diffusionmtl.inference.prediction import Prediction, TaskPrediction
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.tasks.base import all_valid

INITIAL, STEPS = "initial", "steps"
# Steps are as large as what the network saw, answers as large as the image: several pictures need not be of one size.
Picture = UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True)
class Asked:
    """How an image is to be answered.

    Attributes:
        samples: noise draws.
        seed: of the noise.
        steps: also what each denoising step of the first draw would have answered.
    """

    samples: int = 4
    seed: int = 0
    steps: bool = False


@dataclass(frozen=True)
class Answer:
    """Everything about one image.

    Attributes:
        name: of the image, fit for a file.
        steps: per denoising step and task the value [c h w], first to last, at the size that the network saw.
        seconds: that it took.
    """

    name: str
    asked: Asked
    prediction: Prediction
    steps: Sequence[Mapping[str, Tensor]]
    seconds: float


def answer(predictor: Predictor, image: Picture, name: str, asked: Asked) -> Answer:
    """Predict."""
    start = time.monotonic()
    tiling = predictor.tiling_for((image.shape[0], image.shape[1]))
    prediction = predictor(image, asked.samples, asked.seed, tiling=tiling)
    steps = predictor.steps(image, asked.seed) if asked.steps else []
    return Answer(name, asked, prediction, steps, time.monotonic() - start)


def stage_pictures(found: TaskPrediction, steps: Sequence[Shaped[Tensor, "c h w"]]) -> Iterator[tuple[str, Picture]]:
    """Names and pictures on the way to the answer, which is the last: all in the colours of the answer."""
    value = found.value
    limits = found.task.limits(value, all_valid(value))
    before = found.draw_initial(limits)
    if before is not None:
        yield INITIAL, np.asarray(before)
    for number, step in enumerate(steps, start=1):
        yield f"step {number}", found.task.draw(step, limits=limits)
    yield "refined" if before is not None else "prediction", np.asarray(found.draw(limits))


def value_file(found: TaskPrediction, folder: Path, stem: str) -> Path:
    """Write a value as `diffusionmtl predict` does; the file that holds all of it."""
    return found.task.write(folder / found.task.name / stem, found.value)[0]


def as_zip(found: Answer, run: str) -> bytes:
    """Every file about an image: values, uncertainties, pictures, stages; `about.json` says what they are."""
    with tempfile.TemporaryDirectory(prefix="diffusionmtl-") as scratch:
        root = Path(scratch)
        found.prediction.save(root, found.name)
        write_dataset_yaml(root, [task.task for task in found.prediction.values()])
        image = np.moveaxis(found.prediction.image.cpu().numpy(), 0, -1)
        write_picture(root / "images" / f"{found.name}.png", image)
        for name, task in found.prediction.items():
            for stage, picture in stage_pictures(task, [step[name] for step in found.steps]):
                write_picture(root / STEPS / name / f"{stage.replace(' ', '-')}.png", picture)
        (root / "about.json").write_text(json.dumps(about(found, run), indent=2) + "\n", encoding="utf-8")
        return _packed(root)


def about(found: Answer, run: str) -> dict[str, object]:
    """Where an answer comes from, and in which units it is."""
    return {
        "run": run,
        "image": found.name,
        **asdict(found.asked),
        "tasks": {
            name: {"kind": task.task.kind, "unit": task.task.unit, "uncertainty_unit": task.task.spread_unit}
            for name, task in found.prediction.items()
        },
    }


def png(picture: Picture | Image.Image) -> bytes:
    """A picture as PNG."""
    stream = io.BytesIO()
    shown = picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))
    shown.save(stream, format="PNG")
    return stream.getvalue()


def _packed(root: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            archive.write(path, path.relative_to(root).as_posix())
    return stream.getvalue()
