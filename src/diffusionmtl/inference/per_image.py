"""What each image of an evaluation adds to the headline figures, kept so that they can be pooled over other images."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from diffusionmtl.errors import UserError
from diffusionmtl.files import check_plain, promised_bytes, write_bytes_atomically

FINAL, INITIAL = "final", "initial"
MAX_BYTES = 500_000_000
_HEADER_BYTES = 1 << 16


@dataclass(frozen=True)
class PerImage:
    """Of one task.

    Attributes:
        images: the scored images, as positions in the data set.
        statistics: per image what `Meter.statistics` says of it; sums of rows give the figure of those images.
    """

    images: tuple[int, ...]
    statistics: Float64[np.ndarray, "n s"]


def save_per_image(path: Path, parts: Mapping[str, Mapping[str, PerImage]]) -> None:
    """Write a compressed `.npz`, atomically: per part and task the images and their statistics."""
    arrays: dict[str, np.ndarray] = {}
    for part, tasks in parts.items():
        for task, kept in tasks.items():
            arrays[f"{part}/{task}/images"] = np.array(kept.images, dtype=np.int64)
            arrays[f"{part}/{task}/statistics"] = kept.statistics
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # pyright: ignore[reportArgumentType]
    write_bytes_atomically(path, stream.getvalue())


def load_per_image(path: Path) -> dict[str, dict[str, PerImage]]:
    """The reverse of `save_per_image`.

    Raises:
        UserError: the file is missing or is not such a file.
    """
    found: dict[str, dict[str, PerImage]] = {}
    check_plain(path)
    try:
        _check_size(path)
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                part, task, what = key.split("/")
                if what == "images":
                    images = tuple(int(index) for index in arrays[key])
                    found.setdefault(part, {})[task] = PerImage(images, arrays[f"{part}/{task}/statistics"])
    except Exception as error:  # a damaged archive makes its reader throw anything
        raise UserError(
            f"{path}: not the scores per image of an evaluation ({type(error).__name__}); evaluate the run again"
        ) from None
    return found


def _check_size(path: Path) -> None:
    # Numbers of images hardly shrink by packing, so what claims to has been made to fill a memory.
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_BYTES:
            raise ValueError(f"unpacks to {unpacked:,} bytes")
        for entry in archive.infolist():
            with archive.open(entry) as stream:
                if (promised := promised_bytes(stream.read(_HEADER_BYTES))) > entry.file_size:
                    raise ValueError(f"{entry.filename} promises {promised:,} bytes")
