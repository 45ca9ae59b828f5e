"""The published benchmarks by the words of the command line."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from diffusionmtl.data import cityscapes, nyud, pascal_context
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.errors import UserError

BENCHMARKS: Mapping[str, Callable[[Path, str, Sequence[str] | None, int], DenseDataset]] = {
    "pascal-context": pascal_context.PascalContext.open,
    "nyud": nyud.open_nyud,
    "cityscapes": cityscapes.open_cityscapes,
    "cityscapes-19": partial(cityscapes.open_cityscapes, classes=19),
    "cityscapes-2": partial(cityscapes.open_cityscapes, classes=2),
}
_PUBLISHERS = {
    "pascal-context": pascal_context.PUBLISHER,
    "nyud": nyud.ARRAYS_PUBLISHER,
    "cityscapes": cityscapes.ARRAYS_PUBLISHER,
}


def open_benchmark(
    name: str, root: str | None, split: str, tasks: Sequence[str] | None, max_pixels: int
) -> DenseDataset:
    """One split of a benchmark.

    Args:
        name: a word of `BENCHMARKS`.
        root: where its files are.
        split: train or val.
        tasks: as its own `open` says.

    Raises:
        UserError: `root` is None, or the files are not there.
    """
    if root is None:
        publisher = next(who for word, who in _PUBLISHERS.items() if name.startswith(word))
        raise UserError(f"--data {name}: say where its files are with --root DIR. Published by {publisher}")
    return BENCHMARKS[name](Path(root).expanduser(), split, tasks, max_pixels)
