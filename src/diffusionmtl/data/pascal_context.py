"""PASCAL-Context with five tasks, in the layout of the archive that comes with ATRC (reference tables, 2.1).

```
JPEGImages/<id>.jpg
pascal-context/trainval/<id>.mat     LabelMap of 459 classes: gives the edges and masks the normals
semseg/VOC12/<id>.png                where it exists, else semseg/pascal-context/<id>.png
human_parts/<id>.mat                 PASCAL-Part
normals_distill/<id>.png, sal_distill/<id>.png
ImageSets/Context/{train,val}.txt    names of the images
ImageSets/Context/test_new.txt       optional: the images of val that odsF is published for (2,498)
ImageSets/Parts/{train,val}.txt      optional: JSON, per image the categories of its objects
nyu_classes.json, context_classes.json   optional: say where distilled normals count
```
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from scipy import ndimage

from diffusionmtl import files
from diffusionmtl.data.matlab import PERSON, read_label_map, read_person_parts
from diffusionmtl.data.published_files import (
    PublishedDataset,
    check_split,
    chosen_tasks,
    class_label,
    located,
    not_here,
    read_names,
)
from diffusionmtl.errors import UserError, nearest
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.metrics.thinning import thin
from diffusionmtl.tasks import Task
from diffusionmtl.tasks.published import pascal_context_tasks

EXPECTED = "JPEGImages, pascal-context, semseg, human_parts, normals_distill, sal_distill, ImageSets/Context"
PUBLISHER = "the authors of ATRC (PASCALContext.tar.gz, linked from github.com/brdav/atrc)"
VALID_NORMAL_CLASSES = 170
NORMALS_EVERYWHERE = (
    "normals count wherever there is one, not in the 170 published classes alone: nyu_classes.json and "
    "context_classes.json are not in the folder, so mErr is over more pixels than in print"
)
EDGE_LIST = "test_new.txt"

_PART_WORDS = (
    "hair head lear rear lebrow rebrow leye reye mouth nose",
    "torso neck",
    "luarm ruarm",
    "llarm rlarm lhand rhand",
    "luleg ruleg",
    "llleg rlleg lfoot rfoot",
)
PART_CLASS = {name: number for number, names in enumerate(_PART_WORDS, start=1) for name in names.split()}
"""The six parts of the benchmark by PASCAL-Part's names of a person's parts."""


class PascalContext(PublishedDataset):
    """One split of PASCAL-Context: semseg, human_parts, sal, normals, edge.

    An image without people has a human_parts label that is valid nowhere, as in the published code. Normals count where
    the class of the pixel is among 170 that a network trained on indoor scenes can be trusted with; which these are
    stands in two files of the published code that are not part of the archive. Without them normals count wherever the
    files hold one, and figures are over more pixels than the published ones.

    Attributes:
        normals_masked: whether the two files were there.
        edges: how edges are drawn: `laplacian`, as in published training, or `regions`, as the published boundary
            benchmark does. They differ by up to a pixel.
    """

    name = "pascal-context"
    title = "PASCAL-Context"
    foreground_only = frozenset({"human_parts"})

    def __init__(
        self,
        root: Path,
        split: str,
        tasks: Sequence[Task],
        max_pixels: int = files.MAX_PIXELS,
        edges: Literal["laplacian", "regions"] = "laplacian",
    ) -> None:
        """Look for the lists; `open` checks that every file is there."""
        super().__init__(root, tasks, read_names(root / "ImageSets" / "Context" / f"{split}.txt"), max_pixels)
        self.edges = edges
        self._listed = _listed_categories(root / "ImageSets" / "Parts" / f"{split}.txt")
        self._with_people: dict[int, bool] = {}
        scored = root / "ImageSets" / "Context" / EDGE_LIST
        self._edges_counted = _among(self.names, scored) if split == "val" and scored.is_file() else None
        self._normal_classes = _normal_classes(root)
        self.normals_masked = self._normal_classes is not None
        if not self.normals_masked and any(task.name == "normals" for task in tasks):
            self.caveats = (NORMALS_EVERYWHERE,)

    @classmethod
    def open(
        cls,
        root: Path,
        split: str,
        tasks: Sequence[str] | None = None,
        max_pixels: int = files.MAX_PIXELS,
        edges: Literal["laplacian", "regions"] | None = None,
    ) -> "PascalContext":
        """Open a split; every file of it must be there.

        Args:
            root: the unpacked archive, or the folder that holds it as `PASCALContext`.
            split: train or val.
            tasks: names of the tasks to read, all if None; files of the others may be missing.
            max_pixels: images with more pixels are refused when they are read.
            edges: see the class; None draws them as published for the split, `regions` for val.

        Raises:
            UserError: says what is missing and who publishes the data.
        """
        check_split(cls.title, split)
        root = located(Path(root), ["PASCALContext"])
        if not (root / "ImageSets" / "Context").is_dir() or not (root / "JPEGImages").is_dir():
            not_here(root, cls.title, EXPECTED, PUBLISHER)
        drawn = edges or ("laplacian" if split == "train" else "regions")
        dataset = cls(root, split, chosen_tasks(pascal_context_tasks(), tasks), max_pixels, drawn)
        dataset.check_complete(f"unpack the archive again, or choose other tasks. Published by {PUBLISHER}")
        return dataset

    def informative(self, index: int) -> frozenset[str]:
        """All but the human parts of an image without people."""
        seen = self.annotated(index)
        return seen if "human_parts" not in seen or self.has_people(index) else seen - {"human_parts"}

    def counted(self, index: int) -> frozenset[str]:
        """Edges of val count for the images of test_new.txt alone, if that file is there."""
        counted = self.annotated(index)
        if self._edges_counted is None or self.names[index] in self._edges_counted:
            return counted
        return counted - {"edge"}

    def has_people(self, index: int) -> bool:
        """Whether the image shows a person, by the list in ImageSets/Parts if it names the image, else its parts."""
        categories = self._listed.get(self.names[index])
        if categories is not None:
            return PERSON in categories
        if index not in self._with_people:
            self._with_people[index] = bool(read_person_parts(self.path(index, "human_parts")))
        return self._with_people[index]

    def path(self, index: int, task: str | None) -> Path:
        """The file that a label is made from."""
        name = self.names[index]
        if task == "semseg":
            first = self.root / "semseg" / "VOC12" / f"{name}.png"
            return first if first.is_file() else self.root / "semseg" / "pascal-context" / f"{name}.png"
        folder, suffix = {
            None: ("JPEGImages", "jpg"),
            "human_parts": ("human_parts", "mat"),
            "sal": ("sal_distill", "png"),
            "normals": ("normals_distill", "png"),
            "edge": ("pascal-context/trainval", "mat"),
        }[task]
        return self.root / folder / f"{name}.{suffix}"

    def _label(self, index: int, kind: Task) -> tuple[LabelMap, ValidMap]:
        path = self.path(index, kind.name)
        if kind.name == "human_parts":
            return self._human_parts(index, path, kind)
        if kind.name == "edge":
            draw = laplacian_edges if self.edges == "laplacian" else region_boundaries
            edge = torch.from_numpy(draw(read_label_map(path)))[None]
            return edge.as_subclass(kind.label_type), torch.ones_like(edge).as_subclass(ValidMap)
        label, valid = kind.read(path, self._max_pixels)
        return (label, self._where_normals_count(index, valid)) if kind.name == "normals" else (label, valid)

    def _read_as_it_is(self, task: str) -> bool:
        return task in ("semseg", "sal") or (task == "normals" and not self.normals_masked)

    def _human_parts(self, index: int, path: Path, kind: Task) -> tuple[LabelMap, ValidMap]:
        parts = read_person_parts(path)
        height, width = parts[0][1].shape if parts else self._size(self.path(index, None))
        label = np.zeros((height, width), dtype=np.int64)
        for name, mask in parts:
            if name not in PART_CLASS:
                raise UserError(f"{path}: a person has no part '{name[:40]}'.{nearest(name, PART_CLASS)}")
            label[mask] = PART_CLASS[name]
        return class_label(path, kind, label, np.full(label.shape, not label.any()))

    def _where_normals_count(self, index: int, valid: ValidMap) -> ValidMap:
        if self._normal_classes is None:
            return valid
        path = self.path(index, "edge")
        counts = torch.from_numpy(np.isin(read_label_map(path), self._normal_classes))[None]
        counts = counts.as_subclass(ValidMap)
        if counts.shape != valid.shape:
            counts = counts.resized(valid.shape[-2], valid.shape[-1])
        return (valid.plain() & counts.plain()).as_subclass(ValidMap)

    def check_complete(self, hint: str) -> None:
        """Also the class maps, where they mask the normals."""
        super().check_complete(hint)
        names = {task.name for task in self.tasks}
        if self.normals_masked and "normals" in names and "edge" not in names:
            missing = [p for i in range(len(self)) if not (p := self.path(i, "edge")).is_file()]
            if missing:
                raise UserError(f"{missing[0]}: no such file, the class map that masks the normals; {hint}")


def laplacian_edges(labels: Int[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Lines one pixel wide where a class map changes, as published training uses them.

    Where the Laplacian (four neighbours, border mirrored without repeating it) of the numbers is not zero, thinned.
    """
    return thin(ndimage.laplace(labels.astype(np.float64), mode="mirror") != 0)


def region_boundaries(labels: Int[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Lines one pixel wide where a class map changes, as the published boundary benchmark scores against.

    Pixels that differ from the one to the right, below, or right below, thinned.
    """
    padded = np.pad(labels, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    return thin((here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:]))


def _among(names: Sequence[str], path: Path) -> frozenset[str]:
    """The names that a list holds.

    Raises:
        UserError: it cannot be read, or names an image that is not among `names`.
    """
    listed = frozenset(read_names(path))
    if strangers := sorted(listed - set(names)):
        raise UserError(
            f"{path}: {len(strangers)} of its {len(listed)} images are not in val.txt, {strangers[0]} for instance; "
            "mend the list, or remove it to score edges on all images"
        )
    return listed


def _listed_categories(path: Path) -> dict[str, tuple[int, ...]]:
    if not path.is_file():
        return {}
    listed = _json(path)
    fits = isinstance(listed, dict) and all(
        isinstance(row, list) and all(map(_is_whole, row)) for row in listed.values()
    )
    if not fits:
        raise UserError(f"{path}: expected JSON, per image a list of category numbers; remove it to do without")
    return {str(name): tuple(int(x) for x in row) for name, row in listed.items()}


def _is_whole(number: Any) -> bool:
    return isinstance(number, int) or (isinstance(number, float) and number.is_integer())


def _normal_classes(root: Path) -> np.ndarray | None:
    """The numbers of the classes where normals count; None where the files that say so are missing.

    Those are the names that both files share, but `unknown`, and `tvmonitor`, which the indoor classes call otherwise.
    """
    indoor_file, context_file = root / "nyu_classes.json", root / "context_classes.json"
    if not indoor_file.is_file() or not context_file.is_file():
        return None
    indoor, context = _json(indoor_file), _json(context_file)
    if not isinstance(context, dict) or not all(isinstance(number, int) for number in context.values()):
        raise UserError(f"{context_file}: expected JSON, a number per class; remove it to count all normals")
    if not isinstance(indoor, dict | list):
        raise UserError(f"{indoor_file}: expected JSON of class names; remove it to count all normals")
    names = {str(name) for name in indoor} & set(context) - {"unknown"} | {"tvmonitor"} & set(context)
    if len(names) != VALID_NORMAL_CLASSES:
        raise UserError(
            f"{indoor_file}: shares {len(names)} classes with {context_file.name}, the published pair "
            f"{VALID_NORMAL_CLASSES} (tvmonitor counted); take both from the same release"
        )
    return np.array(sorted(context[name] for name in names))


def _json(path: Path) -> Any:
    try:
        return files.read_json(path, 10_000_000)
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({type(error).__name__})") from None
