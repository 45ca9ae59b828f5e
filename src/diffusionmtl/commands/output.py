"""What commands share: where they may write, words of options, tables and progress."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from diffusionmtl.errors import UserError
from diffusionmtl.pace import Pace

BEGUN = ".begun"


def claim_folder(path: Path, what: str) -> None:
    """Make an output folder, which must be new or empty.

    Raises:
        UserError: it is a file, holds something already, or cannot be written to.
    """
    check_claimable(path, what)
    writable_folder(path)


def begin_folder(path: Path, what: str) -> Path:
    """As `claim_folder`; what comes back is a note in the folder that not all is there of what going on takes.

    Remove it when it is. A process that is killed before leaves it, and the folder can be claimed as if it were empty.
    """
    check_claimable(path, what)
    return _touched(path, BEGUN)


def check_claimable(path: Path, what: str) -> None:
    """Find out what can be told of `claim_folder` without writing, before long work is done for nothing.

    Raises:
        UserError: the folder is a file, holds something already, or what it would lie in cannot be written to.
    """
    if path.is_dir() and any(path.iterdir()) and not (path / BEGUN).exists():
        raise UserError(f"--out {path}: exists and is not empty; name a new folder for {what}")
    above = _check_no_file(path)
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"--out {path}: {above} cannot be written to; choose another folder")


def writable_folder(path: Path) -> None:
    """Make a folder if need be and see that it can be written to.

    Raises:
        UserError: it is a file, or cannot be made or written to.
    """
    _touched(path, f".write-test-{os.getpid()}").unlink(missing_ok=True)


def _touched(path: Path, name: str) -> Path:
    _check_no_file(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
        return path / name
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written to ({error.strerror or error}); choose another") from None


def _check_no_file(path: Path) -> Path:
    """The deepest folder on the way to `path` that is there already."""
    above = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not above.is_dir():
        raise UserError(f"--out {path}: {'' if above == path else f'{above} '}is a file; choose a folder")
    return above


def progress_bar(what: str, unit: str = "images") -> Callable[[int, int], None]:
    """A function (done, total) that draws a progress bar; where no terminal shows it, a line now and then."""
    bar: tqdm | None = None
    pace = Pace()

    def show(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, desc=what, unit=unit, leave=False, dynamic_ncols=True, disable=None)
        bar.update(done - bar.n)
        pace.say(what, done, total, unit)
        if done >= total:
            bar.close()

    return show


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table, first column left and the others right aligned."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *rest]).rstrip()

    return "\n".join([line(columns), "  ".join("-" * w for w in widths), *map(line, rows)])


def figure(value: float) -> str:
    """A number as tables print it: four decimals below one, else two."""
    if math.isnan(value):
        return "–"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.2f}"


def task_numbers(
    option: str, given: Iterable[str], fits: Callable[[float], bool], form: str
) -> tuple[tuple[str, float], ...]:
    """An option's `TASK=NUMBER` words; of a task that is named twice the last.

    Args:
        fits: whether a number may be given; NaN must not fit.
        form: how to write such a word, for the error.

    Raises:
        UserError: a word that is none.
    """
    found: dict[str, float] = {}
    for word in given:
        task, _, number = word.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not task or not fits(value):
            raise UserError(f"{option} {word}: write {form}")
        found[task] = value
    return tuple(found.items())
