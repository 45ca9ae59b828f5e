"""What the trainings of label efficiency came to: rows, tables and the picture."""

import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks.label_curves import label_curves  # noqa: E402
from benchmarks.label_rounds import START, Plan, Round  # noqa: E402
from diffusionmtl.build import restore_run  # noqa: E402
from diffusionmtl.commands.cell import training_steps  # noqa: E402
from diffusionmtl.commands.output import figure, text_table  # noqa: E402
from diffusionmtl.data.base import DenseDataset  # noqa: E402
from diffusionmtl.data.partition import Partition  # noqa: E402
from diffusionmtl.files import write_bytes_atomically  # noqa: E402
from diffusionmtl.plain_yaml import read_yaml  # noqa: E402
from diffusionmtl.report.tables import Scores, gain, headline  # noqa: E402
from diffusionmtl.tasks import Task  # noqa: E402


@dataclass(frozen=True)
class Row:
    """One training.

    Attributes:
        way: how its labels were chosen.
        cost: of all labels, those of the start included.
        images: that have a label.
        steps: of its training.
        gain: Δm in percent over the network of the start of this seed.
        figures: by task, the headline figure.
    """

    seed: int
    way: str
    round: int
    labels: int
    cost: float
    images: int
    steps: int
    gain: float
    figures: Mapping[str, float]


def row(dataset: DenseDataset, plan: Plan, one: Round, out: Path, way: str | None = None) -> Row:
    """Of a training that is done.

    Args:
        way: what to call its way of choosing.
    """
    seen = Partition.load(one.labels(out), dataset)
    counts = seen.counts(task.name for task in dataset.tasks)
    prices = dict(plan.prices)
    config = one.run(out).config
    now, then = _final(one, out), _final(Round(one.seed, START, 0), out)
    over = gain(dataset.tasks, now, then)
    return Row(
        one.seed,
        way or one.way,
        one.number,
        labels=sum(counts.values()),
        cost=sum(count * prices.get(task, 1.0) for task, count in counts.items()),
        images=sum(bool(tasks) for tasks in seen.visible.values()),
        steps=training_steps(restore_run(read_yaml(config), str(config))[0], seen),
        gain=math.nan if over is None else over,
        figures={task.name: headline(task, now) for task in dataset.tasks},
    )


def _final(one: Round, out: Path) -> Scores:
    scores = json.loads(one.run(out).metrics.read_text(encoding="utf-8"))["final"]
    return {task: {k: math.nan if v is None else v for k, v in of.items()} for task, of in scores.items()}


def write(out: Path, rows: Sequence[Row], tasks: Sequence[Task]) -> None:
    """`label-efficiency.csv`, and `label-efficiency.svg` once there is a curve."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = ["seed", "by", "round", "labels", "cost", "images", "steps", "delta_m"]
    writer.writerow([*head, *(f"{task.name} {task.headline}" for task in tasks)])
    for one in rows:
        first = [one.seed, one.way, one.round, one.labels, f"{one.cost:g}", one.images, one.steps, f"{one.gain:.4f}"]
        writer.writerow([*first, *(f"{one.figures[task.name]:.6g}" for task in tasks)])
    write_bytes_atomically(out / "label-efficiency.csv", stream.getvalue().encode())
    drawn = label_curves("What more labels buy", "Δm, %", _curves(rows))
    if drawn:
        write_bytes_atomically(out / "label-efficiency.svg", drawn.encode())


def _curves(rows: Sequence[Row]) -> dict[str, list[list[tuple[float, float]]]]:
    """Per way, per seed that has come further than the start: labels and gain by round, as far as they are numbers."""
    curves: dict[str, list[list[tuple[float, float]]]] = {}
    for way in dict.fromkeys(one.way for one in rows):
        for seed in sorted({one.seed for one in rows if one.way == way}):
            line = [(float(one.labels), one.gain) for one in rows if (one.way, one.seed) == (way, seed)]
            ends = next((place for place, (_, y) in enumerate(line) if not math.isfinite(y)), len(line))
            if ends > 1:
                curves.setdefault(way, []).append(line[:ends])
    return curves


def summary(rows: Sequence[Row]) -> str:
    """Per round the mean gain of each way, and by how much the first exceeds each other, with the spread over seeds.

    Only of seeds with which every way has come so far. The last line is the mean over all rounds of the seeds that
    every way has finished.
    """
    ways, of, seeds = _by_place(rows)
    lines = []
    for number, here in seeds.items():
        gains = {way: np.array([of[way, number, seed].gain for seed in here]) for way in ways}
        labels = "/".join(f"{np.mean([of[way, number, seed].labels for seed in here]):g}" for way in ways)
        lines.append([str(number), str(len(here)), labels, *_against_first(gains)])
    last = seeds[max(seeds)] if seeds else []
    if last and max(seeds) > 0:
        over = {
            way: np.array([np.mean([one.gain for one in _later(of, way, seed, seeds)]) for seed in last])
            for way in ways
        }
        lines.append(["all", str(len(last)), "", *_against_first(over)])
    return text_table(["round", "seeds", "labels", *ways, *(f"{ways[0]} − {way}" for way in ways[1:])], lines)


def task_summary(rows: Sequence[Row], tasks: Sequence[Task]) -> str:
    """Per task the headline figure of each way, mean over the rounds of the seeds that every way has finished."""
    ways, of, seeds = _by_place(rows)
    last = seeds[max(seeds)] if seeds and max(seeds) > 0 else []
    lines = []
    for task in tasks if last else ():
        found = {
            way: np.array([np.mean([one.figures[task.name] for one in _later(of, way, seed, seeds)]) for seed in last])
            for way in ways
        }
        arrow = "↑" if task.higher_is_better else "↓"
        means = [figure(float(found[way].mean())) for way in ways]
        more = [_spread(found[ways[0]] - found[way], 4) for way in ways[1:]]
        lines.append([f"{task.name} {arrow}", *means, *more])
    return text_table(["all rounds", *ways, *(f"{ways[0]} − {way}" for way in ways[1:])], lines)


_Place = tuple[str, int, int]


def _by_place(rows: Sequence[Row]) -> tuple[list[str], dict[_Place, Row], dict[int, list[int]]]:
    """The ways; rows by way, round and seed; and per round the seeds with which every way has come so far."""
    ways = list(dict.fromkeys(one.way for one in rows))
    of = {(one.way, one.round, one.seed): one for one in rows}
    every = sorted({one.seed for one in rows})
    seeds: dict[int, list[int]] = {}
    for number in sorted({one.round for one in rows}):
        here = [seed for seed in every if all((way, number, seed) in of for way in ways)]
        if here:
            seeds[number] = here
    return ways, of, seeds


def _later(of: Mapping[_Place, Row], way: str, seed: int, rounds: Iterable[int]) -> list[Row]:
    """After the start."""
    return [of[way, number, seed] for number in rounds if number > 0]


def _against_first(gains: Mapping[str, np.ndarray]) -> list[str]:
    first = next(iter(gains.values()))
    means = [f"{values.mean():+.2f}" for values in gains.values()]
    return [*means, *(_spread(first - values, 2) for values in list(gains.values())[1:])]


def _spread(differences: np.ndarray, decimals: int) -> str:
    spread = differences.std(ddof=1) if len(differences) > 1 else math.nan
    return f"{differences.mean():+.{decimals}f} ± {spread:.{decimals}f}"
