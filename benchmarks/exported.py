"""python benchmarks/exported.py RUN --out DIR [--data rooms] [--images 60] [--rounds 30]: what a file is worth.

Exports a run as ONNX twice, whole and with weights in 8 bits, scores both and PyTorch on the same unseen images with
the same noise, and lets the three take turns at one image for their times. Needs the extra `export`.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks.measure import machine, side_by_side, speedup  # noqa: E402
from diffusionmtl.build import build_dataset, restore_run  # noqa: E402
from diffusionmtl.commands.evaluate import plain_figures  # noqa: E402
from diffusionmtl.commands.export import export  # noqa: E402
from diffusionmtl.commands.output import figure, text_table  # noqa: E402
from diffusionmtl.config import DataSettings  # noqa: E402
from diffusionmtl.diffusion import SeededNoise  # noqa: E402
from diffusionmtl.export.graph import AnswerGraph  # noqa: E402
from diffusionmtl.export.onnx_file import Runner, onnx_runner  # noqa: E402
from diffusionmtl.inference.evaluate import evaluate  # noqa: E402
from diffusionmtl.inference.load import load  # noqa: E402
from diffusionmtl.inference.predictor import Estimates, Predictor  # noqa: E402
from diffusionmtl.maps import resize  # noqa: E402
from diffusionmtl.plain_yaml import read_yaml  # noqa: E402
from diffusionmtl.report.tables import gain, headline  # noqa: E402
from diffusionmtl.runfolder import RunFolder  # noqa: E402
from diffusionmtl.seeds import derive_seed  # noqa: E402

TORCH, WHOLE, INT8 = "PyTorch", "ONNX", "ONNX int8"


class Answering(Predictor):
    """A predictor whose answers come from elsewhere: a graph, or a file of it."""

    def __init__(self, predictor: Predictor, graph: AnswerGraph, run: Runner) -> None:
        super().__init__(predictor.network, predictor.size)
        self._graph, self._run = graph, run

    def inputs(self, image: Tensor, keys: Sequence[int], seed: int) -> list[Tensor]:
        """What the graph takes: the images, and the noise that a predictor would draw for them."""
        told = self._graph.told
        if told is None:
            return [image]
        noise = torch.empty(told.shape(len(image), (image.shape[-2], image.shape[-1])))
        source, rows = SeededNoise(derive_seed(seed, "sample", 0), keys), torch.arange(len(image))
        for step in range(told.steps, 0, -1):
            first = 0
            for task, width in zip(told.tasks, told.widths, strict=True):
                part = noise[told.steps - step, :, first : first + width]
                part.copy_(source(task, step, rows, part))
                first += width
        return [image, noise]

    def estimate(
        self,
        image: Tensor,
        keys: Sequence[int],
        samples: int,
        seed: int,
        size: tuple[int, int] | None = None,
    ) -> dict[str, Estimates]:
        """Of a single draw."""
        found = self._run(self.inputs(image, keys, seed))
        named = {name: torch.from_numpy(x) for name, x in zip(self._graph.outputs, found, strict=True)}
        return {name: Estimates(x if size is None else resize(x, size), None, None) for name, x in named.items()}


def by_torch(graph: AnswerGraph) -> Runner:
    """Runs the network itself."""

    @torch.inference_mode()
    def run(inputs: Sequence[Tensor]) -> list[Any]:
        return [x.numpy() for x in graph(*inputs)]

    return run


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Export, score, time."""
    given.out.mkdir(parents=True, exist_ok=True)
    files = {WHOLE: given.out / "whole.onnx", INT8: given.out / "int8.onnx"}
    checked = {name: export(given.run, path, int8=name == INT8)[1]["checked"] for name, path in files.items()}
    predictor = load(given.run, calibrated=False)
    right = AnswerGraph(predictor.network).eval()
    quick = AnswerGraph(predictor._quick).eval()
    runners = {TORCH: by_torch(quick), **{name: onnx_runner(path) for name, path in files.items()}}
    answering = {name: Answering(predictor, right, run) for name, run in runners.items()}
    data = _data(given)
    dataset = build_dataset(data, "val")
    step = max(1, len(dataset) // given.images)
    chosen = list(range(0, len(dataset), step))[: given.images]
    scores = {name: evaluate(one, dataset, indices=chosen).final for name, one in answering.items()}
    first = answering[TORCH].inputs(dataset.image(chosen[0])[None], [chosen[0]], 0)
    times = side_by_side({name: lambda run=run: run(first) for name, run in runners.items()}, given.rounds, warm=3)
    return {
        "machine": machine(torch.get_num_threads()),
        "data": list(data.data),
        "images": len(chosen),
        "timed image": list(first[0].shape),
        "bytes": {name: path.stat().st_size for name, path in files.items()},
        "checked": checked,
        "scores": {name: plain_figures(of) for name, of in scores.items()},
        "delta_m": {name: gain(predictor.tasks, of, scores[TORCH]) for name, of in scores.items()},
        "milliseconds": {name: 1e3 * sorted(of)[len(of) // 2] for name, of in times.items()},
        "times as fast as PyTorch": {name: plain_spread(times, name) for name in files},
        "headline": {task.name: {name: headline(task, of) for name, of in scores.items()} for task in predictor.tasks},
    }


def plain_spread(times: Mapping[str, list[float]], name: str) -> dict[str, Any]:
    """Median and quartiles of the ratios of single rounds."""
    spread = speedup(times, name, TORCH)
    return {"median": spread.median, "low": spread.low, "high": spread.high, "rounds": spread.repeats}


def _data(given: argparse.Namespace) -> DataSettings:
    config = RunFolder(given.run).config
    trained = restore_run(read_yaml(config), str(config))[0].data
    return replace(trained, data=tuple(given.data), tasks=()) if given.data else trained


def tables(found: Mapping[str, Any]) -> str:
    """For people."""
    names = list(found["scores"])
    rows = [[task, *(figure(of[name]) for name in names)] for task, of in found["headline"].items()]
    rows.append(["Δm, %", *(f"{found['delta_m'][name] or 0.0:+.3f}" for name in names)])
    rows.append(["ms an image", *(f"{found['milliseconds'][name]:.1f}" for name in names)])
    errors = [
        [task, *(f"{found['checked'][WHOLE]['difference'][task][key]:.2g}" for key in ("largest", "scale"))]
        + [f"{found['checked'][INT8]['difference_int8'][task][key]:.2g}" for key in ("largest", "mean")]
        for task in found["headline"]
    ]
    heads = ["output", "ONNX, max abs error", "largest number", "int8, max", "int8, mean"]
    return "\n\n".join([text_table(["task", *names], rows), text_table(heads, errors)])


def main(words: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files and exported.json")
    parser.add_argument("--data", nargs="+", help="as evaluate takes it; the run's own if left out")
    parser.add_argument("--images", type=int, default=60, help="of the split val, evenly spaced")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each at one image")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch and of ONNX Runtime")
    given = parser.parse_args(words)
    torch.set_num_threads(given.threads)
    found = measure(given)
    (given.out / "exported.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(tables(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
