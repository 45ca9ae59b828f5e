"""python benchmarks/pareto.py comparison.csv [--ms ms.csv] --out pareto.svg: what accuracy costs.

Draws Δm against multiply-adds, and against milliseconds where `--ms` gives them: a file with the columns `method` and
`ms`. A row of a comparison that no other beats in both is joined to its neighbours by a line.
"""

import argparse
import csv
import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks.pareto_figure import Panel, pareto_figure  # noqa: E402

REFERENCES = ("singletask", "multitask")


@dataclass(frozen=True)
class Point:
    """What one method costs and gives; the mean over its seeds.

    Attributes:
        name: of the method.
        delta: Δm, in points.
        low: of the worst seed.
        high: of the best seed.
        gmac: billions of multiply-adds per image.
        ms: milliseconds per image; None where nobody has measured it.
    """

    name: str
    delta: float
    low: float
    high: float
    gmac: float
    ms: float | None = None


def points_of(rows: Iterable[Mapping[str, str]], labels: str, against: str, ms: Mapping[str, float]) -> list[Point]:
    """The rows of `comparison.csv` that are done, by method, in their order there."""
    found: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        if row["labels"] == labels and row["state"] == "done" and row[f"delta_m_vs_{against}"] and row["gmac"]:
            found[row["method"]].append(row)
    points = []
    for method, of_method in found.items():
        gains = [float(row[f"delta_m_vs_{against}"]) for row in of_method]
        gmac = statistics.mean(float(row["gmac"]) for row in of_method)
        points.append(Point(method, statistics.mean(gains), min(gains), max(gains), gmac, ms.get(method)))
    return points


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of those that none is both as cheap and as good as, or better; cheapest first."""
    best, kept = -math.inf, []
    for place in sorted(range(len(points)), key=lambda at: (points[at][0], -points[at][1])):
        if points[place][1] > best:
            best = points[place][1]
            kept.append(place)
    return kept


def panels(points: Sequence[Point]) -> list[Panel]:
    """One for multiply-adds, and one for milliseconds if those of two methods are known."""
    made = []
    for unit, known in (("GMAC per image", points), ("ms per image", [p for p in points if p.ms is not None])):
        costs = [p.gmac if unit.startswith("GMAC") else p.ms or 0.0 for p in known]
        if len(known) > 1:
            best = front([(cost, p.delta) for cost, p in zip(costs, known, strict=True)])
            marks = [(p.name, cost, p.delta, p.low, p.high) for cost, p in zip(costs, known, strict=True)]
            made.append(Panel(unit, marks, best))
    return made


def main(words: list[str] | None = None) -> int:
    """Read, draw, say who is on the front."""
    given = _parser().parse_args(words)
    ms = {row["method"]: float(row["ms"]) for row in _rows(given.ms)} if given.ms else {}
    points = points_of(_rows(given.comparison), given.labels, given.against, ms)
    drawn = panels(points)
    if not drawn:
        print(f"fewer than two methods with Δm against {given.against} for labels {given.labels}", file=sys.stderr)
        return 2
    title = f"Δm against {given.against}, labels: {given.labels}"
    given.out.write_text(pareto_figure(title, drawn), encoding="utf-8")
    if given.json:
        kept = {panel.unit: [panel.marks[at][0] for at in panel.front] for panel in drawn}
        said = {"points": [asdict(point) for point in points], "front": kept}
        given.json.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    for panel in drawn:
        print(f"{panel.unit}: {', '.join(panel.marks[at][0] for at in panel.front)}")
    return 0


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path, help="comparison.csv, which diffusionmtl compare wrote")
    parser.add_argument("--ms", type=Path, help="CSV with columns method, ms")
    parser.add_argument("--labels", default="one", help="label setting of the rows (one)")
    parser.add_argument("--against", default="multitask", choices=REFERENCES, help="what Δm is against (multitask)")
    parser.add_argument("--out", type=Path, required=True, help="SVG")
    parser.add_argument("--json", type=Path, help="points and fronts")
    return parser


if __name__ == "__main__":
    sys.exit(main())
