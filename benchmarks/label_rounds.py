"""One round of the experiment of label efficiency: choose labels, train a network on all so far, score it.

`python benchmarks/label_rounds.py OUT SEED WAY NUMBER` works on one as a process of its own.
"""

import _thread
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from diffusionmtl.build import build_training_set, restore_run  # noqa: E402
from diffusionmtl.commands.cell import finished, training_images  # noqa: E402
from diffusionmtl.commands.evaluate import evaluate_run, save_metrics  # noqa: E402
from diffusionmtl.commands.suggest import Asked, suggest  # noqa: E402
from diffusionmtl.commands.suggested_files import PARTITION  # noqa: E402
from diffusionmtl.commands.train import train  # noqa: E402
from diffusionmtl.config import Settings, changed, settings_from_flat  # noqa: E402
from diffusionmtl.data.partition import Partition, annotations, one_label  # noqa: E402
from diffusionmtl.errors import UserError  # noqa: E402
from diffusionmtl.files import read_json, write_bytes_atomically  # noqa: E402
from diffusionmtl.inference.doubt import Draws  # noqa: E402
from diffusionmtl.inference.suggest import Strategy  # noqa: E402
from diffusionmtl.plain_yaml import read_yaml  # noqa: E402
from diffusionmtl.runfolder import RunFolder  # noqa: E402
from diffusionmtl.seeds import derive_seed  # noqa: E402
from diffusionmtl.training.run import Stopped  # noqa: E402

START = "start"
RANDOM = "random"
EXIT_STOPPED = 130


@dataclass(frozen=True)
class Plan:
    """What every round of the experiment depends on; how many seeds, ways and rounds there are is not part of it.

    Attributes:
        settings: of every training, but for labels, epochs and seed.
        start: images with one label each at the beginning.
        each: what a round may cost; the number of labels if nothing has a price.
        updates: steps of each training, about: whole epochs.
        samples: noise draws of suggestions.
        prices: by task; 1 if it is left out.
    """

    settings: Settings
    start: int
    each: float
    updates: int
    samples: int
    prices: tuple[tuple[str, float], ...] = ()

    def said(self) -> dict[str, Any]:
        """As plain data."""
        own = {word: getattr(self, word) for word in ("start", "each", "updates", "samples")}
        return {**own, "prices": dict(self.prices), "settings": self.settings.flat()}


@dataclass(frozen=True)
class Round:
    """A training: the one that a seed starts with (number 0 of START), or one of a way of choosing."""

    seed: int
    way: str
    number: int

    @property
    def before(self) -> "Round | None":
        """The round whose network chooses and whose labels are kept; None for the first."""
        if self.way == START:
            return None
        return Round(self.seed, self.way, self.number - 1) if self.number > 1 else Round(self.seed, START, 0)

    def folder(self, out: Path) -> Path:
        """Everything of it."""
        place = out / f"seed-{self.seed}"
        return place / START if self.way == START else place / self.way / f"round-{self.number}"

    def labels(self, out: Path) -> Path:
        """The partition that its training sees."""
        folder = self.folder(out)
        return folder / PARTITION if self.way == START else folder / "suggested" / PARTITION

    def run(self, out: Path) -> RunFolder:
        """What it trained; its scores are written last."""
        return RunFolder(self.folder(out) / "run")

    def done(self, out: Path) -> bool:
        """Whether nothing of it is left to do."""
        return self.run(out).metrics.is_file()


def rounds_of(seeds: Iterable[int], ways: Iterable[str], number: int) -> list[Round]:
    """All of them, each after the one before it, one seed after another."""
    steps, ways = range(1, number + 1), list(ways)
    return [
        one
        for seed in seeds
        for one in [Round(seed, START, 0), *(Round(seed, way, step) for step in steps for way in ways)]
    ]


def keep_plan(plan: Plan, out: Path) -> None:
    """Note what the folder holds, or see that it holds just that.

    Raises:
        UserError: it was begun with something else.
    """
    path = out / "plan.json"
    if not path.is_file():
        write_bytes_atomically(path, (json.dumps(plan.said(), indent=1) + "\n").encode())
    kept, asked = _flat(read_plan(out).said()), _flat(plan.said())
    for word in sorted(kept.keys() | asked.keys()):
        if kept.get(word) != asked.get(word):
            raise UserError(
                f"{path}: was begun with {word} {kept.get(word)}, not {asked.get(word)}; choose another --out"
            )


def _flat(said: Mapping[str, Any]) -> dict[str, Any]:
    return {**said, **said["settings"], "settings": None}


def read_plan(out: Path) -> Plan:
    """What `keep_plan` wrote.

    Raises:
        UserError: it is missing or damaged.
    """
    path = out / "plan.json"
    try:
        said = read_json(path)
        settings = settings_from_flat(said.pop("settings"), str(path))
        return Plan(settings, prices=tuple(said.pop("prices").items()), **said)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path}: not the plan of an experiment ({type(error).__name__}); choose another --out"
        ) from None


def work(one: Round, plan: Plan, out: Path) -> None:
    """Choose labels, train and score, or go on where an earlier call was stopped. Its round before must be done.

    Raises:
        UserError: nothing is left to choose, or the labels do not fill a batch.
        Stopped, KeyboardInterrupt: the same call goes on.
    """
    labels = one.labels(out)
    if not labels.is_file():
        _choose(one, plan, out)
    run = one.run(out)
    if not run.config.is_file():
        # Left by a process that was killed between two files.
        shutil.rmtree(run.root, ignore_errors=True)
        train(_settings(plan, one.seed, labels), run.root, progress=False)
    else:
        settings = restore_run(read_yaml(run.config), str(run.config))[0]
        if not finished(run, settings):
            train(settings, run.root, resume=True, progress=False)
    save_metrics(run, evaluate_run(run.root, plan.settings.data, progress=False))


def _choose(one: Round, plan: Plan, out: Path) -> None:
    before = one.before
    if before is None:
        _start(plan, one.seed, one.labels(out))
        return
    # Chance asks nobody: one look, for the figures beside its choices. Each round has a chance of its own.
    samples, flip = (1, False) if one.way == RANDOM else (plan.samples, True)
    draws = Draws(samples, derive_seed(one.seed, before.folder(out).name), flip)
    asked = Asked(plan.each, plan.prices, cast(Strategy, one.way), draws)
    shown = 0 if one.way == RANDOM else 12
    run, labels = before.run(out).root, str(before.labels(out))
    suggest(run, plan.settings.data, one.labels(out).parent, asked, labels=labels, progress=False, shown=shown)


def _start(plan: Plan, seed: int, path: Path) -> None:
    """One label for each of a few images by chance, as equal in number per task as can be."""
    dataset = build_training_set(plan.settings.data)
    rng = np.random.default_rng(derive_seed(seed, "label efficiency"))
    names = sorted(dataset.names[i] for i in rng.choice(len(dataset), plan.start, replace=False))
    known = annotations(dataset)
    few = one_label({name: known[name] for name in names}, [task.name for task in dataset.tasks], seed)
    visible = {name: few.visible.get(name, frozenset()) for name in dataset.names}
    Partition(visible, f"one label for each of {plan.start} images, seed {seed}").save(path)


def _settings(plan: Plan, seed: int, labels: Path) -> Settings:
    """So many epochs that steps come out alike, however many images the labels lie on."""
    seen = Partition.load(labels, build_training_set(plan.settings.data))
    per_epoch = max(1, training_images(plan.settings, seen) // plan.settings.train.batch)
    return changed(plan.settings, labels=str(labels), epochs=max(1, round(plan.updates / per_epoch)), seed=seed)


def main(words: list[str]) -> int:
    """Work on one round, and stop in an orderly way when whoever started it is gone."""
    out, seed, way, number = words
    threading.Thread(target=_stop_when_alone, daemon=True).start()
    try:
        work(Round(int(seed), way, int(number)), read_plan(Path(out)), Path(out))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except (Stopped, KeyboardInterrupt):
        return EXIT_STOPPED
    return 0


def _stop_when_alone() -> None:
    os.read(sys.stdin.fileno(), 1)
    _thread.interrupt_main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
