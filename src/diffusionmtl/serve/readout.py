"""What a page says of the place under the pointer: every n-th value of a prediction, small enough to travel with it."""

import base64
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from diffusionmtl.inference.prediction import TaskPrediction
from diffusionmtl.tasks import Task

LARGEST = 128
_STEPS = 65535
NAMES, NUMBER, FACING = "names", "number", "facing"


def readout(found: TaskPrediction, largest: int = LARGEST) -> dict[str, Any]:
    """Values of a task for a page to read, as JSON.

    `form` is `names` (classes, by their number in `names`), `facing` (degrees to the right and upwards of a vector,
    both 0 where it points at the camera) or `number`. `after`, `before` and `spread` are maps: `data` is little-endian
    16-bit, base64; 0 means `low` and 65535 `high`.
    """
    task = found.task
    step = max(1, -(-max(found.estimate.shape[-2:]) // largest))
    value = _every(found.value, step)
    before = None if found.initial is None else _every(task.value(found.initial[None])[0], step)
    spread = None if found.uncertainty is None else _every(found.uncertainty[None], step)
    form = form_of(task, found.value)
    return {
        "form": form,
        "unit": task.unit,
        "spreadUnit": task.spread_unit,
        "names": [name for name, _ in task.legend()],
        "height": value.shape[-2],
        "width": value.shape[-1],
        "after": [_packed(channel) for channel in _channels(form, value)],
        "before": None if before is None else [_packed(channel) for channel in _channels(form, before)],
        "spread": None if spread is None else _packed(spread[0]),
    }


def form_of(task: Task, value: Tensor) -> str:
    """How the values of a task are told."""
    if not value.is_floating_point() and task.legend():
        return NAMES
    return FACING if len(value) == 3 else NUMBER


def _every(value: Tensor, step: int) -> np.ndarray:
    return value.as_subclass(Tensor)[..., ::step, ::step].cpu().double().numpy()


def _channels(form: str, value: np.ndarray) -> list[np.ndarray]:
    if form != FACING:
        return [value[0]]
    x, y, z = value
    return [np.degrees(np.arctan2(x, z)), np.degrees(np.arcsin(np.clip(y, -1, 1)))]


def _packed(values: Float[np.ndarray, "h w"]) -> dict[str, Any]:
    known = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(known.min()), float(known.max())
    share = (known - low) / max(high - low, 1e-12)
    data = np.rint(share * _STEPS).astype("<u2").tobytes()
    return {"low": low, "high": high, "data": base64.b64encode(data).decode("ascii")}
