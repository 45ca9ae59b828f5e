"""What a run left on disk, read back: the training log and the scores. No torch needed."""

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusionmtl.errors import UserError, in_one_line
from diffusionmtl.files import read_json
from diffusionmtl.report.content import Curve, Series
from diffusionmtl.runfolder import RunFolder

TOTAL = "total"
_LARGEST_LOG = 1 << 28


@dataclass(frozen=True)
class Log:
    """Logged numbers.

    Attributes:
        values: per column of the log, steps (ascending) and the finite values there.
    """

    values: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]

    def series(self, column: str, hue: int = 0, dashed: bool = False) -> Series:
        """One column as a line; without points if it was never logged."""
        x, y = self.values.get(column, ((), ()))
        return Series(x, y, hue, dashed)


@dataclass(frozen=True)
class Metrics:
    """Scores of a run as `metrics.json` has them; an undefined figure is NaN.

    Attributes:
        images: per task, how many images had a label.
        final: per task, figure and value of the prediction that counts.
        initial: the same before refinement; empty for a network without it.
        notes: what must be known of the data to compare them with others.
    """

    data: tuple[str, ...]
    split: str
    samples: int
    seed: int
    checkpoint: str
    images: Mapping[str, int]
    final: Mapping[str, Mapping[str, float]]
    initial: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...] = ()


def read_log(run: RunFolder) -> Log:
    """The numbers of `log/metrics*.csv`, joined by step; later files, and later lines of a file, win.

    Nothing is raised over a log: lines that were cut short, cells that are empty or no finite number are left out, and
    a run without a log has an empty one.
    """
    found: dict[str, dict[int, float]] = {}
    for path in sorted(run.log.glob("metrics*.csv"), key=lambda path: (path.name == "metrics.csv", path.name)):
        if path.is_file() and path.stat().st_size <= _LARGEST_LOG:
            _add_file(path, found)
    return Log(
        {
            column: (tuple(float(step) for step in sorted(cells)), tuple(cells[step] for step in sorted(cells)))
            for column, cells in found.items()
        }
    )


def _add_file(path: Path, found: dict[str, dict[int, float]]) -> None:
    with path.open(encoding="utf-8", errors="replace", newline="") as stream:
        rows = csv.DictReader(line.replace("\0", "") for line in stream)
        try:
            for row in rows:
                _add_row(row, found)
        except csv.Error:
            return


def _add_row(row: Mapping[Any, Any], found: dict[str, dict[int, float]]) -> None:
    step = _number(row.get("step"))
    # A line without its last cells was cut while it was written: its last number may be cut too.
    if step is None or step < 0 or None in row.values():
        return
    for column, cell in row.items():
        value = _number(cell)
        if isinstance(column, str) and column not in ("step", "epoch") and value is not None:
            found.setdefault(column, {})[int(step)] = value


def _number(cell: Any) -> float | None:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def read_metrics(run: RunFolder) -> Metrics | None:
    """The scores of a run; None if it has not been evaluated.

    Raises:
        UserError: `metrics.json` is not what `diffusionmtl evaluate` writes.
    """
    path = run.metrics
    try:
        return metrics_of(read_json(path)) if path.exists() else None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{path}: not the scores of a run ({in_one_line(error, 100, typed=True)}); "
            f"make them again with 'diffusionmtl evaluate {run.root}'"
        ) from None


def metrics_of(raw: Any) -> Metrics:
    """Scores from the plain data of `metrics.json`.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is no such data.
    """
    if raw["format"] != 1:
        raise ValueError(f"format {raw['format']!r} is unknown")
    return Metrics(
        data=tuple(map(str, raw["data"])),
        split=str(raw["split"]),
        samples=int(raw["samples"]),
        seed=int(raw["seed"]),
        checkpoint=str(raw["checkpoint"]),
        images={str(task): int(count) for task, count in raw["images"].items()},
        final=_figures(raw["final"]),
        initial=_figures(raw["initial"]),
        notes=tuple(map(str, raw.get("notes", ()))),
    )


def _figures(raw: Any) -> dict[str, dict[str, float]]:
    return {
        str(task): {str(name): math.nan if value is None else float(value) for name, value in figures.items()}
        for task, figures in raw.items()
    }


def curves_of(logs: Mapping[str, Log], tasks: Iterable[str]) -> tuple[Curve, ...]:
    """Diagrams of the training of one run or several: the objective, then each task's loss.

    With a single run (of any name) the initial predictions get lines of their own.
    """
    alone = len(logs) == 1
    curves = []
    for name, column in [("objective", TOTAL), *((task, f"final/{task}") for task in tasks)]:
        series: dict[str, Series] = {}
        for hue, (label, log) in enumerate(logs.items()):
            prefix = "" if alone else f"{label}, "
            series[f"{prefix}training"] = log.series(f"train/{column}", hue, dashed=True)
            series[f"{prefix}held out"] = log.series(f"dev/{column}", hue)
            if alone and column != TOTAL:
                series["initial, training"] = log.series(f"train/initial/{name}", 1, dashed=True)
                series["initial, held out"] = log.series(f"dev/initial/{name}", 1)
        curves.append(Curve(name, "loss", series))
    return tuple(curve for curve in curves if any(series.x for series in curve.series.values()))
