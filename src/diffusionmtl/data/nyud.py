"""NYUD-v2 with 13 classes as arrays, the form that partially supervised methods use, or with 40 classes as pictures.

Arrays (MTAN; reference tables, 2.2), 288 x 384, i = 0 .. 794 and 0 .. 653:

```
{train,val}/image/<i>.npy     [H W 3] in [0, 1]
{train,val}/label/<i>.npy     [H W] -1 unknown, 0 .. 12
{train,val}/depth/<i>.npy     [H W 1] metres, 0 unknown
{train,val}/normal/<i>.npy    [H W 3] unit vectors, 0 unknown
```

Pictures (ATRC), 425 x 560:

```
gt_sets/{train,val}.txt       names of the images
images/<id>.png
segmentation/<id>.png         0 unknown, 1 .. 40
depth/<id>.npy                metres
normals/<id>.png              n = v / 255 * 2 - 1
edge/<id>.png                 0 or 255
```
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffusionmtl import files
from diffusionmtl.data.numbered_arrays import NumberedArrays
from diffusionmtl.data.published_files import (
    PublishedDataset,
    check_split,
    chosen_tasks,
    class_label,
    located,
    not_here,
    read_names,
)
from diffusionmtl.errors import UserError
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.tasks import Boundary, Depth, SemanticSegmentation, SurfaceNormals, Task
from diffusionmtl.tasks.published import nyud_tasks

EXPECTED = (
    "train/image, train/label, train/depth, train/normal and the same in val (arrays), "
    "or gt_sets, images, segmentation, depth, normals, edge (pictures)"
)
ARRAYS_PUBLISHER = "the authors of MTAN (preprocessed NYUv2, linked from github.com/lorenmt/mtan)"
PICTURES_PUBLISHER = "the authors of ATRC (NYUDv2.tar.gz, linked from github.com/brdav/atrc)"
ARRAY_FOLDERS = {"semseg": "label", "depth": "depth", "normals": "normal"}
FOLDERS = ("NYUD_low", "nyuv2", "NYUv2", "NYUDv2")

CLASSES_40 = tuple(
    "wall|floor|cabinet|bed|chair|sofa|table|door|window|bookshelf|picture|counter|blinds|desk|shelves|curtain|dresser|"
    "pillow|mirror|floor mat|clothes|ceiling|books|refrigerator|television|paper|towel|shower curtain|box|whiteboard|"
    "person|night stand|toilet|sink|lamp|bathtub|bag|other structure|other furniture|other prop".split("|")
)
"""Gupta et al. (2013)."""


def open_nyud(
    root: Path, split: str, tasks: Sequence[str] | None = None, max_pixels: int = files.MAX_PIXELS
) -> PublishedDataset:
    """Open a split in whichever of the two layouts the folder has; every file of it must be there.

    Args:
        root: the unpacked archive, or a folder that holds it under its usual name.
        split: train or val.
        tasks: names of the tasks to read, all if None; files of the others may be missing.

    Raises:
        UserError: says what is missing and who publishes the data.
    """
    check_split("NYUD-v2", split)
    root = located(Path(root), FOLDERS)
    if (root / "train" / "image").is_dir() or (root / "val" / "image").is_dir():
        found = NumberedArrays(root, split, chosen_tasks(nyud_tasks(), tasks), ARRAY_FOLDERS, "nyud", max_pixels)
        publisher = ARRAYS_PUBLISHER
    elif (root / "gt_sets").is_dir() and (root / "images").is_dir():
        found = NyudPictures(root, split, chosen_tasks(nyud_picture_tasks(), tasks), max_pixels)
        publisher = PICTURES_PUBLISHER
    else:
        not_here(root, "NYUD-v2", EXPECTED, f"{ARRAYS_PUBLISHER}; as pictures by {PICTURES_PUBLISHER}")
    found.check_complete(f"unpack the archive again, or choose other tasks. Published by {publisher}")
    return found


class NyudPictures(PublishedDataset):
    """One split as ATRC publishes it: semseg with 40 classes, depth, normals, edge."""

    name = "nyud"
    title = "NYUD-v2 (pictures)"

    def __init__(self, root: Path, split: str, tasks: Sequence[Task], max_pixels: int = files.MAX_PIXELS) -> None:
        """Read the list; `check_complete` looks for the files."""
        super().__init__(root, tasks, read_names(root / "gt_sets" / f"{split}.txt"), max_pixels)

    def path(self, index: int, task: str | None) -> Path:
        """The file of an image or label."""
        folder = {None: "images", "semseg": "segmentation"}.get(task, task)
        return self.root / str(folder) / f"{self.names[index]}.{'npy' if task == 'depth' else 'png'}"

    def _read_as_it_is(self, task: str) -> bool:
        return task != "semseg"

    def _label(self, index: int, kind: Task) -> tuple[LabelMap, ValidMap]:
        path = self.path(index, kind.name)
        if kind.name == "semseg":
            classes = files.read_label_picture(path, self._max_pixels)
            if classes.ndim != 2:
                raise UserError(f"{path}: a segmentation needs one class index per pixel, found a colour picture")
            whole = classes.astype(np.int64) - 1
            return class_label(path, kind, whole, whole == -1)
        return kind.read(path, self._max_pixels)


def nyud_picture_tasks() -> tuple[Task, ...]:
    """The four tasks of NYUD-v2 with 40 classes."""
    return (
        SemanticSegmentation("semseg", CLASSES_40),
        Depth("depth"),
        SurfaceNormals("normals", weight=10.0),
        Boundary("edge", tolerance=0.011),
    )
