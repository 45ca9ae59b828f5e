"""Miniature copies of the published benchmarks, in the exact form in which they lie on a disk."""

import json
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from diffusionmtl.data.base import DenseDataset

SIZE = (24, 32)
IDS = {"train": ("2008_000002", "2008_000007", "2009_001133"), "val": ("2010_000001", "2010_000002")}
PEOPLE = frozenset({"2008_000002", "2009_001133", "2010_000002"})


def read(dataset: DenseDataset, task: str, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A label [C H W] and where it is valid [H W]."""
    label, valid = dataset.label(index, task)
    return label.plain().numpy(), valid.plain().numpy()[0]


def write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_npy(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def write_mat(path: Path, **variables) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, variables, do_compression=True)


def structs(rows: list[dict]) -> np.ndarray:
    """A 1 x n struct array, as MATLAB saves one; empty as MATLAB's []."""
    if not rows:
        return np.zeros((0, 0))
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in rows[0]])
    for i, row in enumerate(rows):
        for field, value in row.items():
            array[0, i][field] = value
    return array


def rectangle(top: int, left: int, height: int, width: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[top : top + height, left : left + width] = 1
    return mask


def part(name: str, *place: int) -> dict:
    return {"part_name": name, "mask": rectangle(*place)}


def thing(name: str, number: int, parts: list[dict]) -> dict:
    whole = np.maximum.reduce([p["mask"] for p in parts]) if parts else rectangle(0, 0, 4, 4)
    return {"class": name, "class_ind": number, "mask": whole, "parts": structs(parts)}


# A head over which the hair lies, a torso, a lower arm with its hand.
PERSON = thing(
    "person",
    15,
    [
        part("head", 2, 2, 6, 6),
        part("hair", 2, 2, 2, 6),
        part("torso", 8, 2, 8, 6),
        part("llarm", 8, 8, 4, 2),
        part("lhand", 12, 8, 2, 2),
        part("ruleg", 16, 2, 4, 3),
        part("rfoot", 20, 2, 2, 3),
    ],
)
DOG = thing("dog", 12, [part("head", 10, 20, 4, 4), part("tail", 14, 28, 2, 2)])
STANDING_FAR_AWAY = thing("person", 15, [])


def write_anno(path: Path, name: str, things: list[dict]) -> None:
    write_mat(path, anno=structs([{"imname": name, "objects": structs(things)}]))


def label_map() -> np.ndarray:
    labels = np.full(SIZE, 100, np.uint16)
    labels[:, 16:] = 284
    labels[12:, 16:] = 427
    return labels


def pascal_context(root: Path, parts_list: bool = True) -> Path:
    """The archive's tree with three training and two validation images; people on three of them."""
    rng = np.random.default_rng(0)
    for split, names in IDS.items():
        lists = root / "ImageSets" / "Context"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            write_pascal_image(root, name, rng)
        if parts_list:
            (root / "ImageSets" / "Parts").mkdir(parents=True, exist_ok=True)
            categories = {name: [12, 15] if name in PEOPLE else [12] for name in names}
            (root / "ImageSets" / "Parts" / f"{split}.txt").write_text(json.dumps(categories))
    return root


def write_pascal_image(root: Path, name: str, rng: np.random.Generator) -> None:
    (root / "JPEGImages").mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(root / "JPEGImages" / f"{name}.jpg")
    semseg = np.zeros(SIZE, np.uint8)
    semseg[:, 8:], semseg[:, 20:], semseg[0] = 15, 20, 255
    folder = "pascal-context" if name == IDS["train"][1] else "VOC12"
    write_png(root / "semseg" / folder / f"{name}.png", semseg)
    write_mat(root / "pascal-context" / "trainval" / f"{name}.mat", LabelMap=label_map())
    write_anno(root / "human_parts" / f"{name}.mat", name, [DOG, PERSON] if name in PEOPLE else [DOG])
    normals = np.full((*SIZE, 3), 128, np.uint8)
    normals[..., 2] = 255
    normals[:, :8] = (255, 128, 128)
    normals[:2, :2] = 0
    write_png(root / "normals_distill" / f"{name}.png", normals)
    sal = np.full(SIZE, 127, np.uint8)
    sal[4:12, 4:12] = 128
    write_png(root / "sal_distill" / f"{name}.png", sal)


def write_normal_classes(root: Path, count: int = 169) -> None:
    """The two files that name the classes where normals count: 100 and 284 do by their name, 427 is tvmonitor."""
    numbers = range(1, count + 1)
    context = {f"class {n}": n for n in numbers} | {"tvmonitor": 427, "unknown": 431, "sky": 500}
    (root / "context_classes.json").write_text(json.dumps(context))
    indoor = {f"class {n}": i for i, n in enumerate(numbers)} | {"unknown": 0, "television": 5}
    (root / "nyu_classes.json").write_text(json.dumps(indoor))


def unit_normals(size: tuple[int, int] = SIZE) -> np.ndarray:
    normals = np.zeros((*size, 3), np.float32)
    normals[..., 2] = 1.0
    normals[:, :8] = (0.6, 0.0, 0.8)
    normals[:2, :2] = 0.0
    return normals


def write_array_image(root: Path, split: str, i: int, dtype: type = np.float32) -> None:
    image = np.random.default_rng(i).random((*SIZE, 3))
    write_npy(root / split / "image" / f"{i}.npy", image.astype(dtype))


def nyud_arrays(root: Path, counts: tuple[int, int] = (3, 2), dtype: type = np.float32) -> Path:
    """The tree of MTAN's NYUv2; the number type of the files is not known, so tests try several."""
    for split, count in zip(("train", "val"), counts, strict=True):
        for i in range(count):
            write_array_image(root, split, i, dtype)
            classes = np.full(SIZE, 12.0)
            classes[:, 4:16], classes[0] = i, -1
            write_npy(root / split / "label" / f"{i}.npy", classes.astype(dtype))
            depth = np.full((*SIZE, 1), 2.5)
            depth[4] = 0
            write_npy(root / split / "depth" / f"{i}.npy", depth.astype(dtype))
            write_npy(root / split / "normal" / f"{i}.npy", unit_normals().astype(dtype))
    return root


def nyud_pictures(root: Path, counts: tuple[int, int] = (3, 2)) -> Path:
    """The tree of ATRC's NYUD-v2."""
    rng = np.random.default_rng(0)
    number = 1
    for split, count in zip(("train", "val"), counts, strict=True):
        names = [f"img_{number + i:04d}" for i in range(count)]
        number += count
        (root / "gt_sets").mkdir(parents=True, exist_ok=True)
        (root / "gt_sets" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            write_png(root / "images" / f"{name}.png", rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
            classes = np.full(SIZE, 40, np.uint8)
            classes[:, 4:16], classes[0] = 1, 0
            write_png(root / "segmentation" / f"{name}.png", classes)
            write_npy(root / "depth" / f"{name}.npy", np.full(SIZE, 3.25, np.float32))
            coded = np.rint((unit_normals() + 1) * 127.5).astype(np.uint8)
            write_png(root / "normals" / f"{name}.png", coded)
            write_png(root / "edge" / f"{name}.png", 255 * rectangle(0, 7, SIZE[0], 1))
    return root


def cityscapes_arrays(root: Path, counts: tuple[int, int] = (3, 2)) -> Path:
    """The tree of MTAN's Cityscapes."""
    for split, count in zip(("train", "val"), counts, strict=True):
        for i in range(count):
            write_array_image(root, split, i)
            for classes in (2, 7, 19):
                label = np.full(SIZE, classes - 1.0)
                label[:, 4:16], label[0] = 0, -1
                write_npy(root / split / f"label_{classes}" / f"{i}.npy", label)
            disparity = np.full((*SIZE, 1), 0.4922, np.float32)
            disparity[4] = 0
            write_npy(root / split / "depth" / f"{i}.npy", disparity)
    return root


def cityscapes_official(root: Path) -> Path:
    """The tree of the official archives: two cities in train, one in val. The label ids stand in turn, from 0 to 33."""
    rng = np.random.default_rng(0)
    places = {"train": ("aachen_000000_000019", "aachen_000001_000019", "bochum_000000_000313")}
    places |= {"val": ("frankfurt_000000_000294",)}
    for split, names in places.items():
        for name in names:
            city = name.split("_")[0]
            image = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            write_png(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", image)
            ids = (np.arange(SIZE[0] * SIZE[1]) % 34).reshape(SIZE).astype(np.uint8)
            write_png(root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png", ids)
            write_png(root / "gtFine" / split / city / f"{name}_gtFine_color.png", image)
            disparity = np.full(SIZE, 32257, np.uint16)
            disparity[0], disparity[1] = 0, 1
            write_png(root / "disparity" / split / city / f"{name}_disparity.png", disparity)
    return root
