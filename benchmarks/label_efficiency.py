"""python benchmarks/label_efficiency.py --out DIR [--seeds 0 1 2] [--rounds 4] [--by gain random] [--quick]

What labels buy that `diffusionmtl suggest` chooses, against as many chosen by chance, on drawn rooms: train on few
labels, choose more, reveal them, train anew, and so on. Whatever a call has finished, a later one with the same words
keeps.
"""

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks.label_curves import label_curves  # noqa: E402
from diffusionmtl.build import build_training_set, restore_run  # noqa: E402
from diffusionmtl.commands.cell import finished  # noqa: E402
from diffusionmtl.commands.evaluate import evaluate_run, save_metrics  # noqa: E402
from diffusionmtl.commands.output import text_table  # noqa: E402
from diffusionmtl.commands.suggest import Asked, parse_prices, suggest  # noqa: E402
from diffusionmtl.commands.suggested_files import PARTITION  # noqa: E402
from diffusionmtl.commands.train import train  # noqa: E402
from diffusionmtl.config import Settings, changed  # noqa: E402
from diffusionmtl.data.base import DenseDataset  # noqa: E402
from diffusionmtl.data.partition import Partition, annotations, one_label  # noqa: E402
from diffusionmtl.errors import UserError  # noqa: E402
from diffusionmtl.files import write_bytes_atomically  # noqa: E402
from diffusionmtl.inference.doubt import Draws  # noqa: E402
from diffusionmtl.plain_yaml import read_yaml  # noqa: E402
from diffusionmtl.report.tables import gain, headline  # noqa: E402
from diffusionmtl.runfolder import RunFolder  # noqa: E402
from diffusionmtl.seeds import derive_seed  # noqa: E402
from diffusionmtl.tasks import Task  # noqa: E402
from diffusionmtl.training.run import Stopped  # noqa: E402

STARTED = "start"


@dataclass(frozen=True)
class Plan:
    """The experiment.

    Attributes:
        settings: of every training, but for labels, epochs and seed.
        start: images with one label each at the beginning.
        each: what a round may cost; the number of labels if nothing has a price.
        updates: steps of each training, about: whole epochs.
        samples: noise draws of suggestions.
    """

    settings: Settings
    seeds: tuple[int, ...]
    rounds: int
    ways: tuple[str, ...]
    start: int
    each: float
    updates: int
    samples: int
    prices: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Row:
    """One training.

    Attributes:
        way: how its labels were chosen.
        cost: of all labels, those of the start included.
        images: that have a label.
        gain: Δm in percent over the network of the start of this seed.
        figures: by task, the headline figure.
    """

    seed: int
    way: str
    round: int
    labels: int
    cost: float
    images: int
    gain: float
    figures: Mapping[str, float]


def run_all(plan: Plan, out: Path) -> list[Row]:
    """Every training, or what is missing of them; the figures so far are written after each."""
    dataset = build_training_set(plan.settings.data)
    rows: list[Row] = []
    for seed in plan.seeds:
        place = out / f"seed-{seed}"
        first = _trained(plan, seed, place / STARTED, _start(plan, dataset, seed, place / STARTED / PARTITION))
        for way in plan.ways:
            rows.append(_row(dataset, plan, seed, way, 0, place / STARTED, first, first))
            before = place / STARTED
            for number in range(1, plan.rounds + 1):
                here = place / way / f"round-{number}"
                labels = _chosen(plan, seed, way, before, here / "suggested")
                scores = _trained(plan, seed, here, labels)
                rows.append(_row(dataset, plan, seed, way, number, here, scores, first))
                before = here
                write(out, rows, dataset.tasks)
                print(
                    f"seed {seed}, {way}, round {number}: {rows[-1].labels} labels, {rows[-1].gain:+.2f} %", flush=True
                )
    return rows


def _start(plan: Plan, dataset: DenseDataset, seed: int, path: Path) -> Path:
    """One label for each of a few images by chance, as equal in number per task as can be."""
    if not path.is_file():
        rng = np.random.default_rng(derive_seed(seed, "label efficiency"))
        names = sorted(dataset.names[i] for i in rng.choice(len(dataset), plan.start, replace=False))
        known = annotations(dataset)
        few = one_label({name: known[name] for name in names}, [task.name for task in dataset.tasks], seed)
        visible = {name: few.visible.get(name, frozenset()) for name in dataset.names}
        Partition(visible, f"one label for each of {plan.start} images, seed {seed}").save(path)
    return path


def _chosen(plan: Plan, seed: int, way: str, before: Path, out: Path) -> Path:
    if not (out / PARTITION).is_file():
        # Chance asks nobody: one look, for the figures beside its choices.
        draws = Draws(1, seed, False) if way == "random" else Draws(plan.samples, seed, True)
        # The same chance in every round would draw from the same order again.
        draws = replace(draws, seed=derive_seed(seed, before.name))
        asked = Asked(plan.each, plan.prices, way, draws)  # pyright: ignore[reportArgumentType]
        suggest(before / "run", plan.settings.data, out, asked, labels=str(_labels(before)), progress=False, shown=12)
    return out / PARTITION


def _labels(folder: Path) -> Path:
    return folder / PARTITION if folder.name == STARTED else folder / "suggested" / PARTITION


def _trained(plan: Plan, seed: int, folder: Path, labels: Path) -> dict[str, Any]:
    """Scores of a run in `folder / run`, trained and scored now if need be."""
    run = RunFolder(folder / "run")
    seen = sum(1 for line in labels.read_text(encoding="utf-8").splitlines() if "\t" in line and line[0] != "#")
    steps = max(1, seen // plan.settings.train.batch)
    settings = changed(plan.settings, labels=str(labels), epochs=max(1, round(plan.updates / steps)), seed=seed)
    if run.config.is_file() and restore_run(read_yaml(run.config), str(run.config))[0] != settings:
        raise UserError(f"--out {folder}: holds a run with other settings; choose another folder or remove it")
    if not finished(run, settings):
        train(settings, run.root, resume=run.config.is_file(), progress=False)
    if not run.metrics.is_file():
        save_metrics(run, evaluate_run(run.root, settings.data, progress=False))
    return json.loads(run.metrics.read_text(encoding="utf-8"))


def _row(
    dataset: DenseDataset,
    plan: Plan,
    seed: int,
    way: str,
    number: int,
    folder: Path,
    scores: Mapping[str, Any],
    first: Mapping[str, Any],
) -> Row:
    found = Partition.load(_labels(folder), dataset)
    counts = found.counts(task.name for task in dataset.tasks)
    prices = dict(plan.prices)
    now, then = (_known(of["final"]) for of in (scores, first))
    over = gain(dataset.tasks, now, then)
    return Row(
        seed,
        way,
        number,
        sum(counts.values()),
        sum(count * prices.get(task, 1.0) for task, count in counts.items()),
        sum(bool(tasks) for tasks in found.visible.values()),
        math.nan if over is None else over,
        {task.name: headline(task, now) for task in dataset.tasks},
    )


def _known(figures: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float]]:
    return {task: {k: math.nan if v is None else v for k, v in of.items()} for task, of in figures.items()}


def write(out: Path, rows: Sequence[Row], tasks: Sequence[Task]) -> None:
    """`label-efficiency.csv` and `label-efficiency.svg`."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = ["seed", "by", "round", "labels", "cost", "images", "delta_m"]
    writer.writerow([*head, *(f"{task.name} {task.headline}" for task in tasks)])
    for row in rows:
        first = [row.seed, row.way, row.round, row.labels, f"{row.cost:g}", row.images, f"{row.gain:.4f}"]
        writer.writerow([*first, *(f"{row.figures[task.name]:.6g}" for task in tasks)])
    write_bytes_atomically(out / "label-efficiency.csv", stream.getvalue().encode())
    curves: dict[str, list[list[tuple[float, float]]]] = {}
    for way in dict.fromkeys(row.way for row in rows):
        lines = [[(r.labels, r.gain) for r in rows if (r.way, r.seed) == (way, seed)] for seed in _seeds(rows, way)]
        curves[way] = [[point for point in line if math.isfinite(point[1])] for line in lines]
    drawn = label_curves("What more labels buy", "Δm, %", {way: lines for way, lines in curves.items() if all(lines)})
    write_bytes_atomically(out / "label-efficiency.svg", drawn.encode())


def _seeds(rows: Sequence[Row], way: str) -> list[int]:
    return sorted({row.seed for row in rows if row.way == way})


def summary(rows: Sequence[Row]) -> str:
    """Per round the mean gain of each way, and by how much the first exceeds each other, with the spread over seeds."""
    ways = list(dict.fromkeys(row.way for row in rows))
    of = {(row.way, row.round, row.seed): row for row in rows}
    lines = []
    for number in sorted({row.round for row in rows}):
        seeds = [seed for seed in _seeds(rows, ways[0]) if all((way, number, seed) in of for way in ways)]
        gains = {way: np.array([of[way, number, seed].gain for seed in seeds]) for way in ways}
        labels = "/".join(f"{np.mean([of[way, number, seed].labels for seed in seeds]):g}" for way in ways)
        more = [gains[ways[0]] - gains[way] for way in ways[1:]]
        lines.append(
            [str(number), labels, *(f"{gains[way].mean():+.2f}" for way in ways), *(_spread(of) for of in more)]
        )
    return text_table(["round", "labels", *ways, *(f"{ways[0]} − {way}" for way in ways[1:])], lines)


def _spread(differences: np.ndarray) -> str:
    return f"{differences.mean():+.2f} ± {differences.std(ddof=1) if len(differences) > 1 else math.nan:.2f}"


def plan_of(given: argparse.Namespace) -> Plan:
    """Small enough for two cores: a training takes a few minutes."""
    settings = changed(
        Settings(),
        data=("rooms",),
        size=(32, 32) if given.quick else (64, 96),
        rooms=24 if given.quick else given.rooms,
        rooms_val=4 if given.quick else given.rooms_val,
        rooms_seed=2,
        method=given.method,
        scale=(1.0, 1.0),
        photometric=False,
        backbone="test_efficientnet" if given.quick else "resnet10t",
        width=16 if given.quick else 48,
        attention_heads=4,
        blocks=1,
        batch=4 if given.quick else 12,
        lr=3e-3,
        holdout=0.0,
        self_training="never",
        accelerator="cpu",
    )
    return Plan(
        settings,
        tuple(given.seeds),
        given.rounds,
        tuple(given.by),
        12 if given.quick else given.start,
        6.0 if given.quick else given.each,
        3 if given.quick else given.updates,
        given.samples,
        parse_prices(given.price),
    )


def main(words: list[str] | None = None) -> int:
    """Train, choose, train; print and write."""
    given = _parser().parse_args(words)
    try:
        rows = run_all(plan_of(given), given.out)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except (Stopped, KeyboardInterrupt):
        print("\nstopped; the same command goes on where it was", file=sys.stderr)
        return 130
    print(summary(rows))
    print(given.out / "label-efficiency.svg")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ways = ("gain", "diversity", "uncertainty", "random")
    parser.add_argument("--out", type=Path, required=True, help="folder of the experiment; called again, it goes on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the start, weights and noise")
    parser.add_argument("--rounds", type=int, default=4, help="how often labels are chosen")
    parser.add_argument(
        "--by", nargs="+", choices=ways, default=["gain", "random"], help="the first is held against others"
    )
    parser.add_argument("--method", default="feature", help="as train names it")
    parser.add_argument("--rooms", type=int, default=400, help="rooms to choose from")
    parser.add_argument("--rooms-val", type=int, default=100, help="rooms to score on")
    parser.add_argument("--start", type=int, default=60, help="images with one label each at the beginning")
    parser.add_argument("--each", type=float, default=60, help="labels per round, or what they may cost")
    parser.add_argument("--price", nargs="+", default=[], help="TASK=PRICE, as for suggest")
    parser.add_argument("--updates", type=int, default=400, help="steps of each training")
    parser.add_argument("--samples", type=int, default=4, help="noise draws that suggestions rest on")
    parser.add_argument("--quick", action="store_true", help="sizes that show nothing but that it works")
    return parser


if __name__ == "__main__":
    sys.exit(main())
