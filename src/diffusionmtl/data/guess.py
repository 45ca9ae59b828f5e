"""What kinds of label a folder without `dataset.yaml` seems to hold: only ever a suggestion to its owner."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from diffusionmtl import files
from diffusionmtl.errors import UserError

_LOOKED_AT = 5
_IGNORE = 255
_LINES_COVER = 0.12
_WORDS = {
    "disparity": ("disparit",),
    "depth": ("depth",),
    "normals": ("normal",),
    "boundary": ("edge", "boundar", "contour"),
    "saliency": ("sal",),
    "segmentation": ("seg", "part", "class", "label", "mask"),
}


def guessed_tasks(root: Path) -> dict[str, dict[str, Any]]:
    """Settings, as `dataset.yaml` would give them, for every folder of labels beside an `images` folder."""
    folders: dict[str, list[Path]] = {}
    for images in sorted(root.glob("*/images")):
        for folder in sorted(images.parent.iterdir()):
            if folder.is_dir() and folder.name != "images" and not folder.name.startswith("."):
                folders.setdefault(folder.name, []).append(folder)
    return {
        name: _guess(name, [path for folder in found for path in _first(folder)]) for name, found in folders.items()
    }


def _first(folder: Path) -> list[Path]:
    found = (p for p in folder.rglob("*") if p.suffix.lower() in (".npy", ".png", ".tif", ".tiff"))
    return list(islice((p for p in found if p.is_file() and not p.name.startswith(".")), _LOOKED_AT))


def _guess(name: str, paths: list[Path]) -> dict[str, Any]:
    labels = [label for label in map(_read, paths) if label is not None]
    kind = next((k for k, words in _WORDS.items() if any(word in name.lower() for word in words)), None)
    if labels and (kind is None or (kind == "segmentation" and all(map(_yes_or_no, labels)))):
        kind = _kind_of(labels[0])
    kind = kind or "segmentation"
    if kind != "segmentation":
        return {"kind": kind}
    highest = max((_highest_class(label) for label in labels), default=1)
    return {"kind": kind, "classes": [f"class{i}" for i in range(max(highest, 1) + 1)]}


def _read(path: Path) -> np.ndarray | None:
    try:
        return files.read_numbers(path)
    except UserError:
        return None


def _yes_or_no(label: np.ndarray) -> bool:
    """Whether it is a mask of 0 and 255, of which a segmentation would take 255 for unknown."""
    return label.ndim == 2 and label.dtype.kind in "iu" and set(np.unique(label).tolist()) == {0, _IGNORE}


def _kind_of(label: np.ndarray) -> str:
    if label.ndim == 3:
        return "normals"
    if label.dtype.kind == "f" or label.dtype == np.uint16:
        return "depth"
    values = np.unique(label)
    if label.dtype == bool or (len(values) <= 2 and values.max(initial=0) >= 128):
        return "boundary" if (label > 0).mean() < _LINES_COVER else "saliency"
    return "segmentation"


def _highest_class(label: np.ndarray) -> int:
    classes = label[(label != _IGNORE) & (label >= 0)] if label.dtype.kind in "iu" else label[:0]
    return min(int(classes.max(initial=1)), 999)
