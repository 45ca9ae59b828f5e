"""What `diffusionmtl suggest` would have annotated next, for a person to agree with or not."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from diffusionmtl.commands.suggested_files import TASK_LIST
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.errors import UserError
from diffusionmtl.files import read_json
from diffusionmtl.inference.prediction import Prediction
from diffusionmtl.serve.review import Decision, Pair, Shown

See = Callable[[UInt8[Tensor, "3 h w"]], Prediction]


class SuggestedFolder:
    """A folder that `diffusionmtl suggest` wrote. Decisions are written down; no file is moved.

    Attributes:
        folder: where the suggestions are.
        pairs: by rank.

    Args:
        dataset: the images.
        see: predicts an image.

    Raises:
        UserError: no such folder, or it is about other images.
    """

    title = "Labels to make next"
    help = "Accept what shall be annotated, reject what need not be. No label is made or changed here."

    def __init__(self, folder: Path, dataset: DenseDataset, see: See) -> None:
        self.folder = folder
        self._dataset, self._see = dataset, see
        self._index = {name: index for index, name in enumerate(dataset.names)}
        self._said = _suggestions(folder / TASK_LIST)
        self.pairs: Sequence[Pair] = list(self._said)
        lost = [pair.image for pair in self.pairs if pair.image not in self._index]
        if lost:
            raise UserError(f"{folder / TASK_LIST}: no image '{lost[0]}' in the data; name the data with --data")

    def digest(self, pair: Pair) -> str:
        """Of what was said of it."""
        return hashlib.sha256(json.dumps(self._said[pair], sort_keys=True).encode()).hexdigest()[:16]

    def note(self, pair: Pair) -> str:
        """Why it was suggested."""
        return _note(self._said[pair])

    def pictures(self, pair: Pair) -> list[Shown]:
        """The image, and what the network says of it now."""
        image = self._dataset.image(self._index[pair.image])
        answers = self._see(image)
        if pair.task not in answers:
            raise UserError(
                f"{self.folder / TASK_LIST}: the run has no task '{pair.task}'; serve the one that made this list"
            )
        found = answers[pair.task]
        shown = [
            Shown("image", np.ascontiguousarray(image.permute(1, 2, 0).numpy())),
            Shown(f"{pair.task}: answer now", np.asarray(found.draw())),
        ]
        doubt = found.draw_uncertainty()
        return shown if doubt is None else [*shown, Shown("doubt: bright is unsure", np.asarray(doubt))]

    def apply(self, pair: Pair, decision: Decision | None) -> None:
        """Nothing: what was written down is all."""


def _suggestions(path: Path) -> dict[Pair, Mapping[str, Any]]:
    if not path.exists():
        raise UserError(f"{path}: no such file; give the folder that 'diffusionmtl suggest --out' wrote")
    try:
        said = read_json(path)
        names = {image["id"]: _without_suffix(str(image["file_name"])) for image in said["images"]}
        found = {Pair(names[one["image_id"]], str(one["task"])): one for one in said["tasks"]}
        for one in found.values():
            _note(one)
        return found
    except (ValueError, KeyError, TypeError, OverflowError):
        raise UserError(f"{path}: damaged; run 'diffusionmtl suggest' again into another folder") from None


def _note(said: Mapping[str, Any]) -> str:
    return f"rank {said['id']}; price {said['price']:g}; gain {100 * said['gain']:.3f} %; {said['reason']}"


def _without_suffix(name: str) -> str:
    stem, dot, _ = name.rpartition(".")
    return stem if dot else name
