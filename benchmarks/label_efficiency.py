"""python benchmarks/label_efficiency.py --out DIR [--seeds 0 1 2] [--rounds 4] [--by gain random] [--jobs 2] [--quick]

What labels buy that `diffusionmtl suggest` chooses, against as many chosen by chance, on drawn rooms: train on few
labels, choose more, reveal them, train anew, and so on. Whatever a call has finished, a later one with the same words
keeps; with more seeds, ways or rounds it goes on from there.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks.label_jobs import worked_through  # noqa: E402
from benchmarks.label_rounds import RANDOM, START, Plan, Round, keep_plan, rounds_of  # noqa: E402
from benchmarks.label_scores import Row, row, summary, task_summary, write  # noqa: E402
from diffusionmtl.build import build_dataset, build_training_set  # noqa: E402
from diffusionmtl.commands.suggest import parse_prices  # noqa: E402
from diffusionmtl.config import Settings, changed  # noqa: E402
from diffusionmtl.data.base import DenseDataset  # noqa: E402
from diffusionmtl.errors import UserError  # noqa: E402
from diffusionmtl.training.run import Stopped  # noqa: E402

# Nobody learns body parts, a few pixels at this size, from so few labels: every way would waste as many on them.
TASKS = ("semseg", "depth", "normals", "edge", "saliency")


def run_all(plan: Plan, rounds: Sequence[Round], out: Path, jobs: int) -> tuple[DenseDataset, list[Row]]:
    """Every training, or what is missing of them; the figures so far are written after each."""
    out.mkdir(parents=True, exist_ok=True)
    keep_plan(plan, out)
    # Drawn once, before there are several processes.
    dataset = build_training_set(plan.settings.data)
    build_dataset(plan.settings.data, "val")
    _say_how_many(rounds, out)
    for one in worked_through(rounds, plan, out, jobs):
        rows = rows_so_far(dataset, plan, rounds, out)
        write(out, rows, dataset.tasks)
        done = sum(each.done(out) for each in rounds)
        told = "" if one.way == START else f": Δm {row(dataset, plan, one, out).gain:+.2f} %"
        print(f"[{done}/{len(rounds)}] seed {one.seed}, {one.way}, round {one.number}{told}", flush=True)
    rows = rows_so_far(dataset, plan, rounds, out)
    write(out, rows, dataset.tasks)
    return dataset, rows


def _say_how_many(rounds: Sequence[Round], out: Path) -> None:
    done = sum(one.done(out) for one in rounds)
    print(f"{len(rounds)} trainings, {done} done already", flush=True)


def rows_so_far(dataset: DenseDataset, plan: Plan, rounds: Sequence[Round], out: Path) -> list[Row]:
    """Of all that is done, one seed and one way after another; the start is the first row of every way."""
    ways = list(dict.fromkeys(one.way for one in rounds if one.way != START))
    done = {one for one in rounds if one.done(out)}
    return [
        row(dataset, plan, one, out, way)
        for seed in dict.fromkeys(one.seed for one in rounds)
        for way in ways
        for one in rounds
        if one.seed == seed and one.way in (START, way) and one in done
    ]


def plan_of(given: argparse.Namespace) -> Plan:
    """Small enough for two cores: a training takes a few minutes.

    Raises:
        UserError: words that do not fit together.
    """
    quick = given.quick
    settings = changed(
        Settings(),
        data=("rooms",),
        tasks=tuple(given.tasks),
        size=(32, 32) if quick else (64, 96),
        rooms=24 if quick else given.rooms,
        rooms_val=4 if quick else given.rooms_val,
        rooms_seed=2,
        method=given.method,
        scale=(0.9, 1.2),
        photometric=False,
        backbone="test_efficientnet" if quick else given.backbone,
        backbone_weights=given.backbone_weights and str(given.backbone_weights),
        backbone_lr=0.3 if given.backbone_weights else 1.0,
        width=16 if quick else 32,
        hidden=16,
        attention_heads=4,
        token_stride=2,
        blocks=1 if quick else 2,
        batch=4 if quick else 12,
        lr=3e-3,
        holdout=0.0,
        self_training="never",
        accelerator="cpu",
    )
    plan = Plan(
        settings,
        start=10 if quick else given.start,
        each=5.0 if quick else given.each,
        updates=3 if quick else given.updates,
        samples=given.samples,
        prices=parse_prices(given.price),
    )
    _check(plan, given)
    return plan


def _check(plan: Plan, given: argparse.Namespace) -> None:
    pairs, rooms = plan.settings.data.rooms * len(given.tasks), plan.settings.data.rooms
    if not plan.settings.train.batch <= plan.start <= rooms:
        raise UserError(
            f"--start {plan.start}: must lie between {plan.settings.train.batch} (a batch) and --rooms {rooms}"
        )
    if not plan.prices and plan.start + given.rounds * plan.each > pairs:
        raise UserError(f"--rounds {given.rounds}: {rooms} rooms have {pairs} labels only; take fewer, or more --rooms")
    for option in ("seeds", "by", "tasks"):
        words = getattr(given, option)
        if len(set(words)) < len(words):
            raise UserError(f"--{option} {' '.join(map(str, words))}: name each once")


def main(words: list[str] | None = None) -> int:
    """Train, choose, train; print and write."""
    given = _parser().parse_args(words)
    try:
        rounds = rounds_of(given.seeds, given.by, given.rounds)
        dataset, rows = run_all(plan_of(given), rounds, given.out, given.jobs)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except (Stopped, KeyboardInterrupt):
        print("\nstopped; the same command goes on where it was", file=sys.stderr)
        return 130
    print(summary(rows))
    print()
    print(task_summary(rows, dataset.tasks))
    print(given.out / "label-efficiency.svg")
    return 0


def _at_least_one(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{word} must be 1 or more")
    return number


def _positive(word: str) -> float:
    number = float(word)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{word} must be a number above 0")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    ways, count = ("gain", "diversity", "uncertainty", RANDOM), _at_least_one
    add("--out", type=Path, required=True, help="folder of the experiment; called again, it goes on")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the start, weights and noise")
    add("--rounds", type=count, default=4, help="how often labels are chosen")
    add("--by", nargs="+", choices=ways, default=["gain", RANDOM], help="the first is held against the others")
    add("--jobs", type=count, default=1, help="rounds at once, a process with one thread each")
    add("--method", default="feature", help="as train names it")
    add("--tasks", nargs="+", default=list(TASKS), help="of the rooms")
    add("--backbone", default="resnet10t", help="as train names it")
    add("--backbone-weights", type=Path, help="file with its weights; it begins untaught without")
    add("--rooms", type=count, default=300, help="rooms to choose from")
    add("--rooms-val", type=count, default=100, help="rooms to score on")
    add("--start", type=count, default=60, help="images with one label each at the beginning")
    add("--each", type=_positive, default=60.0, help="labels per round, or what they may cost")
    add("--price", nargs="+", default=[], help="TASK=PRICE, as for suggest")
    add("--updates", type=count, default=300, help="steps of each training")
    add("--samples", type=count, default=4, help="noise draws that suggestions rest on")
    add("--quick", action="store_true", help="sizes that show nothing but that it works")
    return parser


if __name__ == "__main__":
    sys.exit(main())
