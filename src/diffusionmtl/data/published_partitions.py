"""The partitions that the published methods ship, whichever of their forms they have (reference tables, 1.3).

Three forms, all of them pickles: per task a list of image names; per image name five yes-or-no numbers in the order
semseg, human_parts, sal, normals, edge; and a tensor `labels_weights` of which row i is image i and the columns are
semseg, depth and, where there is a third, normals.

No code of a file is run. What a pickle may name is replaced by stand-ins that hold text and numbers, and everything
else that it names is refused.
"""

import hashlib
import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from diffusionmtl import files
from diffusionmtl.errors import UserError, in_one_line

PASCAL_ORDER = ("semseg", "human_parts", "sal", "normals", "edge")
COLUMNS = {2: ("semseg", "depth"), 3: ("semseg", "depth", "normals")}
MAX_BYTES = 16_000_000
_MAX_ROWS = 1_000_000
_WEIGHTS = "labels_weights"
_ARRAY_SUFFIXES, _TORCH_SUFFIXES = (".npy",), (".pth", ".pt")
_ARRAY_START, _ZIP_START = b"\x93NUMPY", b"PK\x03\x04"


class Known(NamedTuple):
    """A file that somebody published: what it is, and how many labels of each task it shows."""

    title: str
    counts: Mapping[str, int]


def _pascal(title: str, *counts: int) -> Known:
    return Known(title, dict(zip(PASCAL_ORDER, counts, strict=True)))


KNOWN: dict[str, Known] = {
    "757b3a95e1bc5145": Known("NYUD-v2, one label", {"semseg": 265, "depth": 265, "normals": 265}),
    "54e7bcbb739bb071": Known("NYUD-v2, random labels", {"semseg": 392, "depth": 408, "normals": 385}),
    "3ded35572b875fc3": Known("Cityscapes, one label", {"semseg": 1487, "depth": 1488}),
    "527915d7728b4e9c": _pascal("PASCAL-Context, one label", 1000, 999, 1000, 1000, 999),
    "65247182ffdcc79e": _pascal("PASCAL-Context, random labels", 2450, 847, 2445, 2480, 2557),
    "1f7577c3dfb2bf89": _pascal("PASCAL-Context, one label", 1000, 999, 1000, 1000, 999),
    "f8a0e6a00990ed7e": _pascal("PASCAL-Context, random labels", 2450, 847, 2445, 2480, 2557),
}
"""By the first 16 hexadecimal digits of the file's SHA-256."""


@dataclass(frozen=True)
class PublishedLabels:
    """What such a file says.

    Attributes:
        visible: per image name its visible tasks.
        tasks: the tasks that the file decides about.
        source: where it comes from, for a person to read.
        rows: how many images it must be applied to, if images go by their number.
    """

    visible: Mapping[str, frozenset[str]]
    tasks: frozenset[str]
    source: str
    rows: int | None = None


def is_published_partition(path: Path) -> bool:
    """Whether a partition file is of one of these forms rather than text, by its first bytes or its suffix."""
    if path.suffix.lower() in (*_ARRAY_SUFFIXES, *_TORCH_SUFFIXES):
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return stream.read(8).startswith((_ARRAY_START, _ZIP_START))
    except OSError:
        return False


def read_published_partition(path: Path) -> PublishedLabels:
    """Read a partition in any of the published forms.

    Raises:
        UserError: unreadable, of none of these forms, with content that is no plain data, or a file known by its hash
            that does not come out with the published number of labels.
    """
    data = _bytes(path)
    content = _from_array(path, data) if _is_array(path, data) else _from_torch(path, data)
    digest = hashlib.sha256(data).hexdigest()[:16]
    known = KNOWN.get(digest)
    source = f"published partition of {known.title} [{digest}]" if known else f"{path} [{digest}, not a known file]"
    visible, tasks, rows = _interpreted(path, content)
    if known is not None:
        counts = {task: sum(task in seen for seen in visible.values()) for task in known.counts}
        if counts != known.counts:
            raise UserError(f"{path}: known as {known.title} with labels {dict(known.counts)}, but read as {counts}")
    return PublishedLabels(visible, tasks, source, rows)


def _bytes(path: Path) -> bytes:
    return files.read_bytes(path, MAX_BYTES, "a partition")


def _is_array(path: Path, data: bytes) -> bool:
    return data.startswith(_ARRAY_START) or (path.suffix.lower() in _ARRAY_SUFFIXES and not data.startswith(_ZIP_START))


class _Dtype:
    """Stands in for numpy.dtype: only the word, `U11`, and the byte order."""

    def __init__(self, word: str, *_: object) -> None:
        self.word, self.order = word, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class _Array:
    """Stands in for numpy.ndarray: an array of objects that has no dimension holds one object."""

    def __init__(self) -> None:
        self.item: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, _, _, items = state
        if shape != () or type(items) is not list or len(items) != 1:
            raise ValueError("an array of one object was expected")
        self.item = items[0]


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _scalar(dtype: _Dtype, data: bytes) -> str:
    """Stands in for the numpy function that makes a numpy.str_: the text of UTF-32 bytes."""
    if type(dtype) is not _Dtype or not dtype.word.startswith("U") or type(data) is not bytes:
        raise ValueError("a number or object stands where an image name was expected")
    return data.decode("utf-32-be" if dtype.order == ">" else "utf-32-le").rstrip("\0")


def _encode(text: str, code: str) -> bytes:
    """How older pickles write bytes."""
    if code != "latin1":
        raise ValueError(f"bytes in code {code!r}")
    return text.encode("latin1")


_STAND_INS = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "_codecs.encode": _encode,
}


class _PlainUnpickler(pickle._Unpickler):
    """Reads dicts, lists, tuples, text, numbers and the stand-ins.

    The Python implementation, not the one in C, for that allocates whatever memory a file asks for.
    """

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in; nothing is imported."""
        word = f"{module}.{name}"
        if word not in _STAND_INS:
            raise ValueError(f"names '{word[:60]}', which is no part of a partition")
        return _STAND_INS[word]

    def load_build(self) -> None:
        """State is given to objects made here, never to a class or function."""
        if type(self.stack[-2]) not in (_Dtype, _Array):  # pyright: ignore[reportAttributeAccessIssue]
            raise ValueError("sets the state of something that has none")
        super().load_build()  # pyright: ignore[reportAttributeAccessIssue]

    dispatch: ClassVar[dict[int, Any]] = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}
    # Makes room for as many bytes as it is told, before it looks whether they are there; no partition has any.
    del dispatch[pickle.BYTEARRAY8[0]]


def _from_array(path: Path, data: bytes) -> Any:
    """The object in a `.npy` that holds a single one."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
        if shape != () or dtype != np.dtype(object):
            raise ValueError(f"an array of {dtype} of shape {shape}, expected a single dict")
        array = _PlainUnpickler(stream).load()
        if type(array) is not _Array:
            raise ValueError("no array in it")
        return array.item
    except Exception as error:  # a damaged pickle makes its reader throw anything
        raise _unreadable(path, error) from None


def _from_torch(path: Path, data: bytes) -> Any:
    stand_ins: list[Any] = [(made, word) for word, made in _STAND_INS.items()]
    try:
        if data.startswith(_ZIP_START):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                    raise ValueError(f"unpacks to more than {MAX_BYTES:,} bytes")
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # as above
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    said = in_one_line(error)
    return UserError(f"{path}: not readable as a published partition ({said}); nothing in it was run")


def _interpreted(path: Path, content: Any) -> tuple[dict[str, frozenset[str]], frozenset[str], int | None]:
    """Visible tasks by image name, the tasks decided about, and the number of rows where images go by number."""
    if isinstance(content, dict) and content:
        if set(content) == {_WEIGHTS}:
            return _weights(path, content[_WEIGHTS])
        if all(isinstance(key, str) and isinstance(value, list) for key, value in content.items()):
            if set(content) <= set(PASCAL_ORDER):
                return _lists(path, content)
            return _masks(path, content)
    raise UserError(
        f"{path}: none of the published forms: a dict of tasks with lists of image names, of image names with "
        f"{len(PASCAL_ORDER)} numbers each, or of the tensor {_WEIGHTS}"
    )


def _lists(path: Path, content: dict[str, list[Any]]) -> tuple[dict[str, frozenset[str]], frozenset[str], None]:
    visible: dict[str, frozenset[str]] = {}
    for task, names in content.items():
        if not all(isinstance(name, str) for name in names):
            raise UserError(f"{path}: task '{task}' lists something that is no image name")
        if len(set(names)) < len(names):
            raise UserError(f"{path}: task '{task}' lists an image twice")
        for name in names:
            visible[name] = visible.get(name, frozenset()) | {task}
    return visible, frozenset(content), None


def _masks(path: Path, content: dict[str, list[Any]]) -> tuple[dict[str, frozenset[str]], frozenset[str], None]:
    for name, mask in content.items():
        if len(mask) != len(PASCAL_ORDER) or not all(type(x) in (int, bool) and x in (0, 1) for x in mask):
            raise UserError(
                f"{path}: image '{name[:80]}' has no {len(PASCAL_ORDER)} numbers 0 or 1 for {', '.join(PASCAL_ORDER)}"
            )
    visible = {
        name: frozenset(task for task, yes in zip(PASCAL_ORDER, mask, strict=True) if yes)
        for name, mask in content.items()
    }
    return visible, frozenset(PASCAL_ORDER), None


def _weights(path: Path, weights: Any) -> tuple[dict[str, frozenset[str]], frozenset[str], int]:
    fits = isinstance(weights, torch.Tensor) and weights.layout is torch.strided and weights.ndim == 2
    if not fits or weights.shape[1] not in COLUMNS or not 0 < weights.shape[0] <= _MAX_ROWS:
        found = tuple(weights.shape) if isinstance(weights, torch.Tensor) else type(weights).__name__
        raise UserError(f"{path}: {_WEIGHTS} is {found}, expected a tensor [images, 2 or 3 tasks]")
    numbers = weights.double().numpy()
    if not np.isin(numbers, (0, 1)).all():
        raise UserError(f"{path}: {_WEIGHTS} holds other numbers than 0 and 1")
    tasks = COLUMNS[weights.shape[1]]
    visible = {
        str(i): frozenset(task for task, yes in zip(tasks, row, strict=True) if yes) for i, row in enumerate(numbers)
    }
    return visible, frozenset(tasks), len(visible)
