"""The methods of a comparison on a benchmark, means over their seeds, beside the figures in print."""

import math
from collections.abc import Sequence

from diffusionmtl.inference.per_image import FINAL
from diffusionmtl.report.comparison import FULL, Comparison, Row
from diffusionmtl.report.published_table import OURS_TOGETHER, BesidePublished, beside_published
from diffusionmtl.report.tables import Scores


def comparison_beside_print(comparison: Comparison, labels: str) -> BesidePublished | None:
    """The finished rows of one label setting; None where nothing is in print.

    Upper bounds, which saw every label, stay out: what is in print beside them saw fewer.
    """
    setting = comparison.settings.get(labels)
    methods = {m: comparison.of(labels, m) for m in comparison.methods() if not m.startswith(FULL)}
    done = {method: rows for method, rows in methods.items() if rows}
    if setting is None or not done:
        return None
    columns = {_name(method, rows): _means(rows) for method, rows in done.items()}
    kept = [row.per_image.get(FINAL, {}) for rows in done.values() for row in rows]
    images = {task: len(one.images) for tasks in kept for task, one in tasks.items()}
    return beside_published(setting, comparison.tasks, columns, images, OURS_TOGETHER)


def _name(method: str, rows: Sequence[Row]) -> str:
    return method if len(rows) == 1 else f"{method}, mean of {len(rows)} seeds"


def _means(rows: Sequence[Row]) -> Scores:
    """Of figures that every seed has; undefined where one seed has none."""
    return {
        task: {name: _mean([row.final.get(task, {}).get(name, math.nan) for row in rows]) for name in figures}
        for task, figures in rows[0].final.items()
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
