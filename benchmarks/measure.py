"""Times with their spread, two codes side by side, and what the machine itself can do."""

import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

Code = Callable[[], object]
ROOT = Path(__file__).resolve().parents[1]
MOST = "at least"
LEAST = "at most"


@dataclass(frozen=True)
class Spread:
    """The middle of several repeats and the two quartiles around it."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
        return cls(statistics.median(values), quartiles[0], quartiles[2], len(values))


@dataclass(frozen=True)
class Ratio:
    """What a case claims.

    Attributes:
        target: what it should be `side` of ("at least" or "at most"); None where there is no target.
    """

    value: Spread
    side: str = MOST
    target: float | None = None

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value.median >= self.target if self.side == MOST else self.value.median <= self.target


@dataclass(frozen=True)
class Result:
    """What a case measured: numbers with their units in their names, ratios, and lines of a diagram by name."""

    figures: Mapping[str, Any]
    ratios: Mapping[str, Ratio]
    curves: Mapping[str, Mapping[str, list[tuple[float, float]]]] | None = None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"figures": dict(self.figures), "ratios": {k: plain(r) for k, r in self.ratios.items()}} | (
            {"curves": dict(self.curves)} if self.curves else {}
        )


def plain(ratio: Ratio) -> dict[str, Any]:
    """For JSON."""
    return {**asdict(ratio.value), "side": ratio.side, "target": ratio.target, "met": ratio.met}


def counted(value: float) -> Spread:
    """A number that is the same every time."""
    return Spread(value, value, value, 1)


def seconds(code: Code) -> float:
    """Wall-clock seconds of one run."""
    start = time.perf_counter()
    code()
    return time.perf_counter() - start


def side_by_side(codes: Mapping[str, Code], repeats: int, warm: int = 1) -> dict[str, list[float]]:
    """Seconds of each code per round; all take their turn in each round, so that a disturbance meets all of them."""
    for code in codes.values():
        for _ in range(warm):
            code()
    found: dict[str, list[float]] = {name: [] for name in codes}
    for number in range(repeats):
        order = list(codes) if number % 2 == 0 else list(reversed(codes))
        for name in order:
            found[name].append(seconds(codes[name]))
    return found


def repeats(quick: bool) -> int:
    """Rounds of a case; those of large sizes are long."""
    return 2 if quick else 5


def speedup(of: Mapping[str, list[float]], fast: str, slow: str) -> Spread:
    """How many times faster, per round."""
    return Spread.of([b / a for a, b in zip(of[fast], of[slow], strict=True)])


def spreads(of: Mapping[str, list[float]]) -> dict[str, Any]:
    """For JSON: seconds by name."""
    return {f"{name} s": asdict(Spread.of(values)) for name, values in of.items()}


def conv_peak(dtype: torch.dtype, repeats: int, quick: bool) -> float:
    """GFLOP per second of the machine's best 3x3 convolution among some of the network's own shapes."""
    shapes = [(1, 128, 32), (1, 256, 32)] if quick else [(1, 512, 64), (2, 512, 64), (1, 256, 64), (4, 512, 32)]
    best = 0.0
    for batch, width, side in shapes:
        x, weight = torch.randn(batch, width, side, side, dtype=dtype), torch.randn(width, width, 3, 3, dtype=dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        flops = 2 * 9 * width * width * batch * side * side
        times = side_by_side({"conv": lambda x=x, weight=weight: F.conv2d(x, weight, padding=1)}, repeats)["conv"]
        best = max(best, flops / statistics.median(times) / 1e9)
    return best


def matmul_peak(dtype: torch.dtype, repeats: int, quick: bool) -> float:
    """GFLOP per second of a square matrix product."""
    side = 768 if quick else 2048
    x = torch.randn(side, side, dtype=dtype)
    times = side_by_side({"matmul": lambda: x @ x}, repeats)["matmul"]
    return 2 * side**3 / statistics.median(times) / 1e9


def machine(threads: int) -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def in_a_process(*words: str, threads: int | None = None) -> str:
    """What `python WORDS` prints, run at the root of the repository in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
