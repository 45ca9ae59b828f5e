"""`diffusionmtl data arrange`: plain folders of images and of labels become a data set with `train` and `val`."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from diffusionmtl.commands.finished import copy, link
from diffusionmtl.commands.output import check_claimable, progress_bar
from diffusionmtl.data.description import IMAGES
from diffusionmtl.data.folder import plain_files
from diffusionmtl.errors import UserError, some
from diffusionmtl.files import IMAGE_SUFFIXES, check_plain, nearest_beside
from diffusionmtl.seeds import derive_seed
from diffusionmtl.tasks.base import name_fault, task_kinds


@dataclass(frozen=True)
class _Found:
    """What lies in a folder that was named.

    Attributes:
        option: the words that named it.
        folder: where it is.
        files: name, the path below the folder without suffix, to the suffix.
        others: paths below the folder of files that are not read.
    """

    option: str
    folder: Path
    files: Mapping[str, str]
    others: tuple[str, ...]

    def path(self, name: str) -> Path:
        """The file of that name."""
        return self.folder / (name + self.files[name])


@dataclass(frozen=True)
class _Layout:
    """Which images go to which split, and where the files lie."""

    splits: Mapping[str, Collection[str]]
    images: _Found
    labels: Mapping[str, _Found]

    def moves(self) -> list[tuple[Path, Path]]:
        """Where each file comes from, and where it goes below the data set."""
        return [
            (of.path(name), Path(split, folder, name + of.files[name]))
            for split, names in self.splits.items()
            for folder, of in [(IMAGES, self.images), *self.labels.items()]
            for name in names
            if name in of.files
        ]

    def notes(self) -> Iterator[str]:
        """How many images and labels each split has, what was left out, and what looks wrong."""
        for split, names in self.splits.items():
            counts = (f"{task} {sum(name in of.files for name in names)}" for task, of in self.labels.items())
            yield f"{split}: {len(names)} images ({', '.join(counts)})"
        if bare := [n for n in self.splits["train"] if not any(n in of.files for of in self.labels.values())]:
            yield f"note: images without any label, all in train: {some(bare)}"
        for of in (self.images, *self.labels.values()):
            if of.others:
                yield f"note: {of.option}: left out, of another format: {some(of.others)}"
        for task, of in self.labels.items():
            if lost := [name + suffix for name, suffix in of.files.items() if name not in self.images.files]:
                yield f"warning: {of.option}: left out, no image has their name: {some(lost)}"
            if of.files.keys().isdisjoint(self.splits.get("val", of.files)):
                yield f"warning: val has no label of {task}, so nothing will score it; add labels"


def arrange(
    images: Path, labels: Mapping[str, Path], out: Path, val: float = 0.2, seed: int = 0, linked: bool = False
) -> str:
    """Lay out a data set folder of files that are paired by their names; no byte of them is changed.

    All or nothing: the files are put into `.OUT.part` beside `out`, which is renamed once everything is there.

    Args:
        images: folder of images; those in folders below it keep their path.
        labels: per task the folder of its labels, which are named as the images are.
        out: a folder that is not there yet.
        val: share of the labelled images that becomes `val`, 0 <= val < 1; how they are chosen says `put_aside`.
        seed: another one chooses other images.
        linked: give the files second names (hard links) instead of copying them, where the disk can.

    Returns:
        How many images and labels each split has, then what was left out and what looks wrong, a line each.

    Raises:
        UserError: `out` is there; a folder is missing, holds nothing or lies in another one; a name stands for two
            files; no label of a task has the name of an image; too few labels for `val`; a file cannot be read, or
            there is no room for the copies.
    """
    if not 0 <= val < 1:
        raise UserError(f"--val {val:g}: is a share, 0 or more and less than 1; 0.2 for instance")
    if os.path.lexists(out):
        raise UserError(f"--out {out}: exists; name a new folder for the data set")
    check_claimable(out, "the data set")
    named = {f"--images {images}": images} | {f"--labels {task}={folder}": folder for task, folder in labels.items()}
    _check_apart({**named, f"--out {out}": out})
    photos = _found(f"--images {images}", images, IMAGE_SUFFIXES, "images")
    suffixes = list(dict.fromkeys(suffix for kind in task_kinds().values() for suffix in kind.suffixes))
    found = {task: _found(f"--labels {task}={path}", path, suffixes, "labels") for task, path in labels.items()}
    for of in found.values():
        _check_paired(of, photos)
    names = sorted(photos.files)
    # A link to another image is that image, and must not be trained on where the other is scored.
    first = {photos.path(name).resolve(): name for name in reversed(names)}
    one = {name: first[photos.path(name).resolve()] for name in names}
    labelled: dict[str, frozenset[str]] = {}
    for name in names:
        have = frozenset(task for task, of in found.items() if name in of.files)
        labelled[one[name]] = labelled.get(one[name], frozenset()) | have
    chosen = put_aside(labelled, val, seed)
    apart = {name for name in names if one[name] in chosen}
    if val and not apart:
        raise UserError(f"--val {val:g}: no task has two labels, so none can be put aside; add labels, or say --val 0")
    splits = {"train": [name for name in names if name not in apart]}
    if apart:
        splits["val"] = [name for name in names if name in apart]
    layout = _Layout(splits, photos, found)
    _write(out, layout.moves(), linked)
    return "\n".join([f"{out}:", *layout.notes()])


def put_aside(labelled: Mapping[str, frozenset[str]], share: float, seed: int) -> frozenset[str]:
    """Choose images to score, so that they have about the same mixture of labels as the others.

    Images that are labelled for the same tasks stand together in a line, in an order drawn by `seed`, and every n-th of
    the line is chosen. No task loses its last label for training, and each that has two has one among the chosen if
    that costs no other task its last.

    Args:
        labelled: per image its tasks; an image without any is not chosen.
        share: 0 <= share < 1 of the labelled images.
        seed: of the draw; neither the order of the images nor the machine counts.
    """
    order = sorted(
        (name for name, have in labelled.items() if have),
        key=lambda name: (sorted(labelled[name]), derive_seed(seed, name)),
    )
    if not share or not order:
        return frozenset()
    left = Counter(task for have in labelled.values() for task in have)
    chosen: set[str] = set()

    def choose(names: Iterable[str]) -> None:
        for name in names:
            if name not in chosen and all(left[task] > 1 for task in labelled[name]):
                chosen.add(name)
                left.subtract(labelled[name])
                return

    wanted = max(1, round(share * len(order)))
    start = derive_seed(seed) / 2**63
    for number in range(wanted):
        # As a float, `start` may be 1.
        choose([order[min(int((number + start) * len(order) / wanted), len(order) - 1)]])
    for task in sorted(left):
        if not any(task in labelled[name] for name in chosen):
            choose(name for name in order if task in labelled[name])
    return frozenset(chosen)


def _check_apart(folders: Mapping[str, Path]) -> None:
    for (one, a), (other, b) in combinations(folders.items(), 2):
        above, below = a.resolve(), b.resolve()
        if above == below:
            raise UserError(
                f"{other}: the same folder as {one}; images and the labels of each task need one of their own"
            )
        if above.is_relative_to(below) or below.is_relative_to(above):
            inner, outer = (one, other) if above.is_relative_to(below) else (other, one)
            raise UserError(f"{inner}: lies in {outer}, so its files would pass for those; choose a place beside that")


def _found(option: str, folder: Path, suffixes: Collection[str], what: str) -> _Found:
    if not folder.is_dir():
        said = "is a file, a folder was expected" if folder.exists() else f"no such folder.{nearest_beside(folder)}"
        raise UserError(f"{option}: {said}".removesuffix("."))
    files: dict[str, str] = {}
    others: list[str] = []
    for name, suffix in plain_files(folder, folder):
        if suffix.lower() not in suffixes:
            others.append(name + suffix)
        elif name in files:
            raise UserError(
                f"{option}: two {what} are named '{name}': {name}{files[name]} and {name}{suffix}; "
                "nobody could tell which is meant, rename or remove one"
            )
        else:
            files[name] = suffix
    if not files:
        jpeg = ", for a JPEG changes their numbers" if what == "labels" else ""
        instead = f"; it has {some(others)}: export these anew{jpeg}" if others else ""
        raise UserError(f"{option}: no {what} in it, which are {', '.join(s[1:] for s in suffixes)} files{instead}")
    return _Found(option, folder, files, tuple(others))


def _check_paired(labels: _Found, images: _Found) -> None:
    if labels.files.keys().isdisjoint(images.files):
        label, image = (of.path(min(of.files)) for of in (labels, images))
        raise UserError(
            f"{labels.option}: none of its {len(labels.files)} labels has the name of an image, {label} for instance, "
            f"where images are called {image}; a label has the name of its image, sub-folders too, but for the suffix"
        )


def _write(out: Path, moves: list[tuple[Path, Path]], linked: bool) -> None:
    size = sum(check_plain(source) for source, _ in moves)
    made = [path for path in out.absolute().parents if not path.exists()]
    free = shutil.disk_usage(next(path for path in out.absolute().parents if path.exists())).free
    if not linked and size > free:
        raise UserError(
            f"--out {out}: {size:,} bytes to copy and {free:,} free; make room, or choose another disk, or give the "
            "files second names with --link on the disk that they are on"
        )
    begun = out.with_name(f".{out.name}.part")
    try:
        begun.mkdir(parents=True)
    except FileExistsError:
        raise UserError(
            f"{begun}: left over from a call that was killed, unless another one is at work; remove it, then ask again"
        ) from None
    try:
        _put(begun, moves, link if linked else copy)
        if os.path.lexists(out):
            raise UserError(f"--out {out}: came into being meanwhile; name another folder")
        begun.rename(out)
    except BaseException:  # Ctrl-C too
        shutil.rmtree(begun, ignore_errors=True)
        for path in made:
            with suppress(OSError):  # somebody else may have put something there
                path.rmdir()
        raise


def _put(folder: Path, moves: list[tuple[Path, Path]], put: Callable[[Path, Path], None]) -> None:
    progress = progress_bar("arranging", "files")
    for number, (source, to) in enumerate(moves, start=1):
        if (folder / to).exists():
            raise UserError(f"{source}: this disk takes its name for that of another file beside it; rename one")
        put(source.resolve(), folder / to)
        progress(number, len(moves))


def parse_labels(words: Iterable[str]) -> dict[str, Path]:
    """`TASK=FOLDER` words.

    Raises:
        UserError: a word that is none, a task that is named twice, or one that can be no folder of a data set.
    """
    found: dict[str, Path] = {}
    for word in words:
        task, _, folder = word.partition("=")
        if not task or not folder:
            raise UserError(f"--labels {word}: write TASK=FOLDER, semseg=masks for instance")
        if fault := name_fault(task):
            raise UserError(f"--labels {word}: '{task}' cannot be the name of a task; {fault}")
        if task in found:
            raise UserError(f"--labels {word}: task '{task}' has {found[task]} already; give each task one folder")
        if twin := next((other for other in found if other.casefold() == task.casefold()), None):
            raise UserError(f"--labels {word}: '{twin}' and '{task}' are one folder on many disks; rename a task")
        found[task] = Path(folder)
    return found
