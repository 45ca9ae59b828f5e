"""One picture of an answer: the image, what every task says of it, and below how unsure it is, each with its name."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffusionmtl import colour
from diffusionmtl.data.sheet import cut
from diffusionmtl.tasks import Task
from diffusionmtl.tasks.base import all_valid

# A name needs so much room; smaller pictures are enlarged.
_NARROWEST = 160
_LETTERS_PER_WIDTH = 26
_SMALLEST, _LARGEST = 12, 30
_CLASSES = 12
_INK, _PAPER = (40, 40, 40), (255, 255, 255)


class Shown(NamedTuple):
    """What a task says of an image.

    Attributes:
        value: in the task's unit [C H W].
        spread: how far draws disagree, or with `expected` the error to expect [H W]; None if that is not known.
    """

    task: Task
    value: Tensor
    spread: Tensor | None
    expected: bool = False


def sheet(image: UInt8[np.ndarray, "h w 3"], answers: Sequence[Shown]) -> Image.Image:
    """The image and every answer side by side, uncertainties below; under the image the classes that occur."""
    times = max(1, -(-_NARROWEST // image.shape[1]))
    width, height = image.shape[1] * times, image.shape[0] * times
    size = min(max(width // _LETTERS_PER_WIDTH, _SMALLEST), _LARGEST)
    font, line = ImageFont.load_default(size), size + size // 2
    rows = 2 if any(answer.spread is not None for answer in answers) else 1
    classes = _classes(answers, max(_CLASSES, (rows - 1) * (height + line) // line))
    below = max((rows - 1) * (height + line), len(classes) * line)
    whole = Image.new("RGB", (width * (1 + len(answers)), height + line + below), _PAPER)
    pen = ImageDraw.Draw(whole)

    def put(picture: Image.Image, words: str, column: int, row: int) -> None:
        left, top = column * width, row * (height + line)
        whole.paste(picture.resize((width, height), Image.Resampling.NEAREST) if times > 1 else picture, (left, top))
        words = cut(words.replace("\u00a0", " "), font, width - size // 2)
        pen.text((left + size // 3, top + height + size // 8), words, _INK, font)

    put(Image.fromarray(np.ascontiguousarray(image)), "image", 0, 0)
    for column, answer in enumerate(answers, start=1):
        limits = answer.task.limits(answer.value, all_valid(answer.value))
        put(Image.fromarray(answer.task.draw(answer.value, limits=limits)), _words(answer.task, limits), column, 0)
        if answer.spread is not None:
            top = top_of(answer.spread)
            name = "expected error" if answer.expected else "spread"
            put(draw_spread(answer.spread, top), f"{name}, {spread_range(answer.task, top)}", column, 1)
    for number, (name, shade) in enumerate(classes):
        top = height + line + number * line
        pen.rectangle((size // 3, top, size // 3 + size, top + size), shade)
        pen.text((2 * size, top), cut(name, font, width - 2 * size), _INK, font)
    return whole


def draw_spread(spread: Float[Tensor, "h w"], limit: float | None = None) -> Image.Image:
    """An uncertainty as a heat map from 0 to `limit`, `top_of` it if None."""
    top = top_of(spread) if limit is None else limit
    return Image.fromarray(colour.ramp(spread.float().cpu().numpy(), 0.0, top or 1.0, "heat"))


def top_of(spread: Float[Tensor, "h w"]) -> float:
    """Where a heat map of its own ends: the 99th percentile, or the largest if that is 0."""
    values = spread.float().cpu().numpy()
    return float(np.percentile(values, 99)) or float(values.max())


def spread_range(task: Task, top: float) -> str:
    """The range of a heat map in words."""
    return f"0 to {top:.2g}\u00a0{task.spread_unit}" if top > 0 else "0 everywhere"


def _words(task: Task, limits: tuple[float, float] | None) -> str:
    return task.name if limits is None else f"{task.name}, {limits[0]:.3g} to {limits[1]:.3g}\u00a0{task.unit}"


def _classes(answers: Sequence[Shown], most: int) -> list[tuple[str, tuple[int, int, int]]]:
    """Names and colours, task by task, of the largest classes first."""
    tasks = [(answer.task, answer.value) for answer in answers if answer.task.legend()]
    lines = []
    for task, value in tasks:
        shares = task.describe(value, all_valid(value))
        occur = [(name, shade) for name, shade in task.legend() if shares.get(name, 0) > 0]
        largest = sorted(occur, key=lambda line: -shares[line[0]])[: most // len(tasks)]
        lines += [(f"{task.name}: {name}" if len(tasks) > 1 else name, shade) for name, shade in largest]
    return lines
