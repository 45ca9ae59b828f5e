"""Cityscapes with segmentation and disparity, as arrays or as the data set's authors publish it.

Arrays (MTAN; reference tables, 2.3), i = 0 .. 2974 and 0 .. 499:

```
{train,val}/image/<i>.npy       [H W 3] in [0, 1]
{train,val}/label_7/<i>.npy     [H W] -1 unknown, 0 .. 6; likewise label_19 and label_2
{train,val}/depth/<i>.npy       [H W 1] disparity, 0 unknown
```

Official, 1024 x 2048:

```
leftImg8bit/{train,val}/<city>/<city>_<seq>_<frame>_leftImg8bit.png
gtFine/{train,val}/<city>/<city>_<seq>_<frame>_gtFine_labelIds.png
disparity/{train,val}/<city>/<city>_<seq>_<frame>_disparity.png
```

What the tables of partially supervised methods call depth is disparity, that is inverse depth.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from diffusionmtl import files
from diffusionmtl.data.numbered_arrays import NumberedArrays
from diffusionmtl.data.published_files import (
    PublishedDataset,
    check_split,
    chosen_tasks,
    class_label,
    located,
    look_up,
    not_here,
)
from diffusionmtl.errors import UserError
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.tasks import Disparity, SemanticSegmentation, Task
from diffusionmtl.tasks.published import CITYSCAPES_CLASSES

EXPECTED = (
    "train/image, train/label_7, train/depth and the same in val (arrays), or leftImg8bit, gtFine, disparity (official)"
)
ARRAYS_PUBLISHER = "the authors of MTAN (preprocessed Cityscapes, linked from github.com/lorenmt/mtan)"
OFFICIAL_PUBLISHER = "the authors of Cityscapes (leftImg8bit, gtFine and disparity, www.cityscapes-dataset.com)"
FOLDERS = ("cityscapes2", "cityscapes", "Cityscapes", "CityScapes")

_IMAGE_END = "_leftImg8bit.png"
_HIGHEST_ID = 33

CLASSES_19 = tuple(
    "road|sidewalk|building|wall|fence|pole|traffic light|traffic sign|vegetation|terrain|sky|person|rider|car|truck|"
    "bus|train|motorcycle|bicycle".split("|")
)
CLASSES = {2: ("background", "foreground"), 7: CITYSCAPES_CLASSES, 19: CLASSES_19}
"""By their number. The names of the two are ours; their source gives none."""

_EVALUATED_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_CATEGORY_IDS = (
    (7, 8, 9, 10),
    (11, 12, 13, 14, 15, 16),
    (17, 18, 19, 20),
    (21, 22),
    (23,),
    (24, 25),
    tuple(range(26, 34)),
)
CLASS_OF_ID: dict[int, dict[int, int]] = {
    19: {number: row for row, number in enumerate(_EVALUATED_IDS)},
    7: {number: row for row, numbers in enumerate(_CATEGORY_IDS) for number in numbers},
}
"""Per number of classes, which class a label id of the official files is; ids that are left out are unknown."""


def cityscapes_tasks(classes: int = 7, scale: float = 1 / 65535) -> tuple[Task, ...]:
    """Segmentation of so many classes, and the disparity that the tables call depth."""
    return (SemanticSegmentation("semseg", CLASSES[classes]), Disparity("depth", scale=scale))


def open_cityscapes(
    root: Path,
    split: str,
    tasks: Sequence[str] | None = None,
    max_pixels: int = files.MAX_PIXELS,
    classes: Literal[2, 7, 19] = 7,
    unit: Literal["share", "pixels"] = "share",
) -> PublishedDataset:
    """Open a split in whichever of the two layouts the folder has; every file of it must be there.

    Args:
        root: the unpacked archives, or a folder that holds them under their usual name.
        split: train or val.
        tasks: names of the tasks to read, all if None; files of the others may be missing.
        classes: 7 or 19; 2 in arrays only.
        unit: of the disparity of official files: share, the number p in the file over 65535, which is how the arrays
            appear to have been made; or pixels of the full picture, (p - 1) / 256. Arrays hold what they hold.

    Raises:
        UserError: says what is missing and who publishes the data.
    """
    check_split("Cityscapes", split)
    root = located(Path(root), FOLDERS)
    if (root / "train" / "image").is_dir() or (root / "val" / "image").is_dir():
        folders = {"semseg": f"label_{classes}", "depth": "depth"}
        chosen = chosen_tasks(cityscapes_tasks(classes), tasks)
        found = NumberedArrays(root, split, chosen, folders, "cityscapes", max_pixels)
        publisher = ARRAYS_PUBLISHER
    elif (root / "leftImg8bit").is_dir():
        if classes not in CLASS_OF_ID:
            raise UserError(f"{root}: the official files have no {classes} classes; take 7 or 19, or the arrays")
        scale = 1 / 65535 if unit == "share" else 1 / 256
        chosen = chosen_tasks(cityscapes_tasks(classes, scale), tasks)
        found = CityscapesOfficial(root, split, chosen, max_pixels, unit)
        publisher = OFFICIAL_PUBLISHER
    else:
        not_here(root, "Cityscapes", EXPECTED, f"{ARRAYS_PUBLISHER}; in full size by {OFFICIAL_PUBLISHER}")
    found.check_complete(f"unpack the archive again, or choose other tasks. Published by {publisher}")
    return found


class CityscapesOfficial(PublishedDataset):
    """One split as its authors publish it: semseg and depth, which is disparity.

    An image is named as its file is, without what it has in common with all others: `aachen_000000_000019`.
    """

    name = "cityscapes"
    title = "Cityscapes (official)"

    def __init__(
        self,
        root: Path,
        split: str,
        tasks: Sequence[Task],
        max_pixels: int = files.MAX_PIXELS,
        unit: Literal["share", "pixels"] = "share",
    ) -> None:
        """Look for the images; `check_complete` looks for the labels."""
        found = sorted((root / "leftImg8bit" / split).glob(f"*/*{_IMAGE_END}"))
        if not found:
            raise UserError(
                f"{root / 'leftImg8bit' / split}: no image; expected <city>/<city>_<seq>_<frame>{_IMAGE_END}"
            )
        self._cities = tuple(path.parent.name for path in found)
        self._split, self._unit = split, unit
        super().__init__(root, tasks, [path.name.removesuffix(_IMAGE_END) for path in found], max_pixels)

    def path(self, index: int, task: str | None) -> Path:
        """The file of an image or label."""
        folder, end = {
            None: ("leftImg8bit", _IMAGE_END),
            "semseg": ("gtFine", "_gtFine_labelIds.png"),
            "depth": ("disparity", "_disparity.png"),
        }[task]
        return self.root / folder / self._split / self._cities[index] / f"{self.names[index]}{end}"

    def _label(self, index: int, kind: Task) -> tuple[LabelMap, ValidMap]:
        path = self.path(index, kind.name)
        pixels = files.read_label_picture(path, self._max_pixels)
        if pixels.ndim != 2:
            raise UserError(f"{path}: task '{kind.name}' needs one number per pixel, found a colour picture")
        return self._disparity(path, pixels, kind) if kind.name == "depth" else self._semseg(path, pixels, kind)

    def _semseg(self, path: Path, ids: np.ndarray, kind: Task) -> tuple[LabelMap, ValidMap]:
        if ids.max() > _HIGHEST_ID:
            raise UserError(f"{path}: value {ids.max()} is no label id of Cityscapes (0 to {_HIGHEST_ID})")
        classes = look_up(ids.astype(np.int64), CLASS_OF_ID[kind.channels])
        return class_label(path, kind, classes, classes == -1)

    def _disparity(self, path: Path, pixels: np.ndarray, kind: Task) -> tuple[LabelMap, ValidMap]:
        if pixels.dtype == np.uint8:
            raise UserError(
                f"{path}: a picture of 8 bits; the official disparities have 16, take them from the archive"
            )
        raw = pixels.astype(np.float64)
        # Of the pixels of the full picture 0 is left for what is infinitely far, which a label cannot say.
        disparity = raw / 65535 if self._unit == "share" else (raw - 1) / 256
        valid = disparity > 0
        label = torch.from_numpy(np.where(valid, disparity, 0).astype(np.float32))[None]
        return label.as_subclass(kind.label_type), torch.from_numpy(valid)[None].as_subclass(ValidMap)
