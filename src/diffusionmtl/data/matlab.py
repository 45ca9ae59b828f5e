"""MATLAB files of label maps and PASCAL-Part annotations.

A `.mat` file of the old format holds data and no code. What its decoder throws becomes one line that names the file.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from jaxtyping import Bool, Int

from diffusionmtl import files
from diffusionmtl.data.matlab_layout import unpacked
from diffusionmtl.errors import UserError, in_one_line

MAX_BYTES = 16_000_000
MAX_UNPACKED = 256_000_000
_HDF5 = b"\x89HDF\r\n\x1a\n"
MAX_CLASS = 459
PERSON = 15
"""The category of people in PASCAL VOC's order."""


def read_label_map(path: Path) -> Int[np.ndarray, "h w"]:
    """The map of 459 classes of a PASCAL-Context annotation, int64.

    Raises:
        UserError: unreadable, or no such map.
    """
    labels = _variable(path, "LabelMap")
    if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "uif":
        raise UserError(f"{path}: LabelMap is {labels.dtype} of {labels.ndim} dimensions, expected whole numbers [H W]")
    whole = labels.astype(np.int64)
    if (whole != labels).any() or whole.min() < 0 or whole.max() > MAX_CLASS:
        raise UserError(f"{path}: LabelMap holds values outside 0 to {MAX_CLASS}; another version of PASCAL-Context?")
    return whole


def read_person_parts(path: Path) -> list[tuple[str, Bool[np.ndarray, "h w"]]]:
    """Name and mask of every part of every person of a PASCAL-Part annotation, in the file's order.

    Raises:
        UserError: unreadable, or another struct than PASCAL-Part's `anno`.
    """
    anno = _variable(path, "anno")
    if anno.size != 1:
        raise _wrong(path, f"anno has {anno.size} elements")
    parts: list[tuple[str, np.ndarray]] = []
    for thing in _structs(path, "anno", anno.flat[0], "objects"):
        if _number(path, thing, "class_ind") != PERSON:
            continue
        for part in _structs(path, "objects", thing, "parts"):
            parts.append((_text(path, part, "part_name"), _mask(path, part)))
    if len({mask.shape for _, mask in parts}) > 1:
        raise _wrong(path, "the masks of its parts differ in size")
    return parts


def _variable(path: Path, name: str) -> np.ndarray:
    content = files.read_bytes(path, MAX_BYTES, "an annotation of one image")
    if content[: len(_HDF5)] == _HDF5 or content[512 : 512 + len(_HDF5)] == _HDF5:
        raise UserError(f"{path}: a MATLAB 7.3 file; the published ones are of the older format")
    try:
        stream = io.BytesIO(unpacked(content, MAX_UNPACKED))
        found = scipy.io.loadmat(stream, variable_names=[name], squeeze_me=False, struct_as_record=True)
    except Exception as error:  # the decoder throws whatever its parser threw
        said = in_one_line(error)
        raise UserError(f"{path}: not a readable .mat file ({said}); replace it") from error
    if not isinstance(found.get(name), np.ndarray):
        raise UserError(f"{path}: has no variable '{name}'; another kind of annotation?")
    return found[name]


def _structs(path: Path, outer: str, record: Any, field: str) -> Iterator[Any]:
    """The elements of a struct array in a field; none where it is empty."""
    array = _field(path, outer, record, field)
    if array.size and array.dtype.names is None:
        raise _wrong(path, f"{field} is {array.dtype}, no struct")
    yield from array.flat if array.size else ()


def _field(path: Path, outer: str, record: Any, field: str) -> np.ndarray:
    names = getattr(getattr(record, "dtype", None), "names", None)
    if names is None or field not in names:
        raise _wrong(path, f"{outer} has no field '{field}'")
    value = record[field]
    if not isinstance(value, np.ndarray):
        raise _wrong(path, f"'{field}' is no array")
    return value


def _number(path: Path, record: Any, field: str) -> int:
    value = _field(path, "objects", record, field)
    if value.size != 1 or value.dtype.kind not in "uif":
        raise _wrong(path, f"'{field}' is no number")
    return int(value.flat[0])


def _text(path: Path, record: Any, field: str) -> str:
    value = _field(path, "parts", record, field)
    if value.size != 1 or value.dtype.kind != "U":
        raise _wrong(path, f"'{field}' is no text")
    return str(value.flat[0])


def _mask(path: Path, record: Any) -> np.ndarray:
    mask = _field(path, "parts", record, "mask")
    if mask.ndim != 2 or mask.size == 0 or mask.dtype.kind not in "buif":
        raise _wrong(path, "'mask' is no map [H W]")
    return mask != 0


def _wrong(path: Path, what: str) -> UserError:
    return UserError(f"{path}: not a PASCAL-Part annotation: {what}; expected anno.objects.parts with part_name, mask")
