"""What others have published for the benchmarks, each figure with its protocol and each row with its source.

The rows stand in `published_results.csv` beside this file (reference tables, 6). An empty cell is not known.
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from diffusionmtl.metrics.functional import delta_m

TASKS = ("semseg", "human_parts", "sal", "depth", "normals", "edge")
HIGHER_IS_BETTER = {"semseg": True, "human_parts": True, "sal": True, "depth": False, "normals": False, "edge": True}
MAIN = "main"

_FILE = Path(__file__).with_name("published_results.csv")
_SEGMENTATION = {"semseg": "mIoU@published", "human_parts": "mIoU@published"}
_OTHERS = {"sal": "maxF@published?", "depth": "absErr@pooled", "normals": "mErr@pooled"}
_EDGES = {"pascal-context": "odsF@seism-0.0075", "nyud": "odsF@seism-0.011"}


@dataclass(frozen=True)
class PublishedFigure:
    """One number in print.

    Attributes:
        value: percent, metres, degrees or disparity, as the protocol's name says.
        protocol: a name that scores of this package use, or of a protocol that it does not have.
        certain: whether that is known; otherwise it is inferred.
    """

    value: float
    protocol: str
    certain: bool


@dataclass(frozen=True)
class PublishedRow:
    """One row of a published table.

    Attributes:
        benchmark: pascal-context, nyud or cityscapes.
        labels: which labels training saw: one, random or full.
        table: which rows belong together; `main` holds those that methods are compared by.
        parameters: millions; None if not printed.
        gmac: billions of multiply-adds per image; None if not printed.
        figures: by task.
        delta_m: mean relative gain in percent as printed; None if it is not.
        reference: method of the row that the gain is over; None if there is no such row in print.
        source: publication and table.
    """

    benchmark: str
    labels: str
    table: str
    method: str
    backbone: str
    parameters: float | None
    gmac: float | None
    figures: Mapping[str, PublishedFigure]
    delta_m: float | None
    reference: str | None
    source: str

    def figure(self, task: str) -> float:
        """The figure of a task; NaN if there is none."""
        return self.figures[task].value if task in self.figures else math.nan


@cache
def published_rows() -> tuple[PublishedRow, ...]:
    """Every row, in the order of the tables."""
    with _FILE.open(encoding="utf-8", newline="") as stream:
        return tuple(map(_row, csv.DictReader(stream)))


def reference_rows(benchmark: str, labels: str, table: str = MAIN) -> tuple[PublishedRow, ...]:
    """The rows that a run on this benchmark under these labels may stand beside; none if nothing is in print.

    On Cityscapes, which has two tasks, random labels are one label.
    """
    same = "one" if (benchmark, labels) == ("cityscapes", "random") else labels
    rows = published_rows()
    return tuple(r for r in rows if (r.benchmark, r.labels, r.table) == (benchmark, same, table))


def reference_of(row: PublishedRow) -> PublishedRow | None:
    """The row that a row's gain is over: same benchmark, labels and backbone; None if it is not in print."""
    for other in published_rows():
        same = (other.benchmark, other.labels, other.backbone) == (row.benchmark, row.labels, row.backbone)
        if same and other.method == row.reference:
            return other
    return None


def recomputed_delta_m(row: PublishedRow) -> float | None:
    """Δm in percent from the figures as printed; None without a reference of the same tasks."""
    reference = reference_of(row)
    if reference is None or reference.figures.keys() != row.figures.keys():
        return None
    return gain_over(reference, {task: figure.value for task, figure in row.figures.items()})


def gain_over(reference: PublishedRow, values: Mapping[str, float]) -> float:
    """Δm in percent of figures over those of a published row, over the tasks of `values`.

    Raises:
        ValueError: no task, or one that the row lacks.
    """
    references = {task: reference.figures[task].value for task in values if task in reference.figures}
    return delta_m(values, references, {task: HIGHER_IS_BETTER[task] for task in values})


def _row(cells: Mapping[str, str]) -> PublishedRow:
    protocols = _protocols(cells["benchmark"], cells["protocols"])
    figures = {
        task: PublishedFigure(float(cells[task]), protocols[task].rstrip("?"), not protocols[task].endswith("?"))
        for task in TASKS
        if cells[task]
    }
    return PublishedRow(
        benchmark=cells["benchmark"],
        labels=cells["labels"],
        table=cells["table"],
        method=cells["method"],
        backbone=cells["backbone"],
        parameters=_number(cells["parameters"]),
        gmac=_number(cells["gmac"]),
        figures=figures,
        delta_m=_number(cells["delta_m"]),
        reference=cells["reference"] or None,
        source=cells["source"],
    )


def _protocols(benchmark: str, exceptions: str) -> dict[str, str]:
    """Per task the protocol, with a ? where it is inferred; `exceptions` reads `sal=mIoU? edge=x`, or `*?` for all."""
    usual = {**_SEGMENTATION, **_OTHERS, "edge": _EDGES.get(benchmark, "odsF")}
    if exceptions == "*?":
        return {task: f"{protocol.rstrip('?')}?" for task, protocol in usual.items()}
    return usual | dict(exception.split("=") for exception in exceptions.split())


def _number(cell: str) -> float | None:
    return float(cell) if cell else None
