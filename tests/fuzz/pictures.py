"""Targets: pictures, label maps, arrays and MATLAB files."""

import io
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from diffusionmtl import files
from diffusionmtl.data.matlab import read_label_map, read_person_parts
from diffusionmtl.tasks import Boundary, Depth, SemanticSegmentation, SurfaceNormals, Task
from tests.fuzz.target import NPY, H, Target, W, colours, each, npy, picture

_CLASSES, _DEPTH = SemanticSegmentation("semseg", classes=("road", "car")), Depth("d")


def images() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    forms = [("PNG", {}), ("JPEG", {"exif": exif}), ("WEBP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})]
    wide = np.zeros((1, 16_000), np.uint8)
    return [*(picture(colours(), form, **options) for form, options in forms), picture(wide, "PNG")]


def label_pictures() -> list[bytes]:
    index = np.arange(H * W, dtype=np.uint8).reshape(H, W) % 2
    palette = Image.fromarray(index).convert("P")
    stream = io.BytesIO()
    palette.save(stream, format="PNG")
    deep = index.astype(np.uint16) * 1000
    return [picture(index, "PNG"), stream.getvalue(), picture(deep, "PNG"), picture(deep, "TIFF")]


def arrays() -> list[bytes]:
    depth = np.linspace(0, 5, H * W).reshape(H, W)
    kinds = [depth, depth.astype(">f4"), depth.astype(np.float16), np.array({"a": 1}, dtype=object)]
    return [npy(kind) for kind in (*kinds, np.tile([0.0, 0, 1], (H, W, 1)), np.zeros((H, W), np.int64))]


def annotations() -> list[bytes]:
    mask = np.eye(H, W, dtype=np.uint8)
    parts = np.zeros((1, 2), dtype=[("part_name", object), ("mask", object)])
    parts[0, 0], parts[0, 1] = ("head", mask), ("torso", mask)
    person = np.zeros((1, 1), dtype=[("class", object), ("class_ind", object), ("mask", object), ("parts", object)])
    person[0, 0] = ("person", 15, mask, parts)
    found = []
    for content in ({"LabelMap": np.arange(H * W, dtype=np.uint16).reshape(H, W)}, {"anno": {"objects": person}}):
        for packed in (False, True):
            stream = io.BytesIO()
            scipy.io.savemat(stream, content, do_compression=packed)
            found.append(stream.getvalue())
    return found


def read_as(path: Path, *tasks: Task) -> None:
    """Read a label as that of each task."""
    each(*(lambda task=task: task.read(path) for task in tasks))


PICTURES = (
    Target(
        "image",
        "image.png",
        images,
        lambda at: each(lambda: files.read_image(at / "image.png"), lambda: files.image_size(at / "image.png")),
        form="png",
    ),
    Target(
        "label-picture",
        "label.png",
        label_pictures,
        lambda at: read_as(at / "label.png", _CLASSES, _DEPTH, Boundary("b"), SurfaceNormals("n")),
        form="png",
    ),
    Target(
        "npy",
        "label.npy",
        arrays,
        lambda at: read_as(at / "label.npy", _CLASSES, _DEPTH, SurfaceNormals("n")),
        words=NPY,
    ),
    Target(
        "mat",
        "label.mat",
        annotations,
        lambda at: each(lambda: read_label_map(at / "label.mat"), lambda: read_person_parts(at / "label.mat")),
        words=(b"LabelMap", b"anno", b"objects"),
    ),
)
