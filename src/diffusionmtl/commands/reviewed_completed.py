"""The predicted labels of a completed data set, for a person to accept or reject."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from diffusionmtl.commands.complete import MANIFEST
from diffusionmtl.commands.completed_files import CONFIDENCE, SPLIT, read_levels
from diffusionmtl.commands.sources import numbered
from diffusionmtl.data.folder import PREDICTED, FolderDataset, label_files
from diffusionmtl.errors import UserError
from diffusionmtl.files import read_json
from diffusionmtl.metrics.precision import threshold_of
from diffusionmtl.report.draw import heat
from diffusionmtl.serve.review import Decision, Pair, Shown

REJECTED = "rejected"
EARLIER = "rejected-earlier"
_SORTED = 1000
"""Of more labels than these it would take long to find out which are the most doubtful."""
_LEAST_RANGE = 0.02


class CompletedFolder:
    """A folder that `diffusionmtl complete` wrote.

    An accepted label stays where it is, below `predicted`; a rejected one is moved to `rejected/TASK`, which training
    never sees, and one that lay there under its name goes to `rejected-earlier/TASK` first. What lies in the folder of
    a task, the labels of people, is neither written, moved nor removed.

    Attributes:
        folder: the data set.
        pairs: the predicted labels, the most doubtful first; by name if there are very many.

    Raises:
        UserError: no such folder, or not a completed one.
    """

    title = "Predicted labels"
    help = (
        "Accept keeps a predicted label; reject moves it to `rejected/`, which training never sees. "
        "Either can be taken back. Labels of people are never touched."
    )

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._split, self._levels = _noted(folder / MANIFEST)
        self._data = FolderDataset.open(folder, self._split)
        self._tasks = {task.name: task for task in self._data.tasks}
        self._index = {name: index for index, name in enumerate(self._data.names)}
        self.pairs: Sequence[Pair] = self._found()

    def digest(self, pair: Pair) -> str:
        """Of the bytes of the label, wherever it lies."""
        return hashlib.sha256(self._file(pair).read_bytes()).hexdigest()[:16]

    def note(self, pair: Pair) -> str:
        """How much of it is kept."""
        level = self._levels.get(pair.task)
        where = "rejected, so it lies aside" if not self._inside(pair).exists() else "in use"
        share = "" if level is None else f"{100 * self._kept(pair):.0f} % of its pixels are sure enough; "
        return f"{share}grey is unknown; {where}"

    def pictures(self, pair: Pair) -> list[Shown]:
        """The image, the label, where it is doubtful, and the labels of people."""
        index = self._index[pair.image]
        image = self._data.image(index).permute(1, 2, 0).numpy()
        task = self._tasks[pair.task]
        label, valid = (x.as_subclass(Tensor) for x in task.with_unknown().read(self._file(pair)))
        shown = [
            Shown("image", np.ascontiguousarray(image)),
            Shown(f"{pair.task}, predicted: judge this", task.draw(label, valid[0])),
            Shown("doubt: bright is unsure", self._doubt(pair)),
        ]
        for name in sorted(self._data.annotated(index)):
            seen, known = (x.as_subclass(Tensor) for x in self._data.label(index, name))
            shown.append(Shown(f"{name}, by a person", self._tasks[name].draw(seen, known[0])))
        return shown

    def apply(self, pair: Pair, decision: Decision | None) -> None:
        """Move the files of a predicted label aside, or back; nothing is ever overwritten."""
        inside, aside = self._stem(pair, rejected=False), self._stem(pair, rejected=True)
        before, after = (inside, aside) if decision == "reject" else (aside, inside)
        for suffix in self._tasks[pair.task].suffixes:
            source, target = before.with_name(before.name + suffix), after.with_name(after.name + suffix)
            if decision == "reject" and source.is_file() and target.exists():
                self._put_by(target)
            if source.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                source.rename(target)

    def _put_by(self, rejected: Path) -> None:
        """A label that was rejected before another was made in its place."""
        inside = rejected.relative_to(self.folder / REJECTED)
        names = (inside.with_name(f"{stem}{inside.suffix}") for stem in numbered(inside.stem))
        free = next(path for name in names if not (path := self.folder / EARLIER / name).exists())
        free.parent.mkdir(parents=True, exist_ok=True)
        rejected.rename(free)

    def _found(self) -> list[Pair]:
        pairs = set()
        for name, task in self._tasks.items():
            inside = label_files(self.folder / self._split / PREDICTED / name, task, self.folder)
            aside = label_files(self.folder / REJECTED / name, task, self.folder)
            pairs |= {Pair(image, name) for image in (*inside, *aside) if image in self._index}
        # A label of a person stands before a predicted one: there is nothing to decide.
        free = [p for p in sorted(pairs) if p.task not in self._data.annotated(self._index[p.image])]
        return free if len(free) > _SORTED else sorted(free, key=lambda pair: (self._kept(pair), pair))

    def _stem(self, pair: Pair, rejected: bool) -> Path:
        above = self.folder / REJECTED if rejected else self.folder / self._split / PREDICTED
        return above / pair.task / pair.image

    def _inside(self, pair: Pair) -> Path:
        return self._existing(pair, rejected=False) or self._stem(pair, rejected=False)

    def _file(self, pair: Pair) -> Path:
        found = self._existing(pair, rejected=False) or self._existing(pair, rejected=True)
        if found is None:
            raise UserError(f"{self._stem(pair, rejected=False)}: the predicted label is gone; start the server again")
        return found

    def _existing(self, pair: Pair, rejected: bool) -> Path | None:
        stem = self._stem(pair, rejected)
        files = (stem.with_name(stem.name + suffix) for suffix in self._tasks[pair.task].suffixes)
        return next((file for file in files if file.is_file()), None)

    def _confidence(self, pair: Pair) -> np.ndarray:
        return read_levels(self.folder / CONFIDENCE / pair.task / f"{pair.image}.png")

    def _kept(self, pair: Pair) -> float:
        level = self._levels.get(pair.task)
        return 0.0 if level is None else float((self._confidence(pair) >= level).mean())

    def _doubt(self, pair: Pair) -> np.ndarray:
        level = self._levels.get(pair.task)
        top = 0.5 if level is None else max(2 * (1 - threshold_of(level)), _LEAST_RANGE)
        return heat(1 - self._confidence(pair) * threshold_of(1), top)


def _noted(path: Path) -> tuple[str, Mapping[str, int | None]]:
    """The split that was completed, and per task the level from which on pixels are kept."""
    if not path.exists():
        raise UserError(f"{path}: no such file; give the folder that 'diffusionmtl complete --out' wrote")
    try:
        manifest: Mapping[str, Any] = read_json(path)
        levels = {task: None if of["level"] is None else int(of["level"]) for task, of in manifest["tasks"].items()}
        return str(manifest.get("split", SPLIT)), levels  # which earlier versions did not write
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise UserError(f"{path}: damaged; run 'diffusionmtl complete' again into another folder") from None
