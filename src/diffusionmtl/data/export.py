"""Any data set written as a partly labelled folder."""

from collections.abc import Callable, Mapping, Set
from pathlib import Path

from torch import Tensor

from diffusionmtl import files
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.description import IMAGES, write_dataset_yaml
from diffusionmtl.errors import UserError


def export_folder(
    out: Path,
    splits: Mapping[str, DenseDataset],
    visible: Mapping[str, Mapping[str, Set[str]]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write data sets of equal tasks as the splits of one partly labelled folder; images become PNGs.

    Args:
        visible: per split and image name the tasks to write labels of, a partition's `visible` for instance; a hidden
            label is neither read nor written. A split that is left out gets every label.
        progress: called with (done, all) images.

    Raises:
        UserError: `out` is not an empty or new folder, it cannot be written, or a label cannot be read.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not an empty folder; name a new one")
    total, done = sum(map(len, splits.values())), 0
    try:
        write_dataset_yaml(out, next(iter(splits.values())).tasks)
        for split, dataset in splits.items():
            for index, name in enumerate(dataset.names):
                seen = dataset.annotated(index)
                if visible is not None and split in visible:
                    seen = seen & visible[split].get(name, frozenset())
                _write(out / split, dataset, index, seen)
                done += 1
                if progress is not None:
                    progress(done, total)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error}); choose another folder") from None


def _write(folder: Path, dataset: DenseDataset, index: int, tasks: Set[str]) -> None:
    name = dataset.names[index]
    files.write_picture(folder / IMAGES / f"{name}.png", dataset.image(index).permute(1, 2, 0).numpy())
    for task in dataset.tasks:
        if task.name in tasks:
            label, valid = dataset.label(index, task.name)
            task.write(folder / task.name / name, label.as_subclass(Tensor), valid.as_subclass(Tensor)[0])
