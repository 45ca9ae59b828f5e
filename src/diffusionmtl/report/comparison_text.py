"""A comparison for people: tables in Markdown, what must be known to judge them, and the figure."""

import math
from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path

from diffusionmtl.files import write_bytes_atomically
from diffusionmtl.inference.per_image import FINAL, INITIAL
from diffusionmtl.report.comparison import (
    FULL,
    MULTI_TASK,
    REFERENCES,
    SINGLE_TASK,
    Comparison,
    Gain,
    Row,
    comparison_csv,
)
from diffusionmtl.report.comparison_print import comparison_beside_print
from diffusionmtl.report.dotplot import Dots, dotplot
from diffusionmtl.report.markup import bullets, plain_text
from diffusionmtl.report.resampling import DRAWS
from diffusionmtl.report.tables import UNDEFINED, better, headline

CSV, TEXT, FIGURE = "comparison.csv", "comparison.md", "comparison.svg"
WARN_BEYOND = 0.2
ENOUGH_SEEDS = 3
_WORDS = {SINGLE_TASK: "single-task", MULTI_TASK: "multi-task"}
_COST_WORDS = {"params": "parameters", "gmac": "multiply-adds", "steps": "optimiser steps", "seconds": "training time"}


def write_comparison(folder: Path, comparison: Comparison) -> Path:
    """Write `comparison.csv`, `comparison.md` and `comparison.svg`; returns the path of the text."""
    write_bytes_atomically(folder / CSV, comparison_csv(comparison).encode())
    figure = comparison_figure(comparison)
    if figure:
        write_bytes_atomically(folder / FIGURE, figure.encode())
    write_bytes_atomically(folder / TEXT, comparison_text(comparison, bool(figure)).encode())
    return folder / TEXT


def comparison_text(comparison: Comparison, figure: bool = False) -> str:
    """The whole page; `figure` says whether there is one to show."""
    parts = ["# Comparison", _lead(comparison)]
    if few := few_seeds(comparison):
        parts.append(f"**Few seeds**: {few}.")
    if figure:
        parts.append(f"![Δm of each method]({FIGURE})")
    for labels in comparison.groups():
        parts += [
            f"## Labels: {plain_text(labels)}",
            _scores_table(comparison, labels),
            _gains_table(comparison, labels),
        ]
        parts += _beside_print(comparison, labels)
        parts += ["What each method costs:", _cost_table(comparison, labels)]
        parts += [bullets(notes) for notes in (_warnings(comparison, labels), _notes(comparison, labels)) if notes]
    parts += ["## How to read this", bullets(_reading(comparison))]
    return "\n\n".join(parts) + "\n"


def _lead(comparison: Comparison) -> str:
    seeds = sorted({row.seed for row in comparison.rows})
    done = sum(row.done for row in comparison.rows)
    many = f"{done} of {len(comparison.rows)} rows are done"
    return f"Seeds {', '.join(map(str, seeds))}; {many}. Every number of every row: [{CSV}]({CSV})."


def few_seeds(comparison: Comparison) -> str:
    """What is to be said of fewer than three finished seeds of a method; empty if each has them."""
    of = {(g, m): len(comparison.of(g, m)) for g in comparison.groups() for m in _scored(comparison, g)}
    fewest = min(of.values(), default=ENOUGH_SEEDS)
    if fewest >= ENOUGH_SEEDS:
        return ""
    whose = "" if len(set(of.values())) == 1 else " for some methods"
    there = sorted({row.seed for row in comparison.rows})
    unused = (seed for seed in count() if seed not in there)
    more = " ".join(map(str, [*there, *islice(unused, max(0, ENOUGH_SEEDS - len(there)))]))
    return (
        f"{fewest} seed(s){whose}: how far another seed would lie is not known, and a difference may be luck of "
        f"weights, order and labels, which the brackets leave out; --seeds {more} or more adds to what is there"
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows))


def _scores_table(comparison: Comparison, labels: str) -> str:
    tasks = [t for t in comparison.tasks if any(t.name in row.final for row in comparison.rows)]
    columns = ["method", *(f"{task.name}<br>{task.headline} {better(task)}" for task in tasks)]
    rows = []
    for method in _scored(comparison, labels):
        of_method = comparison.of(labels, method)
        rows.append([method, *(_spread([headline(task, row.final) for row in of_method]) for task in tasks)])
    return _table(columns, rows)


def _scored(comparison: Comparison, labels: str) -> list[str]:
    return [method for method in comparison.methods() if comparison.of(labels, method)]


def _spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation of those that are defined; how many these are, if some are not."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return UNDEFINED
    mean = sum(finite) / len(finite)
    decimals = 4 if abs(mean) < 1 else 2
    text = f"{mean:.{decimals}f}"
    if len(finite) > 1:
        deviation = math.sqrt(sum((value - mean) ** 2 for value in finite) / (len(finite) - 1))
        text += f" ± {deviation:.{decimals}f}"
    return text if len(finite) == len(values) else f"{text} ({len(finite)} of {len(values)} seeds)"


def _beside_print(comparison: Comparison, labels: str) -> list[str]:
    beside = comparison_beside_print(comparison, labels)
    if beside is None:
        return []
    # A second line says more of the first cell.
    rows = [[cell.replace("\n", "<br>") for cell in row] for row in beside.table.rows]
    return [f"{beside.table.caption}:", _table(beside.table.columns, rows), bullets(beside.notes)]


def _gains_table(comparison: Comparison, labels: str) -> str:
    refined = any(row.initial for method in _scored(comparison, labels) for row in comparison.of(labels, method))
    parts = [(FINAL, ""), *([(INITIAL, ", initial prediction")] if refined else [])]
    shown = [(part, words, ref) for part, words in parts for ref in REFERENCES if comparison.of(labels, ref)]
    if not shown:
        return "Neither single-task nor multi-task networks are among the methods, so there is no Δm."
    columns = ["method", *(f"Δm against {_WORDS[ref]}{words}" for _, words, ref in shown)]
    rows = [
        [
            m,
            *(
                _gain_text(comparison.method_gain(labels, m, ref, part), m == ref and part == FINAL)
                for part, _, ref in shown
            ),
        ]
        for m in _scored(comparison, labels)
    ]
    return _table(columns, rows)


def _gain_text(gain: Gain | None, is_reference: bool) -> str:
    if is_reference:
        return "reference"
    if gain is None:
        return UNDEFINED
    limits = "" if math.isnan(gain.low) else f" [{_signed(gain.low)}, {_signed(gain.high)}]"
    spread = ""
    if len(gain.seeds) > 1:
        deviation = math.sqrt(sum((seed - gain.mean) ** 2 for seed in gain.seeds) / (len(gain.seeds) - 1))
        spread = f" ± {deviation:.2f}"
    return f"{_signed(gain.mean)}{spread}{limits}"


def _signed(number: float, decimals: int = 2) -> str:
    return f"{number:+.{decimals}f}".replace("-", "−")


def _cost_table(comparison: Comparison, labels: str) -> str:
    rows = []
    for method in _scored(comparison, labels):
        cost = {name: _mean_cost(comparison.of(labels, method), name) for name in _COST_WORDS}
        numbers = ((cost["params"] / 1e6, 2), (cost["gmac"], 3), (cost["steps"], 0), (cost["seconds"], 0))
        rows.append([method, *(UNDEFINED if math.isnan(x) else f"{x:.{decimals}f}" for x, decimals in numbers)])
    return _table(["method", "parameters, millions", "GMAC per image", "optimiser steps", "training, seconds"], rows)


def _mean_cost(rows: Sequence[Row], name: str) -> float:
    return sum(row.cost.get(name, math.nan) for row in rows) / len(rows) if rows else math.nan


def _warnings(comparison: Comparison, labels: str) -> list[str]:
    """Which methods cost more than a fifth more or less than the multi-task network, of what."""
    baseline = comparison.of(labels, MULTI_TASK)
    found = []
    for method in _scored(comparison, labels) if baseline else []:
        ratios = {}
        for name, word in _COST_WORDS.items():
            usual = _mean_cost(baseline, name) or math.nan
            ratios[word] = _mean_cost(comparison.of(labels, method), name) / usual - 1
        unequal = [f"{word} {_signed(100 * ratio, 0)} %" for word, ratio in ratios.items() if abs(ratio) > WARN_BEYOND]
        if unequal:
            found.append(f"**Not at equal cost**: {method} against {MULTI_TASK}: {', '.join(unequal)}.")
    return found


def _notes(comparison: Comparison, labels: str) -> list[str]:
    """Rows that are missing, and figures that are undefined."""
    rows = [row for row in comparison.rows if row.labels == labels]
    notes = [
        f"{row.method}, seed {row.seed}: {row.state}{': ' * bool(row.reason)}{row.reason}"
        for row in rows
        if not row.done
    ]
    for row in rows:
        undefined = [t.name for t in comparison.tasks if t.name in row.final and math.isnan(headline(t, row.final))]
        if undefined:
            notes.append(f"{row.method}, seed {row.seed}: {', '.join(undefined)} undefined and left out of Δm")
    notes += dict.fromkeys(note for row in rows for note in row.notes)
    return notes + _unseen_classes(rows)


def _unseen_classes(rows: Sequence[Row]) -> list[str]:
    """Classes that a figure leaves out because they occur neither in a label nor in a prediction."""
    unseen: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for task, figures in row.final.items():
            for name, value in figures.items():
                if "/" in name and math.isnan(value):
                    unseen.setdefault((task, name.split("/", 1)[1]), []).append(f"{row.method}, seed {row.seed}")
    return [
        f"{task}: class {name} occurs in no label and no prediction, and is left out of the mean, for "
        + ("every method" if len(where) == sum(row.done for row in rows) else "; ".join(where))
        for (task, name), where in unseen.items()
    ]


def _reading(comparison: Comparison) -> list[str]:
    notes = [
        "A score is the mean over the seeds ± their standard deviation.",
        "Δm is the mean over the tasks of the relative gain of the headline figure, in percent, each seed against the "
        "reference of the same labels and seed; then mean ± standard deviation over the seeds.",
        f"Brackets: 95 % interval of that mean over {DRAWS:,} draws of the scored images with replacement, the same "
        "draws for both sides (paired bootstrap). It takes the trained networks as given: what another seed would "
        "change is not in it, and shows in the spread over the seeds.",
    ]
    if any(row.method == SINGLE_TASK for row in comparison.rows):
        notes.append(
            "Single-task: one network per task, as large as the multi-task network, trained on the images that show "
            "that task, with the batch and as many optimiser steps (to the nearest epoch) as the multi-task "
            "network. Its cost is that of all its networks; its steps are those of one."
        )
    if any(row.method.startswith(FULL) for row in comparison.rows):
        notes.append("full-… sees every label: an upper bound, against the references that see only some.")
    notes.append("Training seconds depend on what else the machine did, also on how many runs shared it.")
    return notes


def comparison_figure(comparison: Comparison) -> str:
    """Δm of every method against single-task networks, or against the multi-task one where there are none."""
    reference = next((r for r in REFERENCES if any(comparison.of(g, r) for g in comparison.groups())), None)
    if reference is None:
        return ""
    panels = {}
    for labels in comparison.groups():
        rows = {}
        for method in comparison.methods():
            gain = comparison.method_gain(labels, method, reference)
            if gain is not None and method != reference:
                before = comparison.method_gain(labels, method, reference, INITIAL)
                rows[method] = Dots(gain.seeds, gain.low, gain.high, before.mean if before else None)
        panels[f"Labels: {labels}"] = rows
    return dotplot(f"Δm against {_WORDS[reference]} networks of the same labels and seed", "% ↑", panels)
