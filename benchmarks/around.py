"""What stands around the arithmetic: reading data, and starting up."""

import os
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import networks as given
from benchmarks.measure import (
    LEAST,
    Ratio,
    Result,
    Spread,
    counted,
    in_a_process,
    seconds,
    side_by_side,
    spreads,
)
from benchmarks.steps import as_trained, step, together
from diffusionmtl.build import build_dataset, build_training_data
from diffusionmtl.config import Settings, changed
from diffusionmtl.data.partition import make_partition

RUN = ["-c", "import sys; from diffusionmtl.cli import main; sys.exit(main(['--help']))"]


def start_up(quick: bool) -> Result:
    """`--help`, and what importing the package adds to importing torch."""
    codes = {
        "diffusionmtl --help": lambda: in_a_process(*RUN),
        "import torch": lambda: in_a_process("-c", "import torch"),
        "import torch, diffusionmtl": lambda: in_a_process("-c", "import torch, diffusionmtl"),
    }
    # Whoever ran this has loaded torch a moment ago: files are in memory without a round to warm up.
    times = side_by_side(codes, 1 if quick else 5, warm=0 if quick else 1)
    more = zip(times["import torch, diffusionmtl"], times["import torch"], strict=True)
    ratios = {
        "diffusionmtl --help, s": Ratio(Spread.of(times["diffusionmtl --help"]), LEAST, 0.5),
        "import diffusionmtl beyond torch, s": Ratio(Spread.of([a - b for a, b in more]), LEAST, 0.3),
    }
    return Result(spreads(times), ratios)


def loading(quick: bool) -> Result:
    """Batches that two workers deliver per second, against those that a training step uses up."""
    sizes = [(96, 128)] if quick else [given.SMALL_SIZE, given.PAPER_SIZE]
    figures, ratios = {}, {}
    for size in sizes:
        with TemporaryDirectory() as folder:
            rate = _batches_per_second(size, Path(folder), 2 if size == given.SMALL_SIZE else 1, quick)
        settings = given.SMALL if size == given.SMALL_SIZE else given.PAPER
        images = 12 if size == given.SMALL_SIZE else 6
        network = as_trained(given.network(given.THIN if quick else settings)).train()
        batch = given.batch(network.tasks, size, given.labelled(images, len(network.tasks), "one"))
        run = step(together, network, batch)
        run()
        use = 1 / statistics.median([seconds(run) for _ in range(3)])
        name = f"{size[0]}x{size[1]}"
        figures |= {f"{name} loaded batches/s": rate, f"{name} trained batches/s": use}
        goal = 3.0
        ratios[f"loading {name}: to what training uses"] = Ratio(counted(rate / use), target=goal)
    return Result(figures, ratios)


def _batches_per_second(size: tuple[int, int], folder: Path, epochs: int, quick: bool) -> float:
    images = 12 if size == given.SMALL_SIZE else 6
    rooms = 2 * images if quick else 20 * images
    settings = changed(
        Settings(), data=("rooms",), size=size, rooms=rooms, labels="one", holdout=0.0, batch=images, workers=2
    )
    os.environ["DIFFUSIONMTL_CACHE"] = str(folder)
    dataset = build_dataset(settings.data, "train")
    data = build_training_data(settings, dataset, make_partition(settings.data.labels, dataset, 0))
    for _batch in data.train:  # the rooms are drawn, the workers have started
        pass
    start, number = time.perf_counter(), 0
    for _ in range(epochs):
        for _batch in data.train:
            number += 1
    return number / (time.perf_counter() - start)
