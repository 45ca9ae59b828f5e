"""python benchmarks/soak.py --out DIR [--samples N] [--hours H] [--images N]: hours of work in one process, watched.

Three stages, each left out at 0: shards read through the training loader, training, and answers for small images. What
the process holds meanwhile stands in `soak.csv`, is summed up in `soak.json` and drawn in `soak.svg`.
"""

import argparse
import io
import json
import os
import signal
import sys
import tarfile
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks.measure import machine  # noqa: E402
from benchmarks.watch import Watch, drawn, read_watch, summary  # noqa: E402
from diffusionmtl import load  # noqa: E402
from diffusionmtl.build import build_dataset, build_training_data  # noqa: E402
from diffusionmtl.commands.train import train  # noqa: E402
from diffusionmtl.config import Settings, changed  # noqa: E402
from diffusionmtl.data.partition import make_partition  # noqa: E402
from diffusionmtl.training.callbacks import Stopped  # noqa: E402

SIDE, SHARD, CLASSES = 32, 1000, 5
SMALL = {"backbone": "test_efficientnet", "pretrained": False, "width": 16, "blocks": 1, "token_stride": 1}


def main(words: list[str] | None = None) -> int:
    """Work, watch, sum up."""
    given = _parser().parse_args(words)
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    watch = Watch(given.out / "soak.csv", given.every)
    with TemporaryDirectory(dir=given.out) as place:
        if given.samples:
            _read_shards(Path(place), given.samples, watch)
        if given.hours:
            _train(given.out / "run", given.hours, watch)
        if given.images:
            _predict(given.out / "run", given.images, watch)
    stages = read_watch(given.out / "soak.csv")
    found = {"machine": machine(given.threads), "stages": {name: summary(looks) for name, looks in stages.items()}}
    (given.out / "soak.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (given.out / "soak.svg").write_text(drawn(stages, "Held while working, from zero"), encoding="utf-8")
    print(json.dumps(found["stages"], indent=1))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=100_000, help="read from shards (100,000)")
    parser.add_argument("--hours", type=float, default=2.0, help="of training (2)")
    parser.add_argument("--images", type=int, default=50_000, help="answered for (50,000); needs the training before")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between looks (5)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    return parser


def _read_shards(place: Path, samples: int, watch: Watch) -> None:
    write_shards(place / "shards", samples)
    settings = changed(
        Settings(),
        data=(str(place / "shards"),),
        size=(SIDE, SIDE),
        batch=50,
        workers=2,
        labels="as-found",
        holdout=0.0,
    )
    with watch.stage("shards"):
        dataset = build_dataset(settings.data, "train")
        data = build_training_data(settings, dataset, make_partition("as-found", dataset, 0))
        for batch in data.train:
            watch.done += len(batch.names)


def write_shards(root: Path, samples: int) -> None:
    """Small pictures of noise, each with a label of one of two tasks."""
    generator = np.random.default_rng(0)
    (root / "train").mkdir(parents=True)
    tasks = {
        "semseg": {"kind": "segmentation", "classes": [f"c{n}" for n in range(CLASSES)]},
        "edge": {"kind": "boundary"},
    }
    (root / "dataset.yaml").write_text(json.dumps({"tasks": tasks}), encoding="utf-8")
    for first in range(0, samples, SHARD):
        with tarfile.open(root / "train" / f"shard-{first // SHARD:06d}.tar", "w") as tar:
            for number in range(first, min(first + SHARD, samples)):
                _add(tar, f"{number:07d}.jpg", generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), "JPEG")
                task, values = ("edge", 2) if number % 3 else ("semseg", CLASSES)
                label = generator.integers(0, values, (SIDE, SIDE), dtype=np.uint8)
                _add(tar, f"{number:07d}.{task}.png", label, "PNG")


def _add(tar: tarfile.TarFile, name: str, pixels: np.ndarray, form: str) -> None:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    member = tarfile.TarInfo(name)
    member.size = file.tell()
    file.seek(0)
    tar.addfile(member, file)


def _train(out: Path, hours: float, watch: Watch) -> None:
    """Training is ended as a cluster ends it, by SIGTERM."""
    settings = changed(
        Settings(), data=("rooms",), rooms=240, size=(64, 96), labels="one", epochs=1_000_000, batch=12, **SMALL
    )
    over = threading.Event()

    def end() -> None:
        until = time.monotonic() + 3600 * hours
        while not over.wait(1.0):
            watch.done = _steps(out / "log" / "metrics.csv")
            if time.monotonic() > until:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    with watch.stage("training"):
        thread = threading.Thread(target=end, daemon=True)
        thread.start()
        try:
            train(settings, out, progress=False)
        except Stopped:
            pass
        finally:
            over.set()


def _steps(log: Path) -> int:
    rows = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    if len(rows) < 2:
        return 0
    return int(dict(zip(rows[0].split(","), rows[-1].split(","), strict=False)).get("step") or 0)


def _predict(run: Path, images: int, watch: Watch) -> None:
    predictor, generator = load(run), np.random.default_rng(0)
    with watch.stage("answers"):
        for number in range(images):
            pixels = generator.integers(0, 256, (48 + number % 17, 48 + number % 13, 3), dtype=np.uint8)
            predictor(pixels, samples=2, seed=number)
            watch.done += 1


if __name__ == "__main__":
    sys.exit(main())
