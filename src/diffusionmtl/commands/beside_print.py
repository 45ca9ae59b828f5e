"""What `diffusionmtl evaluate` says of a benchmark beside the scores: the figures in print."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusionmtl.commands.output import text_table
from diffusionmtl.report.collect import beside_print, read_run
from diffusionmtl.report.log import metrics_of


def beside_print_text(run: Path, metrics: Mapping[str, Any]) -> str:
    """The table of a run folder's scores beside those in print, with notes; empty where nothing is in print.

    Args:
        run: folder; a weights file alone does not say which labels training saw.
        metrics: the scores, as `evaluate_run` gives them.

    Raises:
        UserError: the run folder is damaged.
    """
    if not run.is_dir():
        return ""
    beside = beside_print(read_run(run), metrics_of(metrics))
    if beside is None:
        return ""
    rows = [[row[0].split("\n")[0], *row[1:]] for row in beside.table.rows]
    table = text_table([column.replace("\u00a0", " ") for column in beside.table.columns], rows)
    return "\n".join(["", beside.table.caption, table, *beside.notes, ""])
