"""python benchmarks/speed.py [--quick] [--json FILE] [--figure FILE] [--only NAME...]: everything, or some of it."""

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks import answers, around, growth, steps  # noqa: E402
from benchmarks.figure import figure  # noqa: E402
from benchmarks.measure import Result, machine, plain  # noqa: E402

CASES: Mapping[str, Callable[[bool], Result]] = {
    "launches": steps.launches,
    "steps-small": steps.small,
    "steps-paper": steps.paper,
    "steps-paper-6": partial(steps.paper, images=6),
    "steps-bf16": steps.half,
    "memory": steps.memory,
    "lite-counted": answers.lighter,
    "lite": answers.light,
    "inference": answers.against_reference,
    "inference-bf16": answers.half,
    "peak-share": answers.peak_share,
    "samples": answers.samples,
    "loading": around.loading,
    "start-up": around.start_up,
    "growth-counted": growth.counts,
    "growth-timed": growth.times,
}
# They need an extra, so they run where they are named.
OPTIONAL: Mapping[str, Callable[[bool], Result]] = {"onnx": answers.onnx}


def main(words: list[str] | None = None) -> int:
    """Measure, print, write."""
    given = _parser().parse_args(words)
    torch.set_num_threads(given.threads)
    results, took = {}, {}
    for name in given.only or CASES:
        print(f"{name} ...", flush=True)
        start = time.perf_counter()
        found = {**CASES, **OPTIONAL}[name](given.quick)
        results[name] = without_targets(found) if given.quick else found
        for line in _lines(results[name]):
            print(f"  {line}", flush=True)
        took[name] = time.perf_counter() - start
        print(f"  ({took[name]:.1f} s)", flush=True)
        gc.collect()
    about = machine(given.threads)
    if given.json:
        given.json.write_text(
            json.dumps(_report(results, about, given.quick) | {"took_s": took}, indent=1) + "\n", encoding="utf-8"
        )
    if given.figure:
        size = "small sizes that say nothing about the targets" if given.quick else "full sizes"
        note = (
            f"{about['cores']} cores, {about['threads']} threads, {about['capability']}, torch {about['torch']}, {size}"
        )
        given.figure.write_text(figure(results, note), encoding="utf-8")
    return 0


def without_targets(result: Result) -> Result:
    """Targets are for full sizes."""
    return replace(result, ratios={name: replace(ratio, target=None) for name, ratio in result.ratios.items()})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: do all cases work? under a minute")
    parser.add_argument("--json", type=Path, help="write figures and ratios there")
    parser.add_argument("--figure", type=Path, help="draw them there, as SVG")
    parser.add_argument(
        "--only", nargs="+", choices=[*CASES, *OPTIONAL], help=f"just these cases; else all but {', '.join(OPTIONAL)}"
    )
    parser.add_argument("--threads", type=int, default=2, help="of torch, pinned for the whole run (2)")
    return parser


def _report(results: Mapping[str, Result], about: dict, quick: bool) -> dict:
    ratios = {name: plain(ratio) for result in results.values() for name, ratio in result.ratios.items()}
    cases = {name: result.plain() for name, result in results.items()}
    return {"machine": about, "quick": quick, "ratios": ratios, "cases": cases}


def _lines(result: Result) -> list[str]:
    words = {None: "", True: "  met", False: "  MISSED"}
    return [
        f"{name}: {ratio.value.median:.3f} [{ratio.value.low:.3f}, {ratio.value.high:.3f}]"
        + ("" if ratio.target is None else f"  target {ratio.side} {ratio.target:.3g}{words[ratio.met]}")
        for name, ratio in result.ratios.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
