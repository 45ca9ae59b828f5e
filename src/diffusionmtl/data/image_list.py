"""Names of images in a file, one a line."""

from pathlib import Path

from diffusionmtl import files
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.errors import UserError, nearest

MAX_BYTES = 100_000_000


def listed_images(path: Path, dataset: DenseDataset) -> list[int]:
    """The positions of the images that a file names, one a line.

    Raises:
        UserError: the file cannot be read, names no image, or one that the data set does not have.
    """
    try:
        lines = files.read_bytes(path, MAX_BYTES, "a list of names").decode("utf-8-sig").splitlines()
    except UserError as error:
        raise UserError(f"--images {error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"--images {path}: not readable as a list of names ({type(error).__name__})") from None
    position = {name: index for index, name in enumerate(dataset.names)}
    chosen: dict[int, None] = {}
    for number, line in enumerate(lines, start=1):
        if not (name := line.strip()):
            continue
        if name not in position:
            raise UserError(
                f"--images {path}, line {number}: data set '{dataset.name}' has no image '{name[:80]}'."
                f"{nearest(name[:80], dataset.names[:1000])}"
            )
        chosen[position[name]] = None
    if not chosen:
        raise UserError(f"--images {path}: names no image; one name a line, without suffix")
    return list(chosen)
