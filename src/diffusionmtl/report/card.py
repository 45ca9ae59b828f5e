"""The model card of a run: what it predicts, from what it learnt, how well, under which licence, and how to load it.

Markdown with a YAML head as the Hugging Face Hub reads it. Nothing is claimed that the run folder does not say.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from diffusionmtl.config import REPRODUCED
from diffusionmtl.report.collect import Run
from diffusionmtl.report.content import Table
from diffusionmtl.report.markup import bullets, plain_text
from diffusionmtl.report.provenance import evaluation_words, partition_words, repeat_command
from diffusionmtl.report.started import Started
from diffusionmtl.report.tables import coverage_table, figure_tables, run_columns
from diffusionmtl.tasks import Task

UNKNOWN_LICENCE = "unknown"
ROOMS = "rooms"
# The hub's words for what a network does; kinds that it has no word for count as image to image.
_HUB_TASKS = {"segmentation": "image-segmentation", "depth": "depth-estimation", "disparity": "depth-estimation"}
_METHODS = {
    "feature": "DiffusionMTL, Feature Diffusion (arXiv 2403.15389)",
    "prediction": "DiffusionMTL, Prediction Diffusion (arXiv 2403.15389)",
    "multitask": "a multi-task network without refinement",
    "singletask": "a single-task network",
    "xtc": "a multi-task network trained with cross-task consistency (XTC)",
}


@dataclass(frozen=True)
class About:
    """What a run folder does not know of itself.

    Attributes:
        name: what the run is called.
        address: what `diffusionmtl.load` takes, `hf://user/name` or `kitchen.zip`.
        licence: of the weights, as the hub abbreviates it.
        data_licence: of the training data, in words.
        started: what was noted when training started.
    """

    name: str
    address: str
    licence: str = UNKNOWN_LICENCE
    data_licence: str = ""
    started: Started | None = None


def model_card(run: Run, about: About) -> str:
    """The whole `README.md`."""
    head = yaml.safe_dump(_head(run, about), sort_keys=False, allow_unicode=True)
    parts = [
        f"# {plain_text(about.name)}",
        _lead(run),
        "## Load it",
        _loading(about),
        "## What it predicts",
        _markdown(_predicted(run.tasks)),
        "## What it learnt from",
        *_data(run),
        "## How well it does",
        *_scores(run),
        "## Licences",
        bullets(_licences(run, about)),
        "## How it was made",
        *_making(run, about),
    ]
    return f"---\n{head}---\n\n" + "\n\n".join(parts) + "\n"


def _head(run: Run, about: About) -> dict[str, Any]:
    kinds = [_HUB_TASKS.get(task.kind, "image-to-image") for task in run.tasks]
    head: dict[str, Any] = {
        "library_name": "diffusionmtl",
        "license": about.licence,
        "pipeline_tag": min(kinds, key=lambda kind: kind == "image-to-image"),
        "tags": ["diffusionmtl", "multi-task-learning", "dense-prediction", *dict.fromkeys(t.kind for t in run.tasks)],
    }
    results = _results(run)
    if results:
        head["model-index"] = [{"name": about.name, "results": results}]
    return head


def _results(run: Run) -> list[dict[str, Any]]:
    """Scores as the hub lists them, each under the name that carries its protocol."""
    metrics = run.metrics
    if metrics is None:
        return []
    data = {"name": " + ".join(metrics.data), "type": "+".join(metrics.data), "split": metrics.split}
    found = []
    for task in run.tasks:
        figures = metrics.final.get(task.name, {})
        scored = {name: value for name, value in figures.items() if "/" not in name and math.isfinite(value)}
        listed = [{"type": name, "name": name, "value": round(value, 6)} for name, value in scored.items()]
        if listed:
            kind = _HUB_TASKS.get(task.kind, "image-to-image")
            found.append({"task": {"type": kind, "name": task.name}, "dataset": dict(data), "metrics": listed})
    return found


def _lead(run: Run) -> str:
    height, width = run.settings.data.size
    many = "one dense output" if len(run.tasks) == 1 else f"{len(run.tasks)} dense outputs"
    return (
        f"Predicts {many} for every pixel of a photograph: {', '.join(task.name for task in run.tasks)}. "
        f"Method: {_METHODS[run.settings.network.method]}; backbone `{plain_text(run.settings.network.backbone)}`; "
        f"trained on pictures of {height} x {width} pixels with `diffusionmtl`."
    )


def _loading(about: About) -> str:
    lines = (
        "import diffusionmtl as dm",
        f"predictor = dm.load({json.dumps(about.address, ensure_ascii=False)})",
        'prediction = predictor("photo.jpg", samples=8)',
    )
    return "\n".join(["```python", *lines, "```"]) + (
        "\n\nWeights are safetensors; loading runs no code from the repository or file."
    )


def _predicted(tasks: Sequence[Task]) -> Table:
    rows = []
    for task in tasks:
        classes: Sequence[str] = getattr(task, "classes", ())
        rows.append((task.name, task.kind, ", ".join(classes) if classes else task.unit, task.headline))
    return Table("", ("task", "kind", "classes or unit", "headline figure"), tuple(rows))


def _data(run: Run) -> list[str]:
    said = [f"Data: {plain_text(', '.join(run.settings.data.data))}."]
    if run.partition is None:
        return [*said, "Which labels training saw is not recorded."]
    said.append(f"Labels that training saw: {plain_text(partition_words(run.partition))}.")
    return [*said, _markdown(coverage_table(run.tasks, run.partition, run.metrics))]


def _scores(run: Run) -> list[str]:
    if run.metrics is None:
        return ["It was not evaluated, so nothing is known of that."]
    tables = figure_tables(run.tasks, run_columns(run.metrics))[:1]
    return [
        f"Scored on {plain_text(evaluation_words(run.metrics))}. A figure's name carries its protocol; figures of one "
        "name on the same data may be compared, others may not.",
        *map(_markdown, tables),
        *([bullets(list(run.metrics.notes))] if run.metrics.notes else []),
        "They hold for this data. How it does on other pictures was not measured.",
    ]


def _licences(run: Run, about: About) -> list[str]:
    stated = about.licence != UNKNOWN_LICENCE
    said = [f"Weights: {about.licence if stated else 'whoever shares them has not said; ask before you use them'}."]
    drawn = set(run.settings.data.data) == {ROOMS}
    rooms = "drawn by diffusionmtl (Apache-2.0), no pictures of anybody"
    said.append(f"Training data: {about.data_licence or (rooms if drawn else 'not stated; ask who published it')}.")
    origin = about.started.backbone if about.started else None
    if origin is not None:
        said.append(f"Pretrained weights: {origin.name}, {origin.licence or 'licence not known'}.")
        if caution := origin.caution():
            said.append(f"Caution: {caution}.")
    elif about.started is None:
        said.append("Pretrained weights: whether any were used was not noted.")
    else:
        said.append("Pretrained weights: none.")
    return said


def _making(run: Run, about: About) -> list[str]:
    lines = [f"Seeds: training {run.settings.train.seed}, labels {run.settings.data.label_seed}."]
    if about.started is not None:
        lines.append(f"Training started {about.started.date} on {about.started.machine}.")
        found = ", ".join(f"{name} {version}" for name, version in about.started.versions.items())
        lines.append(f"Versions: {found}.")
        if about.started.run:
            lines.append(f"It began with the weights of the run '{about.started.run}'.")
    if run.settings.data.reproduce:
        lines.append(f"Reproduced: {REPRODUCED}.")
    command = repeat_command(run.settings, run.folder.root)
    return [bullets(lines), f"```sh\n{command}\n```"]


def _markdown(table: Table) -> str:
    cells = [[_cell(text) for text in row] for row in (table.columns, *table.rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(table.columns), *lines[1:]])


def _cell(text: str) -> str:
    return plain_text(text).replace("|", "\\|")
